"""Models of Transformers 4 and 5 with split sequences, each version in an
environment that `tools/setup --transformers` makes; skipped where there is none."""

import os
import pathlib
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 1200


class SplitModels(unittest.TestCase):
    def run_with(self, version, *arguments):
        python = ROOT / f"build/transformers-{version}/bin/python"
        if not python.exists():
            self.skipTest("tools/setup --transformers has not been run")
        done = subprocess.run(
            [python, *map(str, arguments)], text=True, capture_output=True,
            timeout=SECONDS, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_version_4(self):
        self.run_with(4, ROOT / "tests/multirank/with_transformers.py")

    def test_version_5(self):
        self.run_with(5, ROOT / "tests/multirank/with_transformers.py")

    def test_trainer_of_version_4(self):
        self.run_with(4, ROOT / "tests/multirank/with_trainer.py")

    def test_trainer_of_version_5(self):
        self.run_with(5, ROOT / "tests/multirank/with_trainer.py")

    def test_example(self):
        for ranks, more in ((2, ()), (4, ("--sequence-ranks", 2))):
            printed = self.run_with(
                5, "-m", "torch.distributed.run", "--standalone",
                "--nproc-per-node", ranks, ROOT / "python/examples/finetune.py",
                *more)
            self.assertEqual(len(printed.splitlines()), 5)
            self.assertIn(printed, (ROOT / "docs/python.md").read_text())


if __name__ == "__main__":
    unittest.main()
