"""A group of Ringweave's own beside each of the program's: its messages, its
life and its end.

RINGWEAVE_LONG=1 makes hundreds of groups and programs instead of a few.
"""

import json
import os
import pathlib
import subprocess
import sys
import threading
import unittest

import torch
import torch.distributed as dist

import harness

LONG = os.environ.get("RINGWEAVE_LONG") == "1"
GROUPS = 500 if LONG else 60
PROGRAMS = 50 if LONG else 4  # of each of four kinds
TOKENS = 29


def whole(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, TOKENS, 2, 8, generator=generator,
                        dtype=torch.float64) for _ in range(3)]


def error(group=None, seed=0):
    """Of attention over that group: largest difference from one device."""
    import ringweave
    layout = ringweave.layout("zigzag", TOKENS, dist.get_world_size(group))
    inputs = whole(seed)
    out = ringweave.attention(*(ringweave.shard(x, layout, group=group)
                                for x in inputs), layout=layout, group=group)
    want = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in inputs), is_causal=True).transpose(1, 2)
    return (out - ringweave.shard(want, layout, group=group)).abs().max().item()


def messages(group):
    """The program's own, begun before and ended after ours, on one group."""
    rank, size = dist.get_rank(), dist.get_world_size()
    right, left = (rank + 1) % size, (rank - 1) % size
    got = torch.zeros(3)
    errors = []
    for sends_first in (True, False):
        sent = torch.full((3,), float(rank))
        if sends_first:
            work = [dist.isend(sent, right), dist.irecv(got, left)]
        else:
            work = [dist.irecv(got, left), dist.isend(sent, right)]
        errors.append(error())
        for each in work:
            each.wait()
        errors.append(abs(got[0].item() - left))
    work = dist.isend(torch.ones(1000), right)
    errors.append(error(seed=1))
    dist.recv(got1000 := torch.zeros(1000), left)
    work.wait()
    return max(*errors, (got1000 - 1).abs().max().item())


def subgroups(group):
    """Groups of some ranks, of meshes, by name, and made again."""
    import ringweave
    rank = dist.get_rank()
    errors = [error()]
    pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    mine = pairs[rank // 2]
    errors.append(error(mine, 1))
    refusals = []
    for other in (pairs[1 - rank // 2], 7, "no such group"):
        try:
            ringweave.attention(*whole(), layout="{}", group=other)
        except Exception as problem:
            refusals.append(str(problem))
    mesh = dist.device_mesh.init_device_mesh("cpu", (2, 2),
                                             mesh_dim_names=("a", "b"))
    layout = ringweave.layout("zigzag", TOKENS, 2)
    for dim in ("a", "b"):
        parts = [ringweave.shard(x, layout, group=mesh[dim]) for x in whole(3)]
        by_mesh = ringweave.attention(*parts, layout=layout, group=mesh[dim])
        by_name = ringweave.attention(*parts, layout=layout,
                                      group=mesh[dim].get_group().group_name)
        errors += [(by_mesh - by_name).abs().max().item(),
                   error(mesh.get_group(dim), 4)]
    try:
        ringweave.unshard(torch.zeros(1), layout, group=mesh)
    except ValueError as problem:
        refusals.append(str(problem))
    for again in range(3):
        group = dist.new_group([0, 1, 2, 3])
        errors.append(error(group, again))
        dist.destroy_process_group(group)
        try:
            ringweave.attention(*whole(), layout="{}", group=group)
        except ValueError as problem:
            refusals.append(str(problem))
    return max(errors), refusals


def threads(group):
    """Two threads of each rank, each with a group of its own."""
    groups = [dist.new_group(), dist.new_group()]
    errors = []

    def work(which):
        order = groups[which]
        for seed in range(10):
            errors.append(error(order, seed))

    workers = [threading.Thread(target=work, args=(which,))
               for which in (range(2) if dist.get_rank() else (1, 0))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return len(errors), max(errors)


def destroyed_with_a_graph(group):
    import ringweave
    layout = ringweave.layout("zigzag", TOKENS, dist.get_world_size())
    mine = dist.new_group()
    parts = [ringweave.shard(x, layout).requires_grad_() for x in whole()]
    out = ringweave.attention(*parts, layout=layout, group=mine)
    dist.destroy_process_group(mine)
    del mine
    try:
        out.sum().backward()
    except RuntimeError as problem:
        return error(), str(problem)


def usage():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return (len(os.listdir("/proc/self/fd")),
            len(os.listdir("/proc/self/task")),
            int(status["VmRSS"].split()[0]) / 1024)


def many_groups(group, groups):
    """Descriptors, threads and MiB after a tenth of the groups, and at the
    end."""
    import ringweave
    layout = ringweave.layout("zigzag", 64, dist.get_world_size())
    seen = []
    for i in range(groups):
        mine = dist.new_group()
        tensors = [torch.zeros(1, 64 // dist.get_world_size(), 1, 8,
                               requires_grad=True)] * 3
        ringweave.attention(*tensors, layout=layout,
                            group=mine).sum().backward()
        dist.destroy_process_group(mine)
        if i in (groups // 10, groups - 1):
            seen.append(usage())
    return seen


def initialised_again(group):
    rank, size = dist.get_rank(), dist.get_world_size()
    # One store for all: a rank that is early would else find the one that rank
    # 0 is about to close.
    store = dist.distributed_c10d._get_default_store()
    errors = []
    for again in range(3):
        errors.append(error(seed=again))
        dist.destroy_process_group()
        dist.init_process_group(
            "gloo", store=dist.PrefixStore(f"again {again}", store), rank=rank,
            world_size=size)
    return max(errors)


PROGRAM = '''
import sys
import torch, torch.distributed as dist, ringweave as rw
dist.init_process_group("gloo")
n = dist.get_world_size()
layout = rw.layout("contiguous", 64, n)
x = torch.rand(1, rw.positions(layout).numel(), 1, 8, requires_grad=True)
kept = rw.attention(x, x, x, layout=layout)  # a graph that outlives all
kept.sum().backward(retain_graph=True)
for _ in range(20):
    dist.all_reduce(torch.ones(1000))
if "destroy" in sys.argv:
    dist.destroy_process_group()
if "fail" in sys.argv:
    raise SystemExit(3)
'''

FAKE = '''
import torch, torch.distributed as dist, ringweave as rw
from torch.testing._internal.distributed.fake_pg import FakeStore
dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
try:
    rw.attention(*[torch.rand(1, 4, 1, 8)] * 3, layout=rw.layout("zigzag", 8, 2))
except RuntimeError as error:
    print(error)
'''


def run_programs(programs, ranks=3):
    """[exit codes, stderr] of the ranks of each: [text, argument…]."""
    done = subprocess.run(
        [sys.executable, pathlib.Path(__file__).with_name("forked_programs.py"),
         str(ranks)], input=json.dumps(programs), text=True,
        capture_output=True, env=dict(os.environ, OMP_NUM_THREADS="1"))
    ended = [json.loads(line) for line in done.stdout.splitlines()]
    if len(ended) != len(programs):
        raise RuntimeError(done.stderr)
    return ended


class Groups(unittest.TestCase):
    def run_well(self, function, ranks, **arguments):
        return harness.run_well(self, function, ranks,
                                seconds=600 if LONG else 120, **arguments)

    def test_the_programs_messages_are_its_own(self):
        for ranks in (2, 3):
            for largest in self.run_well(messages, ranks):
                self.assertLess(largest, 1e-12)

    def test_subgroups(self):
        for largest, refusals in self.run_well(subgroups, 4):
            self.assertLess(largest, 1e-12)
            not_mine, number, name, mesh, *destroyed = refusals
            self.assertIn("this rank is not in", not_mine)
            self.assertIn("got 7 as group", number)
            self.assertIn("no such group", name)
            self.assertIn("mesh of 2 dimensions", mesh)
            self.assertEqual(len(destroyed), 3)
            self.assertIn("was destroyed", destroyed[0])

    def test_threads(self):
        for calls, largest in self.run_well(threads, 3):
            self.assertEqual(calls, 20)
            self.assertLess(largest, 1e-12)

    def test_initialised_again(self):
        for largest in self.run_well(initialised_again, 2):
            self.assertLess(largest, 1e-12)

    def test_a_graph_outlives_its_group(self):
        for largest, text in self.run_well(destroyed_with_a_graph, 2):
            self.assertLess(largest, 1e-12)
            self.assertIn("it was destroyed", text)

    def test_nothing_of_a_destroyed_group_is_left(self):
        for early, late in self.run_well(many_groups, 2, groups=GROUPS):
            for index, slack in enumerate((2, 2, 8)):  # fds, threads, MiB
                self.assertLessEqual(late[index], early[index] + slack,
                                     (early, late))

    def test_programs_end_well(self):
        for arguments in ((), ("destroy",), ("fail",), ("destroy", "fail")):
            want = 3 if "fail" in arguments else 0
            for codes, ends in run_programs(
                    PROGRAMS * [[PROGRAM, *arguments]]):
                self.assertEqual(codes, [want] * 3, ends)

    def test_fake_back_end(self):
        done = subprocess.run([sys.executable, "-c", FAKE], text=True,
                              capture_output=True, timeout=120)
        self.assertIn('the backend "fake"', done.stdout, done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
