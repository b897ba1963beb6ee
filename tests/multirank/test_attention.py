"""A rank that dies or stalls in forward or backward of a layer's exchange.

Four processes meet by env:// and nobody watches over them; each survivor has to
end with a CommError inside the time-out, which is the group's.
"""

import datetime
import os
import re
import signal
import time
import unittest

import torch
import torch.distributed as dist

import harness

RANKS = 4
VICTIM = 2
SECONDS = 4  # the group's time-out
SLACK = 20  # of a busy computer, in which a rank must have ended
TOKENS = 403


def layer(kind, tokens):
    """One call of a layer on this rank's shard: its output and its inputs."""
    import ringweave
    layout = ringweave.layout("zigzag", tokens, RANKS)
    size = len(ringweave.positions(layout))
    inputs = [torch.randn(2, size, 4, 16, requires_grad=True)
              for _ in range(3)]
    call = ringweave.attention if kind == "softmax" else (
        ringweave.linear_attention)
    name, way = {"softmax": ("strategy", "multi_ring"),
                 "chain": ("exchange", "chain"),
                 "all_gather": ("exchange", "all_gather:ring")}[kind]
    return call(*inputs, layout=layout, **{name: way}), inputs


def fails_in(group, kind, where, fault, agree, late):
    """`late`: by how many seconds each rank comes to the call that fails."""
    import ringweave
    dist.distributed_c10d._set_pg_timeout(
        datetime.timedelta(seconds=SECONDS), dist.group.WORLD)
    ringweave.set_agreement(agree)
    layer(kind, TOKENS)[0].sum().backward()  # all is well at first

    def fail():
        if dist.get_rank() == VICTIM:
            harness.report("failing")
            os.kill(os.getpid(), getattr(signal, fault))

    time.sleep(late[dist.get_rank()])
    if where == "forward":
        fail()
    out, inputs = layer(kind, TOKENS)
    if where == "backward":
        fail()
    torch.autograd.grad(out.sum(), inputs)
    dist.barrier()  # a rank whose part needed nothing from the victim
    return "done"


class Faults(unittest.TestCase):
    def survivors_fail(self, kind, where, fault, agree="off",
                       late=(0,) * RANKS):
        """Without an agreement the exchange itself finds the victim missing."""
        survivors = [rank for rank in range(RANKS) if rank != VICTIM]
        with harness.Ranks(fails_in, RANKS, kind=kind, where=where,
                           fault=fault, agree=agree, late=late) as ranks:
            ranks.wait_for_report(VICTIM, "failing")
            outcomes = ranks.join(2 * SECONDS + SLACK, survivors)
        failed = [outcomes[rank].text or "" for rank in survivors]
        for rank in survivors:
            self.assertTrue(outcomes[rank].ended, (rank, outcomes))
            self.assertIsNotNone(outcomes[rank].text, (rank, outcomes))
            self.assertLess(outcomes[rank].seconds, 2 * SECONDS + SLACK)
            named = re.search(r"first failed: rank (\d)", outcomes[rank].text)
            if named:  # it may not be known, but it is never another one
                self.assertEqual(int(named[1]), VICTIM, outcomes)
        return failed

    def exchange_fails(self, kind, where, fault):
        failed = self.survivors_fail(kind, where, fault)
        operation = "attention" if kind == "softmax" else "linear attention"
        self.assertTrue(any(f"[{operation} {where}" in text
                            for text in failed), failed)
        return failed

    def test_the_agreement_names_the_victim(self):
        for where, call in (("forward", "attention, call 4"),
                            ("backward", "attention backward, call 5")):
            for fault in ("SIGKILL", "SIGSTOP"):
                with self.subTest(where=where, fault=fault):
                    for text in self.survivors_fail("softmax", where, fault,
                                                    "every"):
                        self.assertIn(f"[{call}]", text)
                        self.assertIn(f"(first failed: rank {VICTIM})", text)
                        if fault == "SIGSTOP":
                            self.assertIn(f"no such call of rank {VICTIM} "
                                          f"within {SECONDS} s", text)

    def test_softmax(self):
        for where in ("forward", "backward"):
            for fault in ("SIGKILL", "SIGSTOP"):
                with self.subTest(where=where, fault=fault):
                    for text in self.exchange_fails("softmax", where, fault):
                        self.assertRegex(text, r"rank \d, peer \d, step \d+: ")

    def test_waits_that_began_at_different_times(self):
        """A rank that times out before the others is not the first failed."""
        for kind, late in (("softmax", (0, 0.7, 0, 1.4)),
                           ("chain", (1.4, 0.7, 0, 0))):
            with self.subTest(kind=kind):
                self.survivors_fail(kind, "forward", "SIGSTOP", late=late)

    def test_linear(self):
        for kind in ("chain", "all_gather"):
            for where, fault in (("forward", "SIGSTOP"),
                                 ("backward", "SIGKILL")):
                with self.subTest(kind=kind, where=where, fault=fault):
                    self.exchange_fails(kind, where, fault)


if __name__ == "__main__":
    unittest.main()
