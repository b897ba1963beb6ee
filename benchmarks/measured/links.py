#!/usr/bin/env python3
"""Measures on links that tools/fabric makes, and prints docs/results/links.md's
tables.

    benchmarks/measured/links.py [PART…] [--save FOLDER] [--repeat N]

Without a PART all are measured, in about half an hour, on a computer that should
do nothing else. FOLDER keeps what the program printed: one JSON file per command,
which is not run again while its file is there: use a new one for another build. The
release preset must be built,
or RINGWEAVE_BINARY and RINGWEAVE_LIBRARY name another.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from lab import ROOT, program_of, table
from machines import MESH_4, Bench, Fabric, ms

# The largest error of a prediction that needs no explanation.
EXPLAIN = 0.10
# How far from the fastest strategy the planner's may be.
NEAR = 0.05
# What the planner takes for so much slower than its choice is not measured.
HOPELESS = 1.5


MESH_8 = Fabric("mesh of 8, 100 Mbit/s", "mesh:ranks=8", 8, 100)
NODES = Fabric("2 nodes of 4, 400 Mbit/s inside, NICs of 100 Mbit/s",
                "two_level:ranks=8,nodes=2,rate=4e9,nic=1e9", 8, 400)
SLOW = Fabric("mesh of 4, 400 Mbit/s, one link at a quarter", "mesh:ranks=4",
               4, 400, "--slow", "0-1=0.25")


# --- transfers alone -------------------------------------------------------------

MIB = 1 << 20
KEYS = [
    (MESH_4, 32 * MIB, "ring,multi_ring,time_varying_multi_ring,direct,all_gather"),
    (MESH_8, 8 * MIB, "ring,multi_ring,direct,all_gather"),
    (NODES, 8 * MIB, "ring,multi_ring,direct,double_ring:nodes=2,paths:nodes=2,"
                     "hierarchical:nodes=2,synthesised"),
    (SLOW, 8 * MIB, "ring,multi_ring,direct,all_gather,rings,synthesised"),
]


def keys(bench, machine, size, strategies):
    return bench.bench(machine, "exchange", "--shard-bytes", size, "--strategy",
                       strategies)["cases"]


def exchange(bench):
    """Keys and values, by strategy."""
    text = ""
    for machine, size, strategies in KEYS:
        cases = keys(bench, machine, size, strategies)
        rows = []
        for forward, backward in zip(cases[::2], cases[1::2]):
            row = [forward["name"]]
            for case in (forward, backward):
                assert case["pass"] == ("forward" if case is forward
                                        else "backward")
                row += [ms(case["seconds"]),
                        f"{case['over_bare']['median']:.3f}",
                        f"{case['over_bound']:.3f}",
                        f"{1 / case['predicted_over_measured']:.3f}"]
            rows.append(row)
        text += f"\n## {machine.title}, C = {size // MIB} MiB\n\n" + table(
            ["strategy"] + [f"{step}{column}" for step in ("forward", "backward")
                            for column in (", ms", " / bare", " / bound",
                                           " / predicted")], rows)
    return text


STATE_SIZES = [64 << 10, MIB, 4 * MIB]
WAYS = ("chain,pipelined_chain,log_step,sharded_scan,all_gather,all_gather:ring,"
        "all_gather:multi_ring")


def states(bench):
    """States of linear layers, by exchange and size."""
    rows = []
    for machine in (MESH_4, MESH_8, NODES):
        cases = bench.bench(
            machine.for_small_messages(), "exchange", "--exchange", WAYS, "--state-bytes",
            ",".join(map(str, STATE_SIZES)), "--only", "forward")["cases"]
        for way in WAYS.split(","):
            row = [machine.title, way]
            for case in cases:
                if case["name"] == way:
                    row += [f"{1e3 * case['seconds']['median']:.1f}",
                            f"{1 / case['predicted_over_measured']:.3f}"]
            rows.append(row)
    head = ["machine", "exchange"]
    for size in STATE_SIZES:
        head += [f"{size >> 10} KiB, ms", "/ predicted"]
    return "\n## States of linear layers, forward\n\n" + table(head, rows)


# --- with computing --------------------------------------------------------------

HEADS, HEAD_DIM = 8, 64
TOKEN_BYTES = 2 * HEADS * HEAD_DIM * 4  # of keys and values in fp32


def attention(bench, machine, seq_len, strategies, flops, *more):
    """Attention whose computing takes what `flops` per second and rank say."""
    return bench.bench(
        machine, "attention", "--compute", "emulate", "--device-table",
        f"custom:rate={flops:.6g},efficiency=1", "--seq-len", seq_len, "--heads",
        HEADS, "--head-dim", HEAD_DIM, "--strategy", strategies, *more)


def causal_flop(seq_len, ranks):
    """Of a rank's forward pass."""
    return 4 * HEAD_DIM * HEADS * seq_len * (seq_len + 1) / 2 / ranks


EMULATED = [(MESH_4, 32768), (MESH_8, 16384)]
RATIOS = [("1 : 4", 0.25), ("1 : 1", 1), ("4 : 1", 4)]


def flops_of(machine, seq_len, ratio):
    """Per second and rank: a causal pass takes `ratio` times as long as a shard
    on a link."""
    shard = seq_len // machine.ranks * TOKEN_BYTES
    return causal_flop(seq_len, machine.ranks) / (
        ratio * shard / machine.bytes_per_second)


def emulated(bench, machine, seq_len, ratio):
    flops = flops_of(machine, seq_len, ratio)
    return attention(bench, machine, seq_len, "multi_ring,direct", flops)["cases"]


def overlap(bench):
    """Attention with emulated computing."""
    rows = []
    for machine, seq_len in EMULATED:
        for title, ratio in RATIOS:
            for case in emulated(bench, machine, seq_len, ratio):
                rows.append([
                    machine.title, title, case["name"], case["pass"],
                    *(f"{1e3 * case[part + '_seconds']:.0f}"
                      for part in ("compute", "transfer", "overlapped")),
                    ms(case["seconds"]), f"{case['over_overlapped']:.3f}",
                    f"{1 / case['predicted_over_measured']:.3f}"])
    return "\n## Attention, computing emulated\n\n" + table(
        ["machine", "compute : transfer", "strategy", "pass", "compute, ms",
         "transfer, ms", "overlapped, ms", "measured, ms", "/", "/ predicted"],
        rows)


# A state of 128 KiB in each of two segments a rank.
LINEAR_TOKENS = {MESH_4: 16384, NODES: 16384}
LINEAR_RATIO = 1


def linear_flops(machine, seq_len, ratio):
    """Per second and rank: what is computed within chunks takes `ratio` times as
    long as a rank's states on a link."""
    within = HEADS * seq_len / machine.ranks * 64 * 2 * HEAD_DIM
    states = 2 * HEADS * HEAD_DIM * HEAD_DIM * 4
    return within / (ratio * states / machine.bytes_per_second)


def linear_cases(bench, machine, seq_len):
    flops = linear_flops(machine, seq_len, LINEAR_RATIO)
    return bench.bench(
        machine.for_small_messages(), "linear", "--compute", "emulate",
        "--device-table", f"custom:rate={flops:.6g},efficiency=1", "--seq-len", seq_len,
        "--heads", HEADS, "--head-dim", HEAD_DIM, "--exchange", WAYS)["cases"]


def linear(bench):
    """Linear attention with emulated computing."""
    rows = []
    for machine, seq_len in LINEAR_TOKENS.items():
        for case in linear_cases(bench, machine, seq_len):
            rows.append([machine.title, case["name"], case["pass"],
                         *(f"{1e3 * case[part + '_seconds']:.1f}"
                           for part in ("compute", "transfer", "overlapped")),
                         f"{1e3 * case['seconds']['median']:.1f}",
                         f"{case['over_overlapped']:.3f}",
                         f"{1 / case['predicted_over_measured']:.3f}"])
    return "\n## Linear attention, computing emulated\n\n" + table(
        ["machine", "exchange", "pass", "compute, ms", "transfer, ms",
         "overlapped, ms", "measured, ms", "/", "/ predicted"], rows)


# Shapes and machines that the planner chooses for.
GQA = ["--kv-heads", "1"]
FULL = ["--mask", "full"]
WINDOW = ["--mask", '{"kind": "causal", "window": {"left": 2047}}']
SWITCH = Fabric("switch of 4, 400 Mbit/s", "switch:ranks=4", 4, 400)
SHAPES = [
    ("causal, little computing", MESH_4, 8192, 0.1, []),
    ("causal, computing as long", MESH_4, 8192, 1, []),
    ("causal, one kv head", MESH_4, 16384, 0.1, GQA),
    ("full, little computing", MESH_8, 8192, 0.1, FULL),
    ("causal, little computing", NODES, 8192, 0.1, []),
    ("causal, little computing", SLOW, 8192, 0.1, []),
    ("causal, computing as long", SWITCH, 8192, 1, []),
    ("causal, window of 2048", MESH_4, 16384, 0.1, WINDOW),
]


def sums(cases):
    """Seconds of both passes, by strategy."""
    totals = {}
    for case in cases:
        totals[case["name"]] = (totals.get(case["name"], 0)
                                + case["seconds"]["median"])
    return totals


def choice(bench):
    """The planner's choice beside all strategies, measured."""
    rows = []
    for title, machine, seq_len, ratio, more in SHAPES:
        flops = flops_of(machine, seq_len, ratio)
        plan = bench.plan(
            machine, "--seq-len", seq_len, "--heads", HEADS, "--head-dim",
            HEAD_DIM, "--compute", "float32", "--device-table",
            f"custom:rate={flops:.6g},efficiency=1", *more)["softmax"]
        seconds = {candidate["name"]: candidate["forward"]["seconds"]
                   + candidate["backward"]["seconds"]
                   for candidate in plan["candidates"]
                   if candidate["verdict"] not in ("not executable",
                                                   "impossible")}
        names = [name for name in seconds
                 if seconds[name] <= HOPELESS * seconds[plan["chosen"]]]
        times = sums(attention(bench, machine, seq_len, ",".join(names), flops,
                               *more)["cases"])
        best = min(times, key=times.get)
        over = times[plan["chosen"]] / times[best]
        rows.append([title, machine.title, seq_len,
                     f"{len(names)} of {len(seconds)}", plan["chosen"],
                     f"{1e3 * times[plan['chosen']]:.0f}", best,
                     f"{1e3 * times[best]:.0f}",
                     f"{over:.3f}" + ("" if over <= 1 + NEAR else " !")])
    return "\n## The planner's choice\n\n" + table(
        ["shape", "machine", "tokens", "strategies", "planned", "ms", "fastest",
         "ms", "planned / fastest"], rows)


# --- training steps --------------------------------------------------------------

MODEL = ["model", "--config", ROOT / "configs/quickstart.json", "--seq-len",
         "2048", "--set", "data.batch=4"]
STEPS = [
    (MESH_4, ["--softmax", "ring,multi_ring,direct", "--linear",
              "chain,all_gather"]),
    (NODES, ["--softmax", "ring,hierarchical:nodes=2", "--linear", "all_gather"]),
    (NODES, ["--softmax", "ring,multi_ring", "--linear", "all_gather", "--set",
             "parallel.data=2"]),
]
# Of a rank; a step's products take about as long as its messages.
STEP_FLOPS = 2e11


def steps(bench, *options):
    """Cases by machine and number of groups."""
    for machine, more in STEPS:
        groups = 2 if "parallel.data=2" in more else 1
        for case in bench.bench(machine, *MODEL, *more, *options,
                                topology=groups == 1)["cases"]:
            yield machine, groups, case


def optional(case, field):
    return f"{1e3 * case[field]:.0f}" if field in case else "-"


def model(bench):
    """Training steps of the hybrid model of the quickstart."""
    rows = []
    losses = []
    for machine, groups, case in steps(bench):
        losses.append(case["loss"])
        rows.append([
            machine.title, groups, case["softmax"], case["linear"],
            *(f"{1e3 * case[part + '_seconds']['median']:.0f}" for part in
              ("compute", "softmax_waiting", "linear_waiting",
               "gradient_waiting", "other_waiting", "optimizer")),
            optional(case, "bare_seconds"), optional(case, "bound_seconds"),
            ms(case["seconds"]), f"{case['tokens_per_second']:.0f}",
            f"{case['peak_memory_bytes'] / 1e6:.0f}",
            f"{100 * case['processor_share']:.0f} %"])
    text = (
        "\n## A training step\n\n" + table(
            ["machine", "groups", "softmax", "linear", "compute, ms", "softmax",
             "linear", "gradients", "other", "optimizer", "bare", "bound",
             "step, ms", "tokens/s", "MB per rank", "processor"], rows)
        + f"\nLosses differ by {max(losses) - min(losses):.1e} at most.\n")
    rows = []
    for machine, groups, case in steps(
            bench, "--compute", "emulate", "--device-table",
            f"custom:rate={STEP_FLOPS:.6g},efficiency=1"):
        rows.append([
            machine.title, groups, case["softmax"], case["linear"],
            *(f"{1e3 * case[part + '_seconds']['median']:.0f}" for part in
              ("compute", "softmax_waiting", "linear_waiting",
               "gradient_waiting")),
            ms(case["seconds"]), optional(case, "predicted_seconds"),
            f"{1 / case['predicted_over_measured']:.3f}"
            if "predicted_seconds" in case else "-"])
    return text + "\n### Computing emulated\n\n" + table(
        ["machine", "groups", "softmax", "linear", "compute, ms", "softmax",
         "linear", "gradients", "step, ms", "predicted", "/ predicted"], rows)


# --- predictions -----------------------------------------------------------------

def errors(bench):
    """All predictions of what the other parts measured."""
    errors = {"simulator": [], "cost model": []}
    far = []

    def add(machine, cases):
        for case in cases:
            measured = case["seconds"]["median"]
            for model, field in (("simulator", "predicted_seconds"),
                                 ("cost model", "cost_model_seconds")):
                if field not in case:
                    continue
                error = case[field] / measured - 1
                errors[model].append(abs(error))
                if abs(error) > EXPLAIN:
                    far.append([machine.title, case["name"], case["pass"],
                                case["bytes"], model, f"{100 * error:+.1f} %"])

    for machine, size, strategies in KEYS:
        add(machine, keys(bench, machine, size, strategies))
    for machine, seq_len in EMULATED:
        for _, ratio in RATIOS:
            add(machine, emulated(bench, machine, seq_len, ratio))
    rows = [[model, len(all_of_it), f"{100 * statistics.median(all_of_it):.1f} %",
             f"{100 * max(all_of_it):.1f} %",
             sum(error > EXPLAIN for error in all_of_it)]
            for model, all_of_it in errors.items()]
    text = "\n## Errors of predictions\n\n" + table(
        ["prediction", "rows", "median", "most", f"above {EXPLAIN:.0%}"], rows)
    if far:
        text += "\n" + table(["machine", "strategy", "pass", "bytes",
                              "prediction", "error"], far)
    return text


PARTS = {part.__name__: part for part in (exchange, states, overlap, linear,
                                          choice, model, errors)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART",
                        help="; ".join(f"{name}: {part.__doc__}"
                                       for name, part in PARTS.items()))
    parser.add_argument("--save", metavar="FOLDER")
    parser.add_argument("--repeat", type=int, default=3, metavar="N")
    arguments = parser.parse_args()
    for part in arguments.parts:
        if part not in PARTS:
            parser.error(f"got {part}; want {', '.join(PARTS)}")
    binary = program_of(parser)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments.save or folder, arguments.repeat, binary)
        for part in arguments.parts or PARTS:
            print(PARTS[part](bench), flush=True)


if __name__ == "__main__":
    main()
