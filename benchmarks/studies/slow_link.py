#!/usr/bin/env python3
"""What one slow link of a mesh costs each strategy."""

import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from lab import main, table  # noqa: E402

NAME = "slow-link"

RANKS, RATE = 8, 48e9
FACTORS = [1, 1 / 2, 1 / 4, 1 / 10]
STRATEGIES = ["ring", "multi_ring", "direct", "direct:1", "rings",
              "synthesised"]
# 8 heads of 128, 4,096 tokens per rank in bf16: a shard of 16 MiB. Computing so
# fast that only transfers count.
TOKENS = 4096 * RANKS
SHAPE = ["--heads", 8, "--head-dim", 128, "--seq-len", TOKENS, "--compute",
         "bfloat16", "--device-table", "custom:rate=1e24"]


def mesh(factor):
    """A full mesh whose cable between the first two ranks is slower."""
    names = [f"gpu{rank}" for rank in range(RANKS)]
    links = [{"from": a, "to": b, "class": "link",
              "bytes_per_second": RATE * (factor if i + j == 1 else 1)}
             for i, a in enumerate(names) for j, b in enumerate(names) if i < j]
    return {"format": "ringweave.topology", "version": 1,
            "name": f"mesh with a link of {factor:g}",
            "ranks": [{"name": name} for name in names], "links": links}


def planned(lab, factor, mask="full"):
    """({strategy: forward seconds}, bound of the transfers)"""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(mesh(factor), file)
        file.flush()
        softmax = lab.call("plan", "--topology", file.name, *SHAPE, "--mask",
                           mask, "--synthesise")["softmax"]
    seconds = {one["name"]: one["forward"]["seconds"]
               for one in softmax["candidates"]
               if one["verdict"] != "impossible"}
    return seconds, softmax["bound"]["exchange_seconds"]


def report(lab):
    healthy, _ = planned(lab, 1)
    lines = {name: [name] for name in STRATEGIES}
    bounds = ["bound of the transfers"]
    for factor in FACTORS:
        seconds, bound = planned(lab, factor)
        shard = 2 * 2 * 8 * 128 * TOKENS / RANKS / RATE
        bounds.append(f"{bound / shard:.2f}")
        for name in STRATEGIES:
            lines[name].append(
                f"{seconds[name] / shard:.2f}"
                + ("" if factor == 1
                   else f" (x {seconds[name] / healthy[name]:.2f})"))
    head = ("strategy", *("all links alike" if factor == 1 else f"x {factor:g}"
                          for factor in FACTORS))
    return f"""# One slow link in a mesh of {RANKS}

Time of forward's transfers, full mask, in units of a shard over a healthy link;
in brackets over the same strategy with all links alike. By the cost model
(`ringweave plan --synthesise`); transfers alone. The slow link is the cable
between ranks 0 and 1, both directions.

{table(head, [*lines.values(), bounds])}
- Schedules that use every link alike wait for the slowest: their time is 1 over
  the factor, however little the lost bandwidth is of the whole (a link in 28).
- A ring passes 0 → 1 in every step, so it slows as much.
- The bound hardly moves: ranks 0 and 1 can still receive over 6 + f links' worth
  of 7, so 7/(6 + f).
- `rings` are rings that follow the topology: six that avoid the slow link, 7/6
  at any factor. `synthesised` trees send it what it can carry and are at the
  bound or within 2 % of it.
"""


if __name__ == "__main__":
    main(report)
