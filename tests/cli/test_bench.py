"""`ringweave bench`: what it prints, and that split and whole agree."""

import copy
import json
import os
import tempfile
import unittest

import cli

SMALL = ["--seq-len", 130, "--heads", 4, "--head-dim", 8, "--repeat", 2]


@unittest.skipUnless(cli.built_with_torch(), "built without torch")
class Bench(cli.CliTest):
    def check(self, got, names, tolerance):
        self.assertEqual([case["name"] for case in got["cases"]], names)
        for case in got["cases"]:
            self.assertLess(case["max_error"], tolerance, case["name"])
            ratio = case["ratio"]
            self.assertLessEqual(ratio["min"], ratio["median"])
            self.assertLessEqual(ratio["median"], ratio["max"])
            self.assertGreater(case["tokens_per_second"], 0)

    def test_attention(self):
        names = ["ring", "multi_ring", "direct", "all_gather",
                 "hierarchical:nodes=3,slices=2"]
        for more in ([], ["--kv-heads", 2, "--mask", "full"],
                     ["--layout", "striped", "--forward-only"]):
            got = self.results("bench", "attention", "--json", "--ranks", 3,
                               "--dtype", "float64", "--strategy",
                               ",".join(names), *SMALL, *more)
            self.check(got, names, 1e-10)
            for case in got["cases"]:
                self.assertTrue(case["links"])
                for link in case["links"]:
                    self.assertEqual(link["sent_bytes"], link["planned_bytes"])
                self.assertEqual(len(case["buffers"]), 3)
                for rank in case["buffers"]:
                    self.assertGreater(rank["peak_bytes"], 0)
                    self.assertEqual(rank["peak_bytes"], rank["planned_bytes"])

    def test_masks_that_the_op_lacks(self):
        """Compared with one rank: libtorch's op has neither of them."""
        for mask in ({"kind": "causal", "window": {"left": 20}},
                     {"kind": "full", "window": {"left": 9, "right": 3}},
                     {"kind": "causal", "document_offsets": [0, 50, 130]}):
            got = self.results("bench", "attention", "--json", "--ranks", 3,
                               "--dtype", "float64", "--strategy",
                               "ring,direct", "--mask", json.dumps(mask),
                               *SMALL)
            self.check(got, ["ring", "direct"], 1e-10)
            self.assertEqual(got["baseline"], "the same on one rank")
        got = self.results("bench", "linear", "--json", "--ranks", 3,
                           "--dtype", "float64", "--mask", json.dumps(mask),
                           *SMALL)
        self.check(got, ["all_gather"], 1e-10)
        self.assertEqual(got["mask"], "causal, 2 documents")

    def test_schedules_from_files(self):
        with tempfile.TemporaryDirectory() as folder:
            prefix = os.path.join(folder, "ring")
            arguments = ["bench", "attention", "--json", "--ranks", 3,
                         "--dtype", "float64", *SMALL]
            self.results(*arguments, "--strategy", "ring",
                         "--save-schedules", prefix)
            files = [f"{prefix}.{way}.json" for way in ("forward", "backward")]
            got = self.results(*arguments, "--schedule", ",".join(files))
            self.check(got, ["schedule"], 1e-10)

            with open(files[0]) as file:
                schedule = json.load(file)

            def fault(change, word):
                broken = copy.deepcopy(schedule)
                change(broken["transfers"])
                path = os.path.join(folder, "broken.json")
                with open(path, "w") as file:
                    json.dump(broken, file)
                self.assert_fault(cli.run(*arguments, "--forward-only",
                                          "--schedule", path), word)

            fault(lambda transfers: transfers.pop(), "rank")
            fault(lambda transfers: transfers.append(transfers[-1]), "rank")
            fault(lambda transfers: transfers[0].update({"from": 7}), "7")
            fault(lambda transfers: transfers[0].update(post_step=-1), "-1")
            fault(lambda transfers: transfers[0].update(speed=1), "speed")
            fault(lambda transfers: transfers[0]["block"].__setitem__(
                1, 2**31 - 1), "strand")
            self.assert_fault(cli.run(*arguments, "--schedule", files[0]),
                              "backward")

    def test_linear(self):
        names = ["chain", "pipelined_chain", "sharded_scan", "log_step",
                 "all_gather",
                 "all_gather:ring"]
        for decay in ("none", "constant", "per_head", "per_key"):
            got = self.results("bench", "linear", "--json", "--ranks", 3,
                               "--dtype", "float64", "--exchange",
                               ",".join(names), "--decay", decay, *SMALL)
            self.check(got, names, 1e-10)
            for case in got["cases"]:
                self.assertEqual(len(case["links"]), 6)
                for link in case["links"]:
                    self.assertEqual(link["sent_bytes"], link["planned_bytes"])

    def test_linear_sends_a_state_per_distinct_decay_and_key(self):
        def sent(decay, kv_heads):
            got = self.results("bench", "linear", "--json", "--ranks", 3,
                               "--decay", decay, *SMALL, "--kv-heads", kv_heads)
            return sum(link["sent_bytes"] for link in got["cases"][0]["links"])

        for decay in ("none", "per_key"):
            self.assertEqual(sent(decay, 4), 4 * sent(decay, 1))
        self.assertEqual(sent("constant", 4), sent("constant", 1))

    def test_table(self):
        done = cli.run("bench", "attention", *SMALL)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("ratio", done.stdout)
        self.assertIn("as planned", done.stdout)
        done = cli.run("bench", "linear", *SMALL)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("tokens/s", done.stdout)
        self.assertIn("as planned", done.stdout)

    def test_one_rank(self):
        got = self.results("bench", "attention", "--json", "--ranks", 1,
                           "--dtype", "float64", *SMALL)
        self.check(got, ["multi_ring"], 1e-10)
        self.assertEqual(got["cases"][0]["links"], [])

    def test_bad_arguments(self):
        for more, word in ((["--ranks", 0], "--ranks"),
                           (["--heads", 4, "--kv-heads", 3], "kv heads"),
                           (["--strategy", "rign"], "ring"),
                           (["--strategy", "ring,paths:nodes=3"],
                            "multiple of the 3 nodes"),
                           (["--dtype", "int8"], "int8"),
                           (["--mask", "window"], "--mask"),
                           (["--layout", "zigzog"], "zigzag"),
                           (["--ranks", 2**31 - 1], "--ranks"),
                           (["--threads", 2**31 - 1], "threads in all"),
                           (["--seq-len", 2**40], "memory"),
                           (["--head-dim", 2**40], "memory"),
                           (["--strategy", "direct:2147483647"], "strands"),
                           (["--strategy", "ring", "--plan", "p"], "--plan"),
                           (["--strategy", "ring", "--schedule", "s"],
                            "--schedule"),
                           (["--strategy", "ring,direct", "--save-schedules",
                             "s"], "2 strategies")):
            self.assert_fault(cli.run("bench", "attention", *more), word)
        self.assert_fault(cli.run("bench", "linear", "--decay", "some"),
                          "per_key")
        self.assert_fault(cli.run("bench", "linear", "--layout", "striped"),
                          "\"contiguous\" or \"zigzag\"")
        self.assert_fault(cli.run("bench", "linear", "--plan", "p",
                                  "--exchange", "chain"), "--exchange")
        self.assert_fault(cli.run("bench"), "ringweave bench", "attention",
                          "linear")

    def test_messages_alone(self):
        machine = ["--topology", "mesh:ranks=3,rate=1e6", "--device-table",
                   "custom:rate=1e9,efficiency=1"]
        small = ["--ranks", 3, "--seq-len", 96, "--heads", 2, "--head-dim", 8,
                 "--layout", "contiguous", "--mask", "full", "--repeat", 2]
        both = ("bare_seconds", "bound_seconds", "predicted_seconds")
        # Into each rank over two links: keys and values, and their gradients, of
        # 32 tokens from each; a state, forward and backward.
        bounds = {"attention": 2 * 2 * 32 * 2 * 8 * 4 / 1e6,
                  "linear": 2 * 2 * 8 * 8 * 4 / 2 / 1e6}
        for bench, names in (("attention", ["--strategy", "ring,synthesised"]),
                             ("linear", ["--exchange", "chain,all_gather",
                                         "--decay", "none"])):
            cases = self.results("bench", bench, *small, *names, *machine,
                                 "--json")["cases"]
            self.assertEqual(len(cases), 2)
            for case in cases:
                self.assertAlmostEqual(case["bound_seconds"], bounds[bench],
                                       delta=1e-9)
                self.assertGreater(case["bare_seconds"], 0)
                self.assertGreaterEqual(case["predicted_seconds"],
                                        bounds[bench])
            (case, _) = self.results("bench", bench, *small, *names, *machine[:2],
                                     "--json")["cases"]
            self.assertNotIn("predicted_seconds", case)
            done = cli.run("bench", bench, *small, *names, *machine)
            for head in ("bare ms", "bound ms", "predicted"):
                self.assertIn(head, done.stdout)
            (case,) = self.results("bench", bench, *small[:-2], "--json",
                                   *(["--decay", "none"] if bench == "linear"
                                     else []))["cases"]
            self.assertFalse(set(both) & set(case))

    def test_help(self):
        for bench in ("attention", "linear"):
            done = cli.run("bench", bench, "--help")
            self.assertEqual(done.returncode, 0)
            self.assertIn("--seq-len", done.stdout)


class Emulated:
    """Ranks wait for a device table's times instead of computing; of the command
    in ARGUMENTS."""

    RATE = 1e9  # FLOP per second
    DEVICE_TABLE = ["--compute", "emulate", "--device-table",
                    f"custom:rate={RATE},efficiency=1"]

    def test_table_says_so(self):
        done = cli.run(*self.ARGUMENTS, "--forward-only")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("EMULATED compute", done.stdout)
        self.assertNotIn("backward", done.stdout)


@unittest.skipUnless(cli.built_with_torch(), "built without torch")
class EmulatedAttention(Emulated, cli.CliTest):
    ARGUMENTS = ["bench", "attention", *Emulated.DEVICE_TABLE, "--ranks", 2,
                 "--seq-len", 1024, "--heads", 2, "--repeat", 2]

    def test_times_are_the_device_tables(self):
        got = self.results(*self.ARGUMENTS, "--json", "--strategy",
                           "ring,direct", "--topology", "mesh:ranks=2")
        self.assertEqual(got["compute"], "emulate")
        self.assertEqual(got["kv_heads"], 2)
        self.assertNotIn("threads", got)
        self.assertEqual([(case["name"], case["pass"]) for case in got["cases"]],
                         [("ring", "forward"), ("ring", "backward"),
                          ("direct", "forward"), ("direct", "backward")])
        # Zigzag: each rank has half of the pairs that causal queries see.
        pairs = 1024 * 1025 / 2 / 2
        for case in got["cases"]:
            flop = (4 if case["pass"] == "forward" else 10) * 64 * 2 * pairs
            self.assertAlmostEqual(case["compute_seconds"], flop / self.RATE,
                                   delta=0.01 * flop / self.RATE)
            self.assertGreaterEqual(case["seconds"]["min"],
                                    case["compute_seconds"])
            self.assertGreater(case["transfer_seconds"], 0)
            # On this link computing takes nearly all.
            self.assertAlmostEqual(
                case["predicted_seconds"], case["compute_seconds"],
                delta=0.01 * case["compute_seconds"])
            self.assertAlmostEqual(
                case["overlapped_seconds"],
                case["compute_seconds"] + case["compute_step_seconds"],
                delta=1e-9)

    def test_strategies_of_the_topology(self):
        got = self.results(*self.ARGUMENTS, "--json", "--strategy",
                           "rings,synthesised", "--topology", "mesh:ranks=2")
        self.assertEqual(len(got["cases"]), 4)

    def test_nothing_to_send(self):
        got = self.results(*self.ARGUMENTS, "--json", "--layout", "contiguous",
                           "--mask", '{"kind": "causal", "window": {"left": 0}}',
                           "--topology", "mesh:ranks=2")
        for case in got["cases"]:
            self.assertEqual(case["links"], [])
            self.assertNotIn("bound_seconds", case)

    def test_bad_input_is_one_error(self):
        for more, words in (
                (["--topology", "mesh:ranks=3"], ("3 ranks", "2 ranks")),
                (["--save-schedules", "a"], ("--save-schedules",)),
                (["--threads", 7], ("--threads 7",)),
                (["--strategy", "ring,direct,ring"], ("ring twice",)),
                (["--strategy", "rong", "--kv-heads", 3], ("3 kv heads",))):
            self.assert_fault(cli.run(*self.ARGUMENTS, *more), *words)
        for more, words in (
                (["--compute", "emulate"], ("--device-table",)),
                (["--compute", "emulate", "--device-table", "nothing-like-it"],
                 ("nothing-like-it",)),
                (["--compute", "emulate", "--device-table", "h100", "--ranks", 64,
                  "--seq-len", 1 << 24, "--strategy", "all_gather"],
                 ("this machine's memory",)),
                (["--repeat", 2147483647], ("2147483647",)),
                (["--device-table", "h100"], ("--topology", "--compute emulate")),
                (["--compute", "guess"], ("guess", "emulate"))):
            self.assert_fault(cli.run("bench", "attention", *more), *words)


@unittest.skipUnless(cli.built_with_torch(), "built without torch")
class EmulatedLinear(Emulated, cli.CliTest):
    CHUNK = 64  # tokens that are computed without a state
    ARGUMENTS = ["bench", "linear", *Emulated.DEVICE_TABLE, "--heads", 2,
                 "--repeat", 2]

    def stages(self, tokens, name):
        """Seconds of a rank: with heads of 64 x 64, states likewise."""
        ratio = 1 if name == "forward" else 2.5
        state = ratio * 2 * tokens * 2 * 64 * 64 / self.RATE
        return state, ratio * 2 * tokens * self.CHUNK * 2 * 64 / self.RATE, state

    def test_times_are_those_of_the_three_stages(self):
        got = self.results(*self.ARGUMENTS, "--json", "--ranks", 2, "--seq-len",
                           2048, "--exchange", "chain,all_gather,log_step",
                           "--topology", "mesh:ranks=2,rate=2e5")
        self.assertEqual((got["compute"], got["decay"]), ("emulate", "constant"))
        self.assertNotIn("threads", got)
        self.assertEqual([case["name"] for case in got["cases"][::2]],
                         ["chain", "all_gather", "log_step"])
        for case in got["cases"]:
            before, within, after = self.stages(1024, case["pass"])
            self.assertEqual(case["bytes"], 2 * 64 * 64 * 4)
            self.assertAlmostEqual(case["compute_seconds"],
                                   before + within + after, delta=1e-9)
            self.assertGreaterEqual(case["seconds"]["min"],
                                    case["compute_seconds"])
            # On this link, which is slow, transfers hide all that they can.
            self.assertGreater(case["transfer_seconds"], within)
            self.assertAlmostEqual(
                case["overlapped_seconds"],
                before + case["transfer_seconds"] + after, delta=1e-9)
            self.assertGreaterEqual(case["predicted_seconds"],
                                    case["overlapped_seconds"] - 1e-9)
            self.assertLessEqual(
                case["predicted_seconds"],
                before + within + case["transfer_seconds"] + after + 1e-9)
        # Zigzag: rank 1 has one segment, between rank 0's two.
        forward = got["cases"][2]
        self.assertAlmostEqual(forward["predicted_seconds"],
                               forward["overlapped_seconds"], delta=1e-9)
        self.assertEqual(forward["busiest_link_bytes"], 2 * 64 * 64 * 4)

    def test_bytes_are_those_that_are_computed_on(self):
        for more in (["--decay", "per_key", "--kv-heads", 1],
                     ["--decay", "per_head", "--kv-heads", 1],
                     ["--decay", "none", "--mask", "full"]):
            same = ["--ranks", 3, "--seq-len", 130, "--exchange",
                    "all_gather,chain", "--json", *more]
            emulated = self.results(*self.ARGUMENTS, *same)["cases"]
            for real, forward, backward in zip(
                    self.results("bench", "linear", "--heads", 2, "--repeat", 1,
                                 *same)["cases"],
                    emulated[::2], emulated[1::2]):
                sent = {}
                for link in forward["links"] + backward["links"]:
                    pair = link["from"], link["to"]
                    sent[pair] = sent.get(pair, 0) + link["bytes"]
                self.assertEqual(
                    sent, {(link["from"], link["to"]): link["sent_bytes"]
                           for link in real["links"] if link["sent_bytes"]})

    def test_one_rank_and_empty_shards(self):
        (forward, _) = self.results(*self.ARGUMENTS, "--json", "--ranks", 1,
                                    "--seq-len", 512, "--topology",
                                    "mesh:ranks=1")["cases"]
        self.assertEqual(forward["links"], [])
        self.assertAlmostEqual(forward["predicted_seconds"],
                               sum(self.stages(512, "forward")), delta=1e-9)
        self.results(*self.ARGUMENTS, "--json", "--ranks", 5, "--seq-len", 2)

    def test_bad_input_is_one_error(self):
        for more, words in (
                (["--topology", "mesh:ranks=3"], ("3 ranks", "2 ranks")),
                (["--threads", 7], ("--threads 7",)),
                (["--exchange", "chian"], ("chian", "chain")),
                (["--layout", "striped"], ("zigzag",))):
            self.assert_fault(cli.run(*self.ARGUMENTS, *more), *words)
        for more, words in (
                (["--compute", "emulate"], ("--device-table",)),
                (["--compute", "emulate", "--device-table", "h100", "--ranks", 64,
                  "--head-dim", 1 << 14, "--heads", 64],
                 ("this machine's memory",)),
                (["--device-table", "h100"], ("--topology", "--compute emulate"))):
            self.assert_fault(cli.run("bench", "linear", *more), *words)


if __name__ == "__main__":
    unittest.main()
