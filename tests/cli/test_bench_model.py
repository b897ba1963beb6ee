"""`ringweave bench model`: steps of a model, and what they go to."""

import json
import os
import pathlib
import tempfile
import unittest

import cli

PARTS = ("compute", "softmax_waiting", "linear_waiting", "gradient_waiting",
         "other_waiting", "optimizer")


class BenchModel(cli.CliTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def config(self, pattern="LN", **changes):
        config = {
            "format": "ringweave.config", "version": 1,
            "model": {"hidden": 16, "intermediate": 24, "layers": 2, "heads": 4,
                      "kv_heads": 2, "head_dim": 4, "pattern": pattern,
                      "linear": {"kind": "gla"}},
            "data": {"seq_len": 40, "batch": 2}, "seed": 3,
            "compute": "float64", "parallel": {"ranks": 3}}
        config.update(changes)
        path = self.folder / "config.json"
        path.write_text(json.dumps(config))
        return path

    def bench(self, *more, **config):
        return self.results("bench", "model", "--json", "--repeat", 3,
                            "--config", self.config(**config), *more)

    def test_parts_add_up_and_losses_agree(self):
        got = self.bench("--softmax", "ring,direct", "--linear",
                         "chain,all_gather", "--seq-len", "40,61")
        self.assertEqual(
            [(case["softmax"], case["linear"], case["seq_len"])
             for case in got["cases"]],
            [(softmax, linear, seq_len) for seq_len in (40, 61)
             for softmax in ("ring", "direct")
             for linear in ("chain", "all_gather")])
        losses = {}
        for case in got["cases"]:
            parts = [case[f"{part}_seconds"] for part in PARTS]
            for part, spread in zip(PARTS, parts):
                self.assertGreaterEqual(spread["min"], -1e-9, part)
            # Of each step; their medians need not add up.
            self.assertLessEqual(sum(part["min"] for part in parts),
                                 case["seconds"]["max"])
            self.assertGreaterEqual(sum(part["max"] for part in parts),
                                    case["seconds"]["min"])
            self.assertGreater(case["softmax_waiting_seconds"]["max"], 0)
            self.assertGreater(case["linear_waiting_seconds"]["max"], 0)
            self.assertGreater(case["bytes_sent"], 0)
            self.assertGreater(case["peak_memory_bytes"], 1e6)
            self.assertTrue(0 < case["processor_share"] <= 1.05, case)
            self.assertAlmostEqual(
                case["tokens_per_second"] * case["seconds"]["median"],
                2 * case["seq_len"], delta=1e-6)
            loss = losses.setdefault(case["seq_len"], case["loss"])
            self.assertAlmostEqual(case["loss"], loss, delta=1e-10)
        self.assertEqual(len(losses), 2)
        self.assertEqual(got["config"]["model"]["hidden"], 16)
        self.assertNotIn("softmax", got["config"]["parallel"])

    def test_layers_that_the_model_lacks(self):
        (case,) = self.bench(pattern="L")["cases"]
        self.assertEqual((case["softmax"], case["linear"]), ("", "all_gather"))
        self.assertEqual(case["softmax_waiting_seconds"]["max"], 0)

    def test_one_rank_waits_for_nobody(self):
        (case,) = self.bench("--ranks", 1)["cases"]
        self.assertEqual(case["bytes_sent"], 0)
        for part in PARTS[1:-1]:
            self.assertEqual(case[f"{part}_seconds"]["max"], 0, part)

    def test_auto_and_data(self):
        text = self.folder / "text.txt"
        text.write_text("some words to train on, again and again\n" * 30)
        (case,) = self.bench(
            "--data", text, "--set", "data.documents=reset", "--set",
            "model.vocab_size=257", "--set", "parallel.topology=mesh:ranks=3",
            "--softmax", "auto")["cases"]
        self.assertRegex(case["softmax"], r"^auto \(\w+\)$")

    RATE = 1e9  # FLOP per second
    EMULATE = ["--compute", "emulate", "--device-table",
               f"custom:rate={RATE},efficiency=1"]

    def test_emulated_steps_send_what_training_sends(self):
        for changes in ({"pattern": "LN"}, {"pattern": "L"},
                        {"pattern": "LN", "parallel": {
                            "ranks": 4, "data": 2, "accumulation": 2,
                            "recompute": "block", "bucket_bytes": 4000}},
                        {"pattern": "NL", "parallel": {
                            "ranks": 3, "shard_optimizer": True,
                            "recompute": "mlp"}}):
            if "accumulation" in changes.get("parallel", {}):
                changes["data"] = {"seq_len": 40, "batch": 4}
            (real,) = self.bench(**changes)["cases"]
            (case,) = self.bench(*self.EMULATE, **changes)["cases"]
            self.assertNotIn("loss", case)
            # Training also sums losses and, over pieces, each rank's part of the
            # gradient norm: numbers that all others send to rank 0, and get.
            ranks = changes.get("parallel", {"ranks": 3})["ranks"]
            pieces = "shard_optimizer" in changes.get("parallel", {})
            sums = 1 + ranks if pieces else 1
            self.assertEqual(case["bytes_sent"] + sums * 8 * 2 * (ranks - 1),
                             real["bytes_sent"], changes)

    def test_emulated_steps_take_the_device_tables_time(self):
        got = self.bench(*self.EMULATE, "--topology", "mesh:ranks=3,rate=1e12",
                         "--set", "data.seq_len=300", pattern="L")
        self.assertEqual((got["compute"], got["topology"]),
                         ("emulate", "mesh:ranks=3,rate=1e12"))
        (case,) = got["cases"]
        # Two layers: projections of q, k, v and out, those of gla's gate and
        # norm, a SwiGLU, and norms; and the head; 2 FLOP a weight, thrice.
        weights = got["parameters"] - 256 * 16 - 16
        products = 3 * 2 * weights * 2 * 100 / self.RATE
        self.assertGreater(case["predicted_seconds"], products)
        self.assertLess(case["predicted_seconds"], 2 * products)
        self.assertGreaterEqual(case["seconds"]["min"],
                                0.999 * case["predicted_seconds"])
        self.assertAlmostEqual(case["predicted_over_measured"]
                               * case["seconds"]["median"],
                               case["predicted_seconds"])
        self.assertEqual(case["optimizer_seconds"]["max"], 0)

    def test_exchanges_of_a_step(self):
        # 2 sequences; a softmax layer of 2 kv heads of 4 fp64 numbers, whose
        # keys and values, and their gradients, go into each rank over two links:
        # 20 tokens from each. A linear layer of 2 states of 4 x 4 with a normaliser
        # beside: a rank receives a state over both links, forward and backward.
        (case,) = self.bench("--topology", "mesh:ranks=3,rate=1e6",
                             "--seq-len", 60, "--set", "model.linear.kind=basic",
                             "--set", "model.causal=false", pattern="NL")["cases"]
        tokens = 2 * 2 * 2 * 4 * 8 * 20 / 1e6
        states = 2 * 2 * 4 * 5 * 8 / 2 / 1e6
        self.assertAlmostEqual(case["bound_seconds"], 2 * (tokens + states),
                               delta=1e-9)
        self.assertGreater(case["bare_seconds"], 0)
        self.assertNotIn("predicted_seconds", case)
        self.assertIn("loss", case)

    def test_table(self):
        done = cli.run("bench", "model", "--config", self.config(), "--repeat",
                       1)
        self.assertEqual(done.returncode, 0, done.stderr)
        for word in ("optimizer", "tokens/s", "threads of one process",
                     "multi_ring", "parameters"):
            self.assertIn(word, done.stdout)

    def test_bad_input_is_one_error(self):
        for more, words in (
                (("--repeat", 0), ("--repeat 0",)),
                (("--repeat", 2147483647), ("2147483647",)),
                (("--set", "data.batch=9000000000000000000"), ("memory",)),
                (("--seq-len", "40,40"), ("40 twice",)),
                (("--softmax", "ring,ring"), ("ring twice",)),
                (("--softmax", "rong"), ("rong", "ring")),
                (("--linear", "chian"), ("chian",)),
                (("--seq-len", 0), ("seq_len", "0")),
                (("--seq-len", "many"), ("many",)),
                (("--set", "model.hiden=3"), ("hiden",)),
                (("--set", "data.documents=reset"), ("--data", "reset")),
                (("--data", "nowhere.txt"), ("nowhere.txt",)),
                (("--set", "model.pattern=L", "--softmax", "ring"),
                 ("--softmax", "without such layers")),
                (("--compute", "emulate"), ("--device-table",)),
                (("--device-table", "h100"), ("--topology",)),
                ((*self.EMULATE, "--threads", 2), ("--threads",)),
                ((*self.EMULATE, "--data", "a.txt"), ("--data",)),
                ((*self.EMULATE, "--set", "parallel.grad_payload=compute"),
                 ("grad_payload",)),
                (("--topology", "mesh:ranks=4"), ("4 ranks", "3 ranks")),
                (("--topology", "mesh:ranks=4", "--ranks", 4, "--set",
                  "parallel.data=2"), ("parallel.data 2",)),
                ((*self.EMULATE, "--set", "data.seq_len=100000000", "--softmax",
                  "all_gather"), ("this machine's memory",))):
            self.assert_fault(
                cli.run("bench", "model", "--config", self.config(), *more),
                *words)
        self.assert_fault(cli.run("bench", "model"), "--config")


if __name__ == "__main__":
    unittest.main()
