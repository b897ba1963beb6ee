"""tools/gpu_check: the script that a machine with an accelerator runs, here on the
simulated device; and `bench` there."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ["RINGWEAVE_BINARY"]).resolve().parents[2]
ON_SIM = BUILD / "ringweave/cli/ringweave_on_sim"


def bench(*words):
    return subprocess.run([ON_SIM, "bench", *map(str, words)], text=True,
                          capture_output=True, check=False)


class GpuCheck(unittest.TestCase):
    def test_it_passes_on_the_simulated_device(self):
        with tempfile.TemporaryDirectory() as folder:
            found = pathlib.Path(folder) / "found.json"
            page = pathlib.Path(folder) / "page.md"
            done = subprocess.run(
                [sys.executable, ROOT / "tools/gpu_check", "--device", "sim",
                 "--build", BUILD, "--save", found, "--page", page], text=True,
                capture_output=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn("steps passed, 0 failed", done.stdout)
            found = json.loads(found.read_text())
            self.assertTrue(all(step["passed"] for step in found["steps"]))
            self.assertGreater(len(found["cases"]), 4)
            self.assertTrue(all(case["right"] for case in found["cases"]))
            self.assertEqual(found["device_table"]["device"], "sim")
            self.assertIn("# On one device: sim", page.read_text())

    def test_it_wants_a_build(self):
        done = subprocess.run(
            [sys.executable, ROOT / "tools/gpu_check", "--build", "/nowhere"],
            text=True, capture_output=True, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("/nowhere", done.stderr)


class BenchOnADevice(unittest.TestCase):
    SHAPE = ("--ranks", 3, "--seq-len", 40, "--heads", 4, "--head-dim", 8,
             "--repeat", 1, "--json", "--device", "sim")

    def test_splits_equal_one_rank(self):
        for words in (("attention", "--kv-heads", 2, "--strategy",
                       "ring,multi_ring,all_gather"),
                      ("attention", "--mask", "full", "--forward-only"),
                      ("linear", "--decay", "per_key"),
                      ("linear", "--exchange", "chain,log_step")):
            for dtype, allowed in (("float64", 1e-10), ("float32", 1e-5),
                                   ("bfloat16", 3e-2)):
                with self.subTest(words=words, dtype=dtype):
                    done = bench(*words, *self.SHAPE, "--dtype", dtype)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    got = json.loads(done.stdout)
                    self.assertEqual(got["device"], "sim")
                    self.assertEqual(got["baseline"], "the same on one rank")
                    for case in got["cases"]:
                        self.assertLess(case["max_error"], allowed)

    def test_a_device_that_is_not_there_is_one_error(self):
        for words, said in (
                (("--device", "cuda"), ("cuda", "finds none")),
                (("--device", "sim:1"), ("sim:1", "without a number")),
                (("--device", "quantum"), ("quantum", "want cpu")),
                (("--device", "sim", "--topology", "mesh:ranks=2"),
                 ("sim", "--topology"))):
            with self.subTest(words=words):
                done = bench("attention", "--ranks", 2, "--seq-len", 16, *words)
                self.assertNotEqual(done.returncode, 0)
                self.assertEqual(done.stdout, "")
                for word in said:
                    self.assertIn(word, done.stderr)
                self.assertEqual(len(done.stderr.strip().splitlines()), 1,
                                 done.stderr)


if __name__ == "__main__":
    unittest.main()
