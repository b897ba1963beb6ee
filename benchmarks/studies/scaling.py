#!/usr/bin/env python3
"""From 8 to 1024 ranks by closed forms."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from lab import main, milliseconds, table  # noqa: E402

NAME = "scaling"

NODES = [1, 2, 4, 8, 16, 32, 64, 128]
SHARD_TOKENS = 8192
SHAPE = ["--heads", 64, "--kv-heads", 8, "--head-dim", 128, "--compute",
         "bfloat16", "--layers", 2, "--pattern", "LN", "--linear", "lightning"]
MESSAGE_SECONDS = 3e-6
NO_COMPUTE = "custom:rate=1e24"


def planned(lab, nodes, device_table, overhead=MESSAGE_SECONDS):
    return lab.call("plan", "--topology", f"dgx-h100:nodes={nodes}", *SHAPE,
                    "--seq-len", SHARD_TOKENS * 8 * nodes, "--device-table",
                    device_table, "--message-overhead", overhead)


def forward(layers, name):
    """Seconds of a candidate, or None. Of pipelined chains there is one, with the
    number of strands that is best."""
    for one in layers["candidates"]:
        found = one["name"]
        if found.startswith("pipelined_chain"):
            found = "pipelined_chain"
        if found == name and one["verdict"] != "impossible":
            return one["forward"]["seconds"]
    return None


def cell(seconds):
    return "–" if seconds is None else milliseconds(seconds)


def softmax_names(nodes):
    return ["ring", "multi_ring", "direct:8", f"paths:nodes={nodes}",
            f"double_ring:nodes={nodes}",
            f"hierarchical:nodes={nodes},slices=1,inner=multi_ring",
            f"hierarchical:nodes={nodes},slices=8,inner=multi_ring"]


SOFTMAX_HEAD = ("ring", "multi_ring", "direct:8", "paths", "double ring",
                "hierarchical, 1 slice", "hierarchical, 8 slices")


def linear_names(nodes):
    return ["chain", "pipelined_chain", "all_gather",
            f"all_gather:hierarchical:nodes={nodes}", "log_step",
            "sharded_scan"]


def softmax_text(lab):
    lines = []
    for nodes in NODES:
        softmax = planned(lab, nodes, NO_COMPUTE)["softmax"]
        lines.append((8 * nodes,
                      *(cell(forward(softmax, name))
                        for name in softmax_names(nodes)),
                      milliseconds(softmax["bound"]["exchange_seconds"])))
    return table(("ranks", *SOFTMAX_HEAD, "bound"), lines)


def linear_text(lab, overhead):
    lines = []
    for nodes in NODES:
        linear = planned(lab, nodes, NO_COMPUTE, overhead)["linear"]
        lines.append((8 * nodes, *(cell(forward(linear, name))
                                   for name in linear_names(nodes))))
    return table(("ranks", "chain (LASP)", "pipelined chain (ZeCO)",
                  "all-gather, direct", "all-gather, hierarchical",
                  "log-step", "sharded scan"), lines)


def whole_text(lab):
    lines = []
    for nodes in NODES:
        plan = planned(lab, nodes, "h100")
        softmax = plan["softmax"]
        compute = next(one["forward"]["compute_seconds"]
                       for one in softmax["candidates"]
                       if one["name"] == "ring")
        seconds = [forward(softmax, name) for name in softmax_names(nodes)]
        lines.append((8 * nodes, cell(compute),
                      *("–" if s is None else f"{s / compute:.3f}"
                        for s in seconds)))
    return table(("ranks", "computation, ms", *SOFTMAX_HEAD), lines)


def report(lab):
    return f"""# From 8 to 1024 ranks

By `ringweave plan` on `dgx-h100:nodes=1 … 128`; from 64 ranks on by closed forms
(docs/algorithms.md says how near they are). {SHARD_TOKENS:,} tokens per rank, 64 query heads of 128, 8 of keys and
values, causal, zigzag, bf16, forward. Unless said, a message costs its sender
{MESSAGE_SECONDS * 1e6:.0f} us (assumed).

## Softmax layers: transfers alone, ms

{softmax_text(lab)}
Ring pushes all blocks through one NIC per node, multi_ring and direct send every
block to each rank of the other nodes: they need 5 to 10 times the bound, multi_ring
ever more as its pieces get small and messages count. Paths and the schedules in two levels
stay near the bound at any size; double ring, with the fewest messages, is nearest.
Slices are messages: 8 of them cost more here than the tail they save. (–: does not
apply.)

## Softmax layers: with computation, time over computation alone

H100 at half of its dense peak.

{whole_text(lab)}
The computation of a rank grows with the whole sequence, as its transfers do: what
hides at 16 ranks hides at 1024. With GQA and {SHARD_TOKENS:,} tokens per rank bytes are no
issue; what is left is the sender's time for its messages, and few large messages win.

## Linear layers: exchange of states alone, ms

A state: 64 heads of 128 × 128 in fp32, 4 MiB; zigzag, so two segments per rank.

{linear_text(lab, MESSAGE_SECONDS)}
The same if a message costs nothing to start:

{linear_text(lab, 0)}
The sharded scan moves about two states per rank and segment at any number of ranks,
so without a price on messages its time stands still, and from 128 ranks on it is the
fastest (below, the pipelined chain). Its messages, two per peer, grow with the ranks:
with {MESSAGE_SECONDS * 1e6:.0f} us each it is the fastest from 16 to 128 ranks, and log-step beyond. Chain
and all-gather grow in proportion to the ranks either way.
"""


if __name__ == "__main__":
    main(report)
