"""Operators and layers against independent code, in the environment that
`tools/setup --independent` makes; skipped where there is none."""

import os
import pathlib
import subprocess
import unittest

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = HERE.parents[1] / "build/independent/bin/python"
SECONDS = 600


@unittest.skipUnless(PYTHON.exists(),
                     "tools/setup --independent has not been run")
class Independent(unittest.TestCase):
    def test_operators_and_layers(self):
        # In one process: the import of fla-core takes half of the time.
        subprocess.run([PYTHON, "-W", "ignore:Triton is not supported", "-m",
                        "unittest", "-v", "operators", "layers"],
                       cwd=HERE, check=True, timeout=SECONDS,
                       env={**os.environ, "HF_HUB_OFFLINE": "1"})


if __name__ == "__main__":
    unittest.main()
