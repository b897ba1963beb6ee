"""python -m ringweave plot: runs or results of benchmarks as a picture."""

import os

from ringweave.commands import draw_benches, draw_runs
from ringweave.commands.bench_results import Bench, read
from ringweave.commands.common import (
    Fault, Parser, check_apart, check_output, positive, readable, replaced,
    writing)

DESCRIPTION = """\
Draws loss, tokens per second and the share of time spent waiting, of one run or
of several.

  python -m ringweave plot runs/first
  python -m ringweave plot runs/first runs/second --out both.svg --smooth 20

RUN is the folder of a run, or its metrics.jsonl. A run may be under way.

Draws times or ratios that a benchmark measured, on one machine or on several.

  ringweave bench exchange --json > exchange.json
  python -m ringweave plot exchange.json

BENCH is a file of what `ringweave bench … --json` printed."""

FORMATS = (".png", ".svg")


def arguments_from(words):
    parser = Parser("plot", DESCRIPTION)
    parser.add_argument("files", nargs="+", metavar="RUN|BENCH")
    parser.add_argument("--out", metavar="FILE",
                        help="a .png or .svg, replaced if it exists (plot.png "
                        "in the run's folder, a .png beside the benchmark; of "
                        "several, or of a pipe, plot.png in this folder)")
    parser.add_argument("--x", choices=("step", "seconds"),
                        help="runs over steps, or over the seconds that steps "
                        "took (step)")
    parser.add_argument("--smooth", type=positive, metavar="N",
                        help="draw means over the last N steps of runs, and "
                        "the steps themselves faintly; validation stays as it "
                        "is (1)")
    return parser.parse_args(words)


def main(words):
    arguments = arguments_from(words)
    runs, benches = _read(arguments.files)
    out = arguments.out or _default_out(runs, benches)
    suffix = os.path.splitext(out)[1].lower()
    if suffix not in FORMATS:
        raise Fault(f"got --out {out}; want a name that ends with "
                    f"{' or '.join(FORMATS)}")
    check_output(out)
    check_apart(out, [given.path for given in runs + benches])
    if benches:
        for option in ("x", "smooth"):
            if getattr(arguments, option) is not None:
                raise Fault(f"got --{option} and {benches[0].path}, a "
                            "benchmark; want a run")
        picture = draw_benches.draw(benches)
    else:
        picture = draw_runs.draw(runs, arguments.x or "step",
                                 arguments.smooth or 1)
    with writing(out), replaced(out) as aside:
        # Without a date: the same files give the same picture.
        picture.savefig(aside, format=suffix[1:], dpi=150, metadata={
            "Date": None} if suffix == ".svg" else None)
    print(readable(out))


def _read(files):
    """(runs, benches), of which one is empty and the other of one kind."""
    runs, benches = [], []
    for file in files:
        given = read(file)
        (benches if isinstance(given, Bench) else runs).append(given)
    if runs and benches:
        raise Fault(f"got {runs[0].given}, a run, and {benches[0].path}, a "
                    "benchmark; want only runs or only benchmarks")
    for bench in benches[1:]:
        if bench.title != benches[0].title:
            raise Fault(f"got {benches[0].path} of bench {benches[0].title} "
                        f"and {bench.path} of bench {bench.title}; want one "
                        "benchmark")
    return runs, benches


def _default_out(runs, benches):
    first, *more = runs + benches
    if more or not os.path.isfile(first.path):  # nothing lies beside a pipe
        return "plot.png"
    if runs:
        return os.path.join(runs[0].folder, "plot.png")
    return os.path.splitext(benches[0].path)[0] + ".png"
