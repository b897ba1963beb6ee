#!/usr/bin/env python3
"""Measures training steps of LASP-2's rivals: Ring, LASP, LASP-2 and what is
faster, and prints docs/results/step-time.md.

    benchmarks/measured/step_time.py [--save FOLDER] [--repeat N] [--write | --check]

Takes about a quarter of an hour, on a computer that should do nothing else. FOLDER
keeps what the program printed, one JSON file per command, which is not run again
while its file is there. The release preset must be built, or RINGWEAVE_BINARY and
RINGWEAVE_LIBRARY name another.
"""

import argparse
import dataclasses
import pathlib
import sys
import tempfile

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from lab import ROOT, program_of, table
from machines import MESH_4, Bench, Fabric, Processes, Threads
from pages import add_options, finish

PAGE = ROOT / "docs/results/step-time.md"
NODES = Fabric("2 nodes of 2, 400 Mbit/s inside, NICs of 100 Mbit/s",
               "two_level:ranks=4,nodes=2,rate=4e9,nic=1e9", 4, 400)
MACHINES = [Threads(2), Processes(2), MESH_4, NODES]
# Of models without softmax layers the last too, where those with them take minutes.
LENGTHS = (2048, 8192, 32768)
SETTINGS = ["data.batch=1", "model.linear.kind=basic"]


@dataclasses.dataclass(frozen=True)
class Model:
    """A model, and what `bench model` runs of it."""
    title: str
    pattern: str
    layout: str
    exchanges: tuple

    @property
    def lengths(self):
        return LENGTHS[:-1] if "N" in self.pattern else LENGTHS


PURE = Model("pure", "L", "contiguous", (
    "--linear", "chain,all_gather,pipelined_chain,sharded_scan,log_step"))
HYBRID = Model("1/4", "LLLN", "zigzag", (
    "--softmax", "multi_ring", "--linear", "all_gather"))
SOFTMAX = Model("softmax", "N", "zigzag", (
    "--softmax", "ring,multi_ring,direct,all_gather"))
MODELS = (SOFTMAX, PURE, HYBRID)
# The names of the paper.
NAMES = {("softmax", "ring", ""): "Ring", ("pure", "", "chain"): "LASP",
         ("pure", "", "all_gather"): "LASP-2",
         ("1/4", "multi_ring", "all_gather"): "LASP-2H"}
# GPUs, tokens: speed over Ring of LASP-2 and LASP-2H, and of LASP-2 over LASP.
# Table 2, and the comparison of speeds.
PAPER = [("8 A100, Table 2", "16K", 17834.3 / 16549.5, 17394.7 / 16549.5, None),
         ("64 A100", "512K", 1.178, None, 1.073),
         ("64 A100", "2048K", 1.366, None, 1.152)]
PARTS = ("compute", "softmax_waiting", "linear_waiting", "gradient_waiting",
         "other_waiting", "optimizer")


def measure(bench, machine):
    """(model, case of `bench model`) of all models there."""
    for model in MODELS:
        settings = [word for setting in (
            *SETTINGS, f"model.pattern={model.pattern}",
            f"parallel.layout={model.layout}") for word in ("--set", setting)]
        lengths = ",".join(map(str, model.lengths))
        printed = bench.bench(
            machine, "model", "--config", ROOT / "configs/quickstart.json",
            *settings, *model.exchanges, "--seq-len", lengths, topology=False)
        for case in printed["cases"]:
            yield model, case


def name(model, case):
    """The paper's, or what the case is."""
    exchanges = case["softmax"], case["linear"]
    return (NAMES.get((model.title, *exchanges))
            or ", ".join([model.title, *filter(None, exchanges)]))


def ratios(slow, fast):
    """How much faster `fast` is: by medians, and by the ends of the spreads."""
    above, below = slow["seconds"], fast["seconds"]
    return (above["median"] / below["median"], above["min"] / below["max"],
            above["max"] / below["min"])


def ratio(slow, fast):
    if slow is None or fast is None:
        return "–"
    return "{:.2f} ({:.2f}–{:.2f})".format(*ratios(slow, fast))


def fastest(cases):
    return min(cases, key=lambda case: case["seconds"]["median"], default=None)


def named_cases(cases, length):
    return {name(model, case): case for model, case in cases
            if case["seq_len"] == length}


def summary(measured, rival, method):
    """Over all machines and lengths, where both were measured."""
    found = []
    for cases in measured.values():
        for length in LENGTHS:
            named = named_cases(cases, length)
            if rival in named and method in named:
                found.append(ratios(named[rival], named[method]))
    medians = [median for median, _, _ in found]
    apart = sum(least > 1 or most < 1 for _, least, most in found)
    return (f"- {method} makes {min(medians):.2f} to {max(medians):.2f} times the "
            f"tokens per second of {rival};\n  1 is outside of the spread in {apart} "
            f"of {len(found)} cases.")


def speeds(measured):
    """Beside the paper's."""
    rows = [[machine, tokens, *(f"{speed:.3f}" if speed else "–"
                                for speed in (ring, hybrid, lasp)), *"––––"]
            for machine, tokens, ring, hybrid, lasp in PAPER]
    for machine, cases in measured.items():
        for length in LENGTHS:
            here = [(model, case) for model, case in cases
                    if case["seq_len"] == length]
            named = named_cases(cases, length)
            ring, lasp, lasp_2 = map(named.get, ("Ring", "LASP", "LASP-2"))
            best = [fastest([case for model, case in here if model is kind])
                    for kind in (PURE, SOFTMAX)]
            rows.append([
                machine, f"{length:,}", ratio(ring, lasp_2),
                ratio(ring, named.get("LASP-2H")), ratio(lasp, lasp_2),
                *faster(best[0], lasp_2, "linear"),
                *faster(best[1], ring, "softmax")])
    return table(["machine", "tokens", "LASP-2 / Ring", "LASP-2H / Ring",
                  "LASP-2 / LASP", "fastest exchange of states", "/ LASP-2",
                  "fastest of softmax", "/ Ring"], rows)


def faster(best, rival, layers):
    """Its name, and how much faster it is."""
    if best is None:
        return "–", "–"
    return best[layers], "–" if best is rival else ratio(rival, best)


def shares(cases):
    """Where the time of each step goes, on one machine."""
    rows = []
    for model, case in cases:
        seconds, tokens = case["seconds"], case["seq_len"]
        rows.append([
            name(model, case), f"{tokens:,}",
            f"{tokens / seconds['median']:.0f} "
            f"({tokens / seconds['max']:.0f}–{tokens / seconds['min']:.0f})",
            *(f"{100 * case[part + '_seconds']['median'] / seconds['median']:.0f} %"
              for part in PARTS),
            f"{case['bytes_sent'] / 1e6:.2f}",
            f"{100 * case['processor_share']:.0f} %"])
    return table(["method", "tokens", "tokens/s", "compute", "softmax", "linear",
                  "gradients", "other", "optimizer", "MB sent", "processor"], rows)


def loss_difference(measured):
    """The most by which losses of one model and length differ."""
    losses = {}
    for cases in measured.values():
        for model, case in cases:
            losses.setdefault((model.title, case["seq_len"]), []).append(
                case["loss"])
    return max(max(of) - min(of) for of in losses.values())


def report(bench):
    measured = {machine.title: list(measure(bench, machine))
                for machine in MACHINES}
    parts = "\n".join(f"### {machine}\n\n{shares(cases)}"
                      for machine, cases in measured.items())
    return f"""# Training steps: Ring, LASP and LASP-2

Paper: arXiv 2502.07563. Here `bench model` runs the model of `configs/quickstart.json`
with one sequence per step: 4 layers of width 128, 4 heads, basic linear attention; pure,
with 1/4 softmax layers, or softmax alone. All on one computer with two cores; release
build, medians of {bench.repeat} steps with their spread.

- **Ring**: softmax attention, keys and values on one ring, zigzag.
- **LASP**: linear attention, states along a chain. **LASP-2**: in one all-gather.
- **LASP-2H**: 1/4 of the layers softmax, by multi_ring; the others as LASP-2.
- **Machines**: threads, or processes on loopback, with a core per rank; or
  processes on links that the kernel holds to their rate ([fabric.md](../fabric.md)), where
  two ranks share a core.

The paper's Ring ran linear attention in softmax's order. Ring here is a softmax model, as
in the paper's Table 2: its work grows with the square of the length.

## What it finds

{summary(measured, "LASP", "LASP-2")}
{summary(measured, "Ring", "LASP-2")}
{summary(measured, "Ring", "LASP-2H")}

## Speed

How many times more tokens per second, by medians, and by the ends of both spreads. The
fastest is the one with the least median of {bench.repeat} steps among these, so its lead
is a little flattered.

{speeds(measured)}
## Parts of a step

Medians of parts over the median of the step, means over ranks: waits for keys and values (softmax), for states
(linear), for gradients, others ([benchmarks.md](../benchmarks.md#bench-model)). With more
ranks than cores a rank without a core lets others wait.

{parts}
Losses of one model and length differ by {loss_difference(measured):.1e} at most, over all
exchanges, ranks and machines.

Made by `benchmarks/measured/step_time.py`.
"""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", metavar="FOLDER")
    parser.add_argument("--repeat", type=int, default=5, metavar="N")
    add_options(parser, PAGE.relative_to(ROOT))
    options = parser.parse_args()
    binary = program_of(parser)
    with tempfile.TemporaryDirectory() as folder:
        text = report(Bench(options.save or folder, options.repeat, binary))
    print(text, end="")
    finish(text, PAGE, options)


if __name__ == "__main__":
    main()
