#!/usr/bin/env python3
"""The papers' machines with the schedules, masks, heads and passes that the
papers leave out."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from lab import main, milliseconds, table  # noqa: E402

NAME = "strategies"

FLOPS = 400e12
HEADS, HEAD_DIM = 64, 128
SHARD_TOKENS = 8192
MACHINES = {"8xMI300X": 8, "dgx-h100:nodes=2": 16, "dgx-h100:nodes=4": 32}
WITH_COMPUTATION = ["8xMI300X", "dgx-h100:nodes=2"]


def strategies(ranks):
    common = ["ring", "multi_ring", "direct", "all_gather"]
    if ranks == 8:
        return common
    nodes = ranks // 8
    return common + [
        f"paths:nodes={nodes}", f"double_ring:nodes={nodes}",
        *(f"hierarchical:nodes={nodes},slices={slices},inner=multi_ring"
          for slices in (1, 4, 8))]


def run(lab, machine, strategy, flops, kv_heads, backward):
    return lab.simulate(machine, strategy, flops, backward=backward,
                        seq_len=SHARD_TOKENS * MACHINES[machine], heads=HEADS,
                        head_dim=HEAD_DIM, kv_heads=kv_heads, mask="causal",
                        layout="zigzag")


def transfers_text(lab, machine):
    lines = []
    for strategy in strategies(MACHINES[machine]):
        forward, backward = (run(lab, machine, strategy, None, HEADS, way)
                             for way in (False, True))
        lines.append((strategy, milliseconds(forward["seconds"]),
                      f"{forward['seconds'] / forward['transfer_bound_seconds']:.2f}",
                      milliseconds(backward["seconds"])))
    return table(("strategy", "forward, ms", "over the bound", "backward, ms"),
                 lines)


def whole_text(lab, machine):
    lines = []
    for strategy in strategies(MACHINES[machine]):
        cells = []
        for kv_heads in (HEADS, HEADS // 8):
            for backward in (False, True):
                done = run(lab, machine, strategy, FLOPS, kv_heads, backward)
                cells.append(f"{milliseconds(done['seconds'])} "
                             f"({done['seconds'] / done['compute_seconds']:.2f})")
        lines.append((strategy, *cells))
    return table(("strategy", "64:64, forward", "64:64, backward",
                  "64:8, forward", "64:8, backward"), lines)


def machine_text(lab, machine):
    text = f"""## {machine}

Transfers alone, {HEADS}:{HEADS}:

{transfers_text(lab, machine)}"""
    if machine in WITH_COMPUTATION:
        text += f"""
With computation, in ms; in brackets over the computation alone:

{whole_text(lab, machine)}"""
    return text


def report(lab):
    machines = "\n".join(machine_text(lab, machine) for machine in MACHINES)
    return f"""# What the papers leave out: backward, GQA, hierarchical

Simulated, nothing measured. Causal mask, zigzag, bf16 with gradients in fp32,
{SHARD_TOKENS:,} tokens per rank, {HEADS} query heads of {HEAD_DIM}, {HEADS} or {HEADS // 8} of keys
and values, attention at {FLOPS / 1e12:.0f} TFLOP/s on every machine, no latency, no cost
per message. The bound is that of bringing the keys that a rank needs
(docs/algorithms.md); gradients have none.

{machines}
- Forward on the full mesh, all but ring are at the bound. In backward all-gather
  sends least, because it keeps all keys and values from forward (n shards of
  memory), direct sends them again, and walks add gradients on the way.
- Over nodes, what crosses the NICs decides: hierarchical and double ring send no
  byte over them twice, paths (n - 1)/8 shards, K_n and direct n - 8. Slices shorten
  forward's tail; backward on four nodes keeps the NICs busy with any number.
- With computation at this length, everything that is not a flat ring, an
  all-gather or a flood of NICs hides fully, forward and backward.
- GQA 8:1 divides all transfers by 8 and leaves the computation: then a flat ring
  hides too, and only all-gather, which computes after its transfers, does not.
"""


if __name__ == "__main__":
    main(report)
