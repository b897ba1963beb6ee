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
                 ("--softmax", "without such layers"))):
            self.assert_fault(
                cli.run("bench", "model", "--config", self.config(), *more),
                *words)
        self.assert_fault(cli.run("bench", "model"), "--config")


if __name__ == "__main__":
    unittest.main()
