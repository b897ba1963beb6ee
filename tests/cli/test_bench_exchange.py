"""`ringweave bench exchange`: what it sends, measures and predicts."""

import unittest

import cli

SIZE = 65536


class BenchExchange(cli.CliTest):
    def cases(self, *more, size="--shard-bytes"):
        got = self.results("bench", "exchange", "--json", "--repeat", 2,
                           size, SIZE, *more)
        return {(case["name"], case["pass"]): case for case in got["cases"]}

    def test_bytes_bounds_and_predictions(self):
        cases = self.cases("--topology", "mesh:ranks=4",
                           "--strategy", "ring,multi_ring,direct,all_gather")
        self.assertEqual(len(cases), 8)
        # Shards that the busiest link carries. In backward gradients are summed on
        # a ring of 2n - 3 steps, and straight to their owners by direct.
        links = {("ring", "forward"): 3, ("ring", "backward"): 5,
                 ("multi_ring", "forward"): 1, ("multi_ring", "backward"): 5 / 3,
                 ("direct", "forward"): 1, ("direct", "backward"): 2,
                 ("all_gather", "forward"): 1, ("all_gather", "backward"): 1}
        for key, case in cases.items():
            wanted = links[key] * SIZE
            self.assertLessEqual(abs(case["busiest_link_bytes"] - wanted),
                                 0.02 * wanted, case)
            self.assertEqual(case["bytes"], SIZE)
            self.assertGreater(case["seconds"]["min"], 0)
            self.assertLessEqual(case["seconds"]["min"],
                                 case["seconds"]["median"])
            self.assertGreater(case["bare_seconds"]["median"], 0)
            self.assertGreater(case["over_bound"], 0)
            self.assertTrue(0 <= case["waiting_share"] <= 1, case)
            self.assertEqual(max(link["bytes"] for link in case["links"]),
                             case["busiest_link_bytes"])
            self.assertAlmostEqual(case["cost_model_seconds"],
                                   case["predicted_seconds"],
                                   delta=0.05 * case["predicted_seconds"])
        # On a full mesh a ring uses one of three links.
        for step in ("forward", "backward"):
            ring, multi = cases["ring", step], cases["multi_ring", step]
            self.assertAlmostEqual(
                ring["predicted_seconds"] / multi["predicted_seconds"], 3,
                delta=0.06)
            self.assertAlmostEqual(
                multi["predicted_seconds"] / multi["bound_seconds"],
                links["multi_ring", step], delta=0.02)

    def test_without_a_topology_nothing_is_predicted(self):
        cases = self.cases("--ranks", 3, "--strategy", "hierarchical:nodes=3",
                           "--only", "backward")
        (case,) = cases.values()
        self.assertEqual(case["pass"], "backward")
        self.assertNotIn("bound_seconds", case)

    def test_strategies_of_the_topology(self):
        cases = self.cases("--topology", "dgx-1", "--only", "forward",
                           "--strategy", "rings,synthesised")
        self.assertEqual(len(cases), 2)

    def test_states(self):
        cases = self.cases("--topology", "mesh:ranks=4", "--exchange",
                           "chain,pipelined_chain,sharded_scan,log_step,all_gather,"
                           "all_gather:ring",
                           size="--state-bytes")
        self.assertEqual(len(cases), 12)
        for (name, step), case in cases.items():
            # Every rank but the last one's state is needed; on a ring that of
            # the first rank passes two others. A sharded scan sends a quarter
            # of a state there and one back.
            wanted = {"all_gather:ring": 3, "sharded_scan": 0.5}.get(name, 1) * SIZE
            self.assertEqual(case["busiest_link_bytes"], wanted, case)
            # Three links of 1 GB/s lead into each rank.
            self.assertAlmostEqual(case["bound_seconds"], SIZE / 3e9,
                                   delta=1e-9)
            if name == "chain":
                self.assertAlmostEqual(case["predicted_seconds"],
                                       3 * SIZE / 1e9, delta=1e-9)
            if name == "pipelined_chain":  # 3 hops, 7 strands behind the first
                self.assertAlmostEqual(case["predicted_seconds"],
                                       (3 + 7) / 8 * SIZE / 1e9, delta=1e-9)
            self.assertAlmostEqual(case["cost_model_seconds"],
                                   case["predicted_seconds"],
                                   delta=0.05 * case["predicted_seconds"])

    def test_states_under_a_full_mask(self):
        # All ranks need the sum of four states over links of 1 GB/s: a chain of 3
        # hops and one to all; 2 rounds and one to all; a quarter there and back.
        wanted = {"chain": 4, "log_step": 3, "sharded_scan": 0.5, "all_gather": 1}
        cases = self.cases("--topology", "mesh:ranks=4", "--mask", "full",
                           "--exchange", ",".join(wanted), size="--state-bytes")
        self.assertEqual(len(cases), 8)
        for (name, step), case in cases.items():
            for model in ("predicted", "cost_model"):
                self.assertAlmostEqual(case[f"{model}_seconds"],
                                       wanted[name] * SIZE / 1e9, delta=1e-9)

    def test_table(self):
        done = cli.run("bench", "exchange", "--ranks", 2, "--repeat", 1,
                       "--shard-bytes", "64KiB,1MiB", "--strategy", "direct")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("threads of one process", done.stdout)
        self.assertIn("65.5 kB", done.stdout)
        self.assertIn("1.05 MB", done.stdout)
        self.assertEqual(done.stdout.count("direct "), 4)

    def test_bad_input_is_one_error(self):
        for arguments, words in (
                (("--shard-bytes", 1000), ("1000 bytes", "multiple of 512")),
                (("--shard-bytes", "18446744073709551104"),
                 ("18446744073709551104 bytes",)),
                (("--shard-bytes", "1MiB,1048576"), ("1048576 twice",)),
                (("--strategy", "ring,direct,ring"), ("ring twice",)),
                (("--exchange", "chain", "--state-bytes", 1000),
                 ("1000 bytes", "multiple of 256")),
                (("--exchange", "chain", "--strategy", "ring"),
                 ("--strategy", "--exchange")),
                (("--state-bytes", 1024), ("--exchange",)),
                (("--mask", "full"), ("--exchange",)),
                (("--exchange", "chain", "--mask", "striped"), ("striped",)),
                (("--shard-bytes", "1000GiB"), ("this machine's memory",)),
                (("--ranks", 1), ("1 rank", "at least 2")),
                (("--repeat", 0), ("--repeat 0",)),
                (("--only", "sideways"), ("sideways",)),
                (("--strategy", "rong"), ("rong", "ring")),
                (("--topology", "mesh:ranks=3", "--ranks", 4),
                 ("3 ranks", "4 ranks")),
                (("--ranks", 3, "--strategy", "hierarchical:nodes=2"),
                 ("3 ranks",))):
            self.assert_fault(cli.run("bench", "exchange", *arguments), *words)


if __name__ == "__main__":
    unittest.main()
