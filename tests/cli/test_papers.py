"""The reproductions of benchmarks/: what they are there to show still holds, and
docs/results/ is what they print."""

import pathlib
import subprocess
import sys
import unittest

from cli import BINARY

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
for folder in ("", "papers", "studies"):
    sys.path.insert(0, str(BENCHMARKS / folder))
import lasp2  # noqa: E402
import slow_link  # noqa: E402
import states  # noqa: E402
import tasp_h100  # noqa: E402
import tasp_mi300x  # noqa: E402
import zeco  # noqa: E402
from lab import Lab  # noqa: E402

LAB = Lab(BINARY)


class Papers(unittest.TestCase):
    def near(self, got, wanted, share):
        self.assertLessEqual(abs(got / wanted - 1), share, (got, wanted))

    def test_mi300x_by_length(self):
        rows, _ = tasp_mi300x.five_points(LAB)
        self.assertEqual(len(rows), 5)
        for _, _, paper, *_, mixed, copied in rows:
            self.near(mixed, paper, 0.15)
            self.near(copied, paper, 0.15)
        page = (ROOT / "docs/results/tasp-mi300x.md").read_text()
        self.assertIn(tasp_mi300x.points_text(LAB)[0], page)

    def test_perfect_overlap_is_the_closed_form(self):
        for _, ccr, _, overlapped, *_ in tasp_mi300x.five_points(LAB)[0]:
            block = ccr * 7 / 8
            ring = 7 * max(block, 1) + block
            tasp = 7 * max(block, 1 / 7) + block
            self.near(overlapped, ring / tasp, 1e-3)

    def test_a_switch_gains_nothing_a_mesh_seven_times(self):
        self.near(tasp_h100.switch_gain(LAB), 1, 0.02)
        mesh = "mesh:ranks=8,rate=64e9"
        ring, tasp = (tasp_h100.transfers(LAB, 8, strategy, mesh)[0]
                      for strategy in ("ring", "multi_ring"))
        self.near(ring / tasp, 7, 0.02)

    def test_nic_bytes_of_two_nodes(self):
        for strategy, shards in (("ring", 15), ("multi_ring", 8),
                                 ("paths:nodes=2", 15 / 8),
                                 ("hierarchical:nodes=2,slices=4,"
                                  "inner=multi_ring", 1)):
            _, busiest, _ = tasp_h100.transfers(LAB, 16, strategy)
            self.near(busiest["nic"], shards, 1e-3)

    def test_lasp_is_slowed_by_the_serial_product(self):
        # Paper: 1.073 and 1.152. One to two products per hop.
        for tokens, (_, paper) in lasp2.GAINS.items():
            self.assertLess(lasp2.lasp_gain(LAB, tokens, 0), 1.02)
            self.assertLess(lasp2.lasp_gain(LAB, tokens, 1), paper)
            self.assertLess(paper, 1.01 * lasp2.lasp_gain(LAB, tokens, 2))

    def test_states_travel_as_the_closed_forms_say(self):
        state, ranks, rate = 2 ** 20, 8, 1e9
        mesh = f"mesh:ranks={ranks},rate={rate}"
        for schedule, wanted in (
                (states.chain(ranks, state), 7),
                (states.chain(ranks, state, 4), 1 + 6 / 4),
                (states.sharded_scan(ranks, state), 2 / ranks)):
            done = LAB.play(mesh, schedule, **states.OPTIONS)
            self.near(done["seconds"], wanted * state / rate, 1e-3)

    def test_zeco(self):
        for ranks, gather, scan in zeco.rows(LAB, (8, 16, 64)):
            self.near(gather, zeco.PAPER[ranks][0], 0.15)
            self.near(scan, zeco.PAPER[ranks][1], 0.15)

    def test_synthesised_trees_avoid_a_slow_link(self):
        healthy, bound = slow_link.planned(LAB, 1)
        slowed, slow_bound = slow_link.planned(LAB, 1 / 4)
        self.near(slowed["multi_ring"] / healthy["multi_ring"], 4, 0.02)
        self.near(slowed["synthesised"], slow_bound, 0.05)
        self.near(slow_bound / bound, 7 / (6 + 1 / 4), 1e-3)

    def test_help_and_errors_of_the_scripts(self):
        scripts = [BENCHMARKS / "papers/run_all",
                   *BENCHMARKS.glob("papers/*.py"),
                   *BENCHMARKS.glob("studies/*.py")]
        for script in scripts:
            for arguments, code, word in (
                    (["--help"], 0, "PROGRAM"),
                    (["no/program"], 2, "error: no program no/program; want")):
                done = subprocess.run(
                    [sys.executable, script, *arguments], text=True,
                    capture_output=True, timeout=60, check=False)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(word, done.stdout + done.stderr)
                self.assertNotIn("Traceback", done.stderr)

    def test_pages_are_as_made(self):
        # The quick ones; benchmarks/papers/run_all --check compares all.
        done = subprocess.run(
            [sys.executable, BENCHMARKS / "papers/run_all", "--check", BINARY,
             "lasp2", "zeco", "slow-link", "strategies", "scaling"], text=True, capture_output=True,
            timeout=600, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
