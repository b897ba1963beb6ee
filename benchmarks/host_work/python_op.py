#!/usr/bin/env python3
"""Host microseconds of an attention call from Python, as one rank of many.

    RINGWEAVE_LIBRARY=… benchmarks/host_work/python_op.py

The group is torch's "fake" one, which sends nothing; the library is one whose
kernels compute nothing (README.md says which). What is left is the work of the
host: looking up the plan, posting, waiting, packing, autograd. The ranks' calls
are not compared.
"""

import statistics
import sys
import time

import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

import ringweave._groups


def open_fake(group):
    """In place of a group of Ringweave's own, which no rank would join."""
    return torch.classes.ringweave.Group(group.boxed(), "fake", 60_000, "off")


ringweave._groups._open = open_fake


def median_us(call, repeat):
    for _ in range(3):
        call()
    seconds = []
    for _ in range(repeat):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return 1e6 * statistics.median(seconds)


def measure(ranks, mask, strategy):
    """Forward alone, and with backward, on one token per run of each strand."""
    strands = 1 if strategy == "ring" else ranks - 1
    layout = ringweave.layout("zigzag", 2 * ranks * strands, ranks)
    x = torch.zeros(1, 2 * strands, 1, 4, requires_grad=True)
    grad = torch.zeros_like(x)
    repeat = 201 if ranks == 8 else 21

    def forward():
        with torch.no_grad():
            ringweave.attention(x, x, x, layout=layout, mask=mask,
                                strategy=strategy)

    def both():
        out = ringweave.attention(x, x, x, layout=layout, mask=mask,
                                  strategy=strategy)
        torch.autograd.grad(out, x, grad)

    return median_us(forward, repeat), median_us(both, repeat)


def main():
    torch.set_num_threads(1)
    for ranks in (8, 64):
        dist.init_process_group("fake", store=FakeStore(), rank=0,
                                world_size=ranks)
        for mask in ("full", "causal"):
            for strategy in ("ring", "multi_ring"):
                forward, both = measure(ranks, mask, strategy)
                print(f"op {mask} {strategy} n={ranks}: forward {forward:.1f} "
                      f"us, both {both:.1f} us", flush=True)
        dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
