"""The communicator and the executor on processes joined by Gloo."""

import re
import unittest

import torch

import harness

RANKS = 4
TIME_OUT = 20_000  # ms, for what must not time out
SHORT = 2_000      # ms, for what must


def collectives(group):
    ops = torch.ops.ringweave_test
    rank = torch.distributed.get_rank()
    generator = torch.Generator().manual_seed(0)
    sums = []
    for size in (0, 1, 3, 1001):
        for dtype in (torch.float64, torch.float32):
            all_values = torch.randn(RANKS, size, generator=generator,
                                     dtype=dtype) * 1e3
            wanted = all_values[0].clone()
            for other in all_values[1:]:
                wanted += other
            got = ops.all_reduce(all_values[rank], group, TIME_OUT)
            sums.append(torch.equal(got, wanted))
    texts = ops.all_gather("x" * rank * rank, group, TIME_OUT)
    ops.check_agreement("config", "a", group, TIME_OUT)
    return sums, texts


def disagree(group):
    text = "b" if torch.distributed.get_rank() in (1, 3) else "a"
    torch.ops.ringweave_test.check_agreement("config", text, group, TIME_OUT)


def disagree_in_names(group):
    name = "seed" if torch.distributed.get_rank() == 2 else "config"
    torch.ops.ringweave_test.check_agreement(name, "a", group, TIME_OUT)


def exchanges(group):
    for strategy in ("ring", "ring_reverse", "multi_ring", "direct",
                     "time_varying_multi_ring", "direct:2", "all_gather"):
        for layout in ("zigzag", "striped", "contiguous"):
            for causal in (True, False):
                torch.ops.ringweave_test.exchange(
                    strategy, layout, 103, causal, 2, group, TIME_OUT)


def exchange_for_ever(group, strategy, tokens):
    exchange = torch.ops.ringweave_test.exchange
    exchange(strategy, "zigzag", tokens, True, 1, group, TIME_OUT)
    harness.report("running")
    exchange(strategy, "zigzag", tokens, True, 10**9, group, SHORT)


def absent_rank(group):
    if torch.distributed.get_rank() == 3:
        harness.report("absent")
        return
    torch.ops.ringweave_test.check_agreement("config", "a", group, SHORT)


def unknown_group(group):
    torch.ops.ringweave_test.all_gather("", "no such group", TIME_OUT)


class CommunicatorTest(unittest.TestCase):
    def run_well(self, function, **arguments):
        return harness.run_well(self, function, RANKS, **arguments)

    def test_collectives(self):
        for sums, texts in self.run_well(collectives):
            self.assertEqual(sums, [True] * 8)
            self.assertEqual(texts, ["", "x", "x" * 4, "x" * 9])

    def test_exchanges(self):
        self.run_well(exchanges)

    def test_disagreement_is_one_error_everywhere(self):
        for outcome in harness.run_ranks(disagree, RANKS):
            self.assertIn('[agreement] got config "b" on rank 1; want "a" as '
                          "on rank 0 (ranks that differ from rank 0: 1, 3)",
                          outcome.text)

    def test_other_names_are_a_disagreement(self):
        for outcome in harness.run_ranks(disagree_in_names, RANKS):
            self.assertIn('[agreement] got config none on rank 2; want "a"',
                          outcome.text)

    def test_unknown_group(self):
        for outcome in harness.run_ranks(unknown_group, 1):
            self.assertIn('[c10d] got process group "no such group"',
                          outcome.text)


class FaultTest(unittest.TestCase):
    def survivors_fail(self, fault, victim, strategy, tokens, limit):
        """Each survivor ends with a CommError before `limit` seconds."""
        with harness.Ranks(exchange_for_ever, RANKS, strategy=strategy,
                           tokens=tokens) as ranks:
            for rank in range(RANKS):
                ranks.wait_for_report(rank, "running")
            getattr(ranks, fault)(victim)
            survivors = [rank for rank in range(RANKS) if rank != victim]
            outcomes = ranks.join(limit + 5, survivors)
        for rank in survivors:
            self.assertTrue(outcomes[rank].ended, (rank, outcomes))
            self.assertRegex(outcomes[rank].text,
                             rf"\[exchange (for|back)ward: (send|receive)\] "
                             rf"rank {rank}, peer \d, step \d+: "
                             r"(no answer|Connection|Read error|Write error|"
                             r"Timed out|Socket)")
            self.assertLess(outcomes[rank].seconds, limit)
            named = re.search(r"first failed: rank (\d)", outcomes[rank].text)
            if named:  # it may not be known, but it is never another one
                self.assertEqual(int(named[1]), victim, outcomes)
        return [outcomes[rank].text for rank in survivors]

    def test_killed(self):
        for strategy, victim in (("ring", 2), ("multi_ring", 1),
                                 ("direct", 0)):
            with self.subTest(strategy=strategy, victim=victim):
                texts = self.survivors_fail("kill", victim, strategy, 400,
                                            SHORT / 1000 + 3)
                if victim != 0:  # whose process has the store
                    for text in texts:
                        self.assertIn(f"(first failed: rank {victim})", text)

    def test_killed_in_a_long_message(self):
        self.survivors_fail("kill", 3, "direct:1", 2_000_000,
                            SHORT / 1000 + 6)

    def test_stopped(self):
        for strategy, victim in (("direct", 2), ("multi_ring", 1),
                                 ("ring", 0)):
            with self.subTest(strategy=strategy, victim=victim):
                texts = self.survivors_fail("stop", victim, strategy, 400,
                                            SHORT / 1000 + 4)
                self.assertTrue(any("no answer within" in text
                                    for text in texts), texts)

    def test_stopped_with_all_others_waiting(self):
        """All time out together, each on another peer."""
        for _ in range(3):
            texts = self.survivors_fail("stop", 2, "ring", 400,
                                        SHORT / 1000 + 4)
            self.assertTrue(any("(first failed: rank 2)" in text
                                for text in texts), texts)

    def test_absent_at_the_start(self):
        with harness.Ranks(absent_rank, RANKS) as ranks:
            ranks.wait_for_report(3, "absent")
            outcomes = ranks.join(SHORT / 1000 + 30)
        for outcome in outcomes[:3]:
            self.assertIn("[agreement: ", outcome.text)
            self.assertIn("(first failed: rank 3)", outcome.text)


if __name__ == "__main__":
    unittest.main()
