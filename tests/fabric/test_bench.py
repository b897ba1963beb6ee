"""What `ringweave bench` measures on links whose rates the kernel holds. Rates
are limits that nothing but an error of the fabric can pass; how near a run
comes to them is no test, since other work may hold the cores."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # tests/
from fabric import refusal

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "fabric"
SECONDS = 200
RANKS, LINK_MBIT, SHARD = 4, 400, 4 << 20
SLOW = "0-1=0.2"
# A row below is an error of the fabric: what a link lets through at once when it
# was idle, and its rounding.
LEAST = 0.97
REFUSAL = refusal()


def fabric(command, *arguments):
    return subprocess.run(
        [sys.executable, TOOL, command, f"mesh:ranks={RANKS}", "--link-mbit",
         str(LINK_MBIT), *map(str, arguments)],
        text=True, capture_output=True, timeout=SECONDS)


@unittest.skipIf(REFUSAL and os.geteuid() != 0, REFUSAL)
class BenchOnLinks(unittest.TestCase):
    def bench(self, *arguments, links=()):
        with tempfile.TemporaryDirectory() as folder:
            topology = pathlib.Path(folder) / "mesh.json"
            topology.write_text(fabric("topology", *links).stdout)
            done = fabric("run", *links, "--", sys.executable, "-m",
                          "ringweave", "bench", *arguments, "--json",
                          "--topology", topology)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_exchange(self):
        got = self.bench("exchange", "--shard-bytes", SHARD, "--repeat", 2,
                         "--strategy", "ring,multi_ring,direct")
        self.assertTrue(got["processes"])
        self.assertEqual(len(got["cases"]), 6)
        for case in got["cases"]:
            self.assertGreaterEqual(case["over_bound"], LEAST, case)
            # What the busiest link carries.
            least = case["busiest_link_bytes"] * 8 / (LINK_MBIT * 1e6)
            self.assertGreaterEqual(case["seconds"]["min"], LEAST * least, case)
            self.assertGreaterEqual(case["bare_seconds"]["min"], LEAST * least,
                                    case)

    def test_a_slow_link_is_named(self):
        got = self.bench("exchange", "--shard-bytes", 1 << 20, "--repeat", 1,
                         "--strategy", "direct", "--only", "forward",
                         links=("--slow", SLOW))
        if got["slow_links"] is None:
            self.skipTest("the processor was too busy to tell links apart")
        slow = {(link["from"], link["to"]) for link in got["slow_links"]}
        self.assertLessEqual({(0, 1), (1, 0)}, slow)

    def test_emulated_compute(self):
        got = self.bench("attention", "--compute", "emulate", "--device-table",
                         "custom:rate=1e10", "--seq-len", 4096, "--repeat", 1,
                         "--strategy", "multi_ring")
        for case in got["cases"]:
            for part in ("compute_seconds", "transfer_seconds"):
                self.assertGreaterEqual(case["seconds"]["min"],
                                        LEAST * case[part], part)


if __name__ == "__main__":
    unittest.main()
