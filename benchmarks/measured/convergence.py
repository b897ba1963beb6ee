#!/usr/bin/env python3
"""Trains the models of LASP-2's tables of losses at a small size, and compares
them as the paper does.

    benchmarks/measured/convergence.py FOLDER [--minutes M] [--full]
                                        [--write | --check]

FOLDER keeps the runs: the same command goes on with what is left. Two runs go at
a time, with one thread each. After M minutes, or SIGINT, runs save a checkpoint
and stop. What there is then is printed as Markdown, with what is left out. --write
makes docs/results/convergence.md and its picture of it.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import gzip
import json
import math
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from lab import ROOT, program_of, table  # noqa: E402
from pages import add_options, finish  # noqa: E402

sys.path.append(str(ROOT / "python"))
from ringweave.commands import canvas, draw_runs  # noqa: E402
from ringweave.commands.run_metrics import Run  # noqa: E402

PAGE = ROOT / "docs/results/convergence.md"
PACKAGE, PACKED = "dict-gcide", "usr/share/dictd/gcide.dict.dz"
SEEDS = (1, 2, 3)
AT_A_TIME = 2
# Student's t of two degrees of freedom, 97.5 %: three seeds.
STUDENT = 0.95 / math.sqrt(2 * 0.975 * 0.025)

CONFIG = {
    "format": "ringweave.config", "version": 1,
    "model": {"vocab_size": 258, "hidden": 128, "intermediate": 352,
              "layers": 8, "heads": 4},
    "data": {"seq_len": 512, "batch": 2},
    "optimizer": {"learning_rate": 0.003, "warmup_steps": 50},
    "threads": 1,
    "validation": {"batches": 64},
}
STEPS = 500
CHECKPOINT_STEPS = 50

SOFTMAX, PURE = "softmax", "pure"
PATTERNS = {SOFTMAX: "N", PURE: "L", "1/8": "LLLLLLLN", "1/4": "LLLN", "1/2": "LN"}
# The paper's losses by family and share of softmax layers, Tables 2 and 4, and of
# encoders, Table 3: of training and validation.
PAPER_SOFTMAX = 2.759
TABLE_2 = {"basic": (2.892, 2.824), "lightning": (2.862, 2.758),
           "retention": (2.867, 2.759), "gla": (2.845, 2.754),
           "based": (2.754, 2.751), "rebased": (2.845, 2.787)}
TABLE_4 = {"basic": (2.892, 2.826, 2.824, 2.775),
           "lightning": (2.848, 2.756, 2.750, 2.742),
           "retention": (2.855, 2.757, 2.758, 2.748),
           "gla": (2.845, 2.751, 2.754, 2.753)}
TABLE_3 = {SOFTMAX: (1.815, 1.957), "basic": (1.813, 1.957)}
# Of these there are always all seeds.
ALWAYS = ("basic", "lightning", "gla", "based")
FAMILIES = (*TABLE_2, "mamba2")


@dataclasses.dataclass(frozen=True)
class Model:
    family: str
    share: str
    causal: bool = True

    @property
    def title(self):
        kind = "" if self.causal else "encoder, "
        return kind + (SOFTMAX if self.share == SOFTMAX
                       else f"{self.family}, {self.share}")

    def settings(self):
        yield f"model.pattern={PATTERNS[self.share]}"
        if self.share != SOFTMAX:
            yield f"model.linear.kind={self.family}"
        if not self.causal:
            yield "model.causal=false"


BASELINE = Model(SOFTMAX, SOFTMAX)
ENCODERS = (Model(SOFTMAX, SOFTMAX, causal=False), Model("basic", PURE, causal=False))
REPEATED = [BASELINE, *(Model(family, share) for family in ALWAYS
                        for share in (PURE, "1/4")), *ENCODERS]
ONCE = [*(Model(family, share) for family in FAMILIES if family not in ALWAYS
          for share in (PURE, "1/4")),
        *(Model(family, share) for family in TABLE_4 for share in ("1/8", "1/2"))]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a run gave. Losses in nats: of training the mean over the last tenth
    of the steps."""
    training: float
    validation: float
    parameters: int
    seconds: float
    losses: tuple


class Study:
    """The runs in a folder."""

    def __init__(self, folder, binary, text, steps, full):
        self.folder = pathlib.Path(folder).resolve()
        self.binary = binary
        self.steps = steps
        self.planned = [(model, seed) for seed in SEEDS for model in REPEATED]
        self.planned += [(model, seed) for seed in (SEEDS if full else SEEDS[:1])
                         for model in ONCE]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.text = pathlib.Path(text).resolve() if text else self._corpus()
        self.config = self._same_config()

    def _corpus(self):
        """The dictionary's text, from the Debian package."""
        path = self.folder / "gcide.txt"
        if not path.exists():
            with tempfile.TemporaryDirectory() as folder:
                for command in (["apt-get", "download", PACKAGE],
                                ["sh", "-c", f"dpkg-deb -x {PACKAGE}_*.deb ."]):
                    done = subprocess.run(command, cwd=folder, text=True,
                                          capture_output=True, check=False)
                    if done.returncode != 0:
                        raise SystemExit(f"can't fetch the Debian package {PACKAGE}; "
                                         f"want it, or --text FILE\n{done.stderr}")
                new = path.with_suffix(".new")
                with gzip.open(pathlib.Path(folder) / PACKED) as packed, \
                        open(new, "wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
                new.rename(path)
        return path

    def _same_config(self):
        """The config of all runs; it stays that of the folder."""
        wanted = dict(CONFIG, steps=self.steps,
                      data=dict(CONFIG["data"], files=[str(self.text)]),
                      checkpoint={"every_steps": CHECKPOINT_STEPS, "keep_last": 1})
        path = self.folder / "config.json"
        if path.exists() and json.loads(path.read_text()) != wanted:
            raise SystemExit(f"{path} is of another study (steps, text, or an "
                             "older version); want the same, or another folder")
        path.write_text(json.dumps(wanted, indent=2))
        return path

    def _run_folder(self, model, seed):
        return self.folder / f"{model.title} {seed}".replace("/", "-").replace(
            ", ", "_").replace(" ", "_")

    def _result(self, model, seed):
        """What `train --json` printed; it is there once the run has ended."""
        return self._run_folder(model, seed).with_suffix(".json")

    def left(self):
        return [case for case in self.planned if not self._result(*case).exists()]

    def train(self, seconds):
        """Trains what is left, for so many seconds at most."""
        left = self.left()
        stop = threading.Event()
        deadline = time.monotonic() + seconds
        with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
            runs = [pool.submit(self._train, *case, deadline, stop)
                    for case in left]
            try:
                for number, run in enumerate(
                        concurrent.futures.as_completed(runs), 1):
                    if said := run.result():
                        print(f"{number} of {len(left)}: {said}",
                              file=sys.stderr)
            except KeyboardInterrupt:
                print("stopping: runs save a checkpoint", file=sys.stderr)
            finally:
                stop.set()

    def _train(self, model, seed, deadline, stop):
        """Goes on with a run until it ends, or has to. A line about it if it
        ended."""
        if stop.is_set() or time.monotonic() >= deadline:
            return None
        command = [self.binary, "train", "--config", self.config, "--json",
                   "--run-dir", self._run_folder(model, seed), "--resume", "auto"]
        for setting in (*model.settings(), f"seed={seed}"):
            command += ["--set", setting]
        run = subprocess.Popen(list(map(str, command)), text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)
        while True:
            try:
                printed, said = run.communicate(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                if stop.is_set() or time.monotonic() >= deadline:
                    run.send_signal(signal.SIGTERM)
                    run.communicate()
                    return None
        if run.returncode != 0:
            raise SystemExit(f"{model.title}, seed {seed}: exit code "
                             f"{run.returncode}\n{said}")
        self._result(model, seed).write_text(printed)
        trained = self._read(model, seed)
        return (f"{model.title}, seed {seed}: loss {trained.validation:.4f}, "
                f"{trained.seconds:.0f} s")

    def trained(self, model):
        """Seed -> Trained, of the runs of a model that ended."""
        return {seed: self._read(model, seed) for seed in SEEDS
                if self._result(model, seed).exists()}

    @functools.cache  # a run that ended stays as it is
    def _read(self, model, seed):
        printed = json.loads(self._result(model, seed).read_text())
        run = Run(str(self._run_folder(model, seed)))
        losses = tuple(step["loss"] for step in run.steps)
        return Trained(
            statistics.fmean(losses[-max(1, len(losses) // 10):]),
            # Of a run that was stopped behind its last step, the program that
            # went on printed none.
            run.validations[-1]["loss"], printed["parameters"],
            sum(step["seconds"] for step in run.steps), losses)


# --- statistics ------------------------------------------------------------------


def spread(values):
    """Mean ± standard deviation."""
    text = f"{statistics.fmean(values):.4f}"
    return text + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")


def interval(differences):
    """(mean, half of the 95 % interval); the latter None without all seeds."""
    mean = statistics.fmean(differences)
    if len(differences) < len(SEEDS):
        return mean, None
    return mean, STUDENT * statistics.stdev(differences) / math.sqrt(len(SEEDS))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two models, and by how much the paper's loss in training of the first is
    above that of the second."""
    first: Model
    second: Model
    paper: float

    @property
    def title(self):
        return f"{self.first.title} − {self.second.title}"

    def measured(self, study, loss="training"):
        """interval() of the seeds that both have; None without any. loss: a field
        of Trained."""
        first, second = study.trained(self.first), study.trained(self.second)
        seeds = [seed for seed in first if seed in second]
        if not seeds:
            return None
        return interval([getattr(first[seed], loss) - getattr(second[seed], loss)
                         for seed in seeds])


def comparisons():
    """Those of the paper's tables 2 and 3."""
    for family, (pure, hybrid) in TABLE_2.items():
        first, second = Model(family, PURE), Model(family, "1/4")
        yield Comparison(first, BASELINE, pure - PAPER_SOFTMAX)
        yield Comparison(second, BASELINE, hybrid - PAPER_SOFTMAX)
        yield Comparison(first, second, pure - hybrid)
    yield Comparison(ENCODERS[1], ENCODERS[0],
                     TABLE_3["basic"][0] - TABLE_3[SOFTMAX][0])


def verdict(paper, mean, half):
    """Whether the paper's ordering is that of what was measured."""
    if half is None or abs(mean) <= half:
        return "not decided here"
    if round(paper, 3) == 0:
        return "equal in the paper, not here"
    return "holds" if (mean > 0) == (paper > 0) else "the other way here"


# --- the page --------------------------------------------------------------------


def losses(study):
    rows = []
    for model in REPEATED + ONCE:
        if trained := list(study.trained(model).values()):
            rows.append([
                model.title, len(trained), f"{trained[0].parameters:,}",
                spread([run.training for run in trained]),
                spread([run.validation for run in trained]),
                f"{statistics.median(run.seconds for run in trained) / 60:.1f}"])
    return table(["model", "seeds", "parameters", "training loss",
                  "validation loss", "minutes a run"], rows)


def orderings(study):
    rows = []
    for comparison in comparisons():
        if (found := comparison.measured(study)) is None:
            continue
        rows.append([comparison.title, f"{comparison.paper:+.3f}",
                     difference(*found), verdict(comparison.paper, *found),
                     difference(*comparison.measured(study, "validation"))])
    return table(["difference of losses", "training, paper", "training, here",
                  "the paper's ordering", "validation, here"], rows)


def difference(mean, half):
    return f"{mean:+.4f}" + (f" ± {half:.4f}" if half is not None else "")


SHARES = (PURE, "1/8", "1/4", "1/2")


def shares(study):
    rows = []
    for family, paper in TABLE_4.items():
        rows.append([family + ", paper", *(f"{loss:.3f}" for loss in paper)])
        found = [study.trained(Model(family, share)) for share in SHARES]
        rows.append([family + ", here", *(
            f"{of_share[SEEDS[0]].training:.4f}" if SEEDS[0] in of_share else "–"
            for of_share in found)])
    return table(["softmax layers", *SHARES], rows)


def encoders(study):
    rows = []
    for model in ENCODERS:
        trained = study.trained(model).values()
        if trained:
            training, validation = TABLE_3[model.family]
            rows.append([model.title, f"{training:.3f}",
                         spread([run.training for run in trained]),
                         f"{validation:.3f}",
                         spread([run.validation for run in trained])])
    return table(["model", "training, paper", "here", "validation, paper", "here"],
                 rows)


def left_out(study):
    names = [f"{model.title} (seed {seed})" for model, seed in study.left()]
    if not names:
        return "Nothing that was planned is left out.\n"
    return f"Left out, {len(names)} of {len(study.planned)} runs: " + \
        "; ".join(names) + ".\n"


def report(study):
    """The page's text."""
    data = CONFIG["data"]
    model = CONFIG["model"]
    tokens = study.steps * data["seq_len"] * data["batch"]
    size = study.text.stat().st_size
    ended = [run for case in dict.fromkeys(model for model, _ in study.planned)
             for run in study.trained(case).values()]
    hours = sum(run.seconds for run in ended) / 3600
    source = ("the GNU Collaborative International Dictionary of English, from "
              f"Debian's package `{PACKAGE}`" if study.text.name == "gcide.txt"
              else f"`{study.text.name}`")
    return f"""# Convergence: LASP-2's tables of losses, small

Paper: arXiv 2502.07563, Tables 2, 3 and 4: Linear-Llama3-1B and an encoder, trained on
50 billion tokens. Here models of {model["layers"]} layers of width {model["hidden"]} learn
bytes. So losses are other numbers, and only orderings can be compared.

- Text: {size / 1e6:.1f} MB, {source}; 5 % of it, at its end, are validated on.
- Each run: {study.steps} steps of {data["batch"]} sequences of {data["seq_len"]} tokens,
  {tokens:,} tokens, {tokens / (0.95 * size):.3f} of an epoch; AdamW,
  learning rate {CONFIG["optimizer"]["learning_rate"]} with warm-up and cosine, fp32.
- Seeds {", ".join(map(str, SEEDS))}: a seed gives the order of the data, the same for all models, and
  the first weights.
- {len(ended)} runs, {hours:.1f} hours of one core in all, two runs at a time.
- {left_out(study)}
## Losses

In nats per byte, of encoders per masked byte. Mean ± standard deviation over seeds. Of
training: the mean over the last tenth of the steps. Minutes are of the wall clock, with
whatever else the computer did.

{losses(study)}
## Orderings, Tables 2 and 3

Differences of models with the same seed, so of the same data: mean ± half of the 95 %
interval (Student's t over {len(SEEDS)} seeds). An ordering of the paper holds if 0 is
outside, on the paper's side; models with one seed have no interval, and decide nothing.
Of {len(list(comparisons()))} intervals about one misses the truth by chance.

{orderings(study)}
## Share of softmax layers, Table 4

Losses in training, here of seed {SEEDS[0]} alone.

{shares(study)}
## Encoders, Table 3

{encoders(study)}
![Differences to softmax, losses by share, and the course of training](convergence.svg)

Losses in training. Left: above softmax's, with the 95 % interval; crosses: the paper's.
Middle: by share of softmax layers, one seed. Right: over steps, mean over seeds.

Made by `benchmarks/measured/convergence.py`.
"""


def draw(study):
    figure = canvas.figure(14, 5)
    left, middle, right = figure.subplots(1, 3)
    rows = [comparison for comparison in comparisons()
            if comparison.second in (BASELINE, ENCODERS[0])
            and comparison.measured(study)]
    for place, comparison in enumerate(rows):
        mean, half = comparison.measured(study)
        left.errorbar(mean, -place, xerr=half, fmt="o", color="C0", capsize=3)
        left.plot(comparison.paper, -place, "x", color="C3")
    left.axvline(0, color="gray", linewidth=0.8)
    left.set_yticks([-place for place in range(len(rows))],
                    [comparison.first.title for comparison in rows])
    left.set_xlabel("training loss above softmax's")
    for color, (family, paper) in enumerate(TABLE_4.items()):
        known = [(share, study.trained(Model(family, share)).get(SEEDS[0]))
                 for share in SHARES]
        middle.plot([share for share, run in known if run],
                    [run.training for _, run in known if run], "o-",
                    color=f"C{color}", label=family)
    middle.set_xlabel("share of softmax layers")
    middle.set_ylabel("training loss")
    for model in REPEATED:
        runs = list(study.trained(model).values())
        if model.causal and runs:
            course = [statistics.fmean(step)
                      for step in zip(*(run.losses for run in runs))]
            right.plot(range(1, len(course) + 1), draw_runs.means(course, 20),
                       label=model.title, linewidth=1)
    right.set_xlabel("step")
    right.set_ylabel("training loss, means of 20 steps")
    right.set_yscale("log")
    for panel in (middle, right):
        panel.legend(fontsize="small")
    for panel in (left, middle, right):
        panel.grid(alpha=0.3)
    return figure


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=math.inf, metavar="M",
                        help="train for so long at most; 0: report alone")
    parser.add_argument("--full", action="store_true",
                        help="all models with all seeds; else families and shares "
                        "beside those that are compared have one")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N",
                        help=f"of each run; default: {STEPS}")
    parser.add_argument("--text", metavar="FILE",
                        help=f"in place of the Debian package {PACKAGE}")
    add_options(parser, PAGE.relative_to(ROOT))
    options = parser.parse_args()
    study = Study(options.folder, program_of(parser), options.text, options.steps,
                  options.full)
    study.train(60 * options.minutes)
    text = report(study)
    print(text, end="")
    finish(text, PAGE, options)
    if options.write:
        draw(study).savefig(PAGE.with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
