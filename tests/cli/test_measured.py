"""The scripts of benchmarks/measured/, on models that take a moment: what they make
has the form of the pages of docs/results/, and a study goes on where it stopped."""

import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

from cli import BINARY

ROOT = pathlib.Path(__file__).resolve().parents[2]
MEASURED = ROOT / "benchmarks/measured"
for folder in (MEASURED.parent, MEASURED):
    sys.path.insert(0, str(folder))
import convergence  # noqa: E402
import pages  # noqa: E402
import peers  # noqa: E402
import step_time  # noqa: E402
from machines import Bench, Threads  # noqa: E402

STEPS = 1500  # of a run that takes some seconds
SMALL = {"hidden": 16, "intermediate": 16, "layers": 2, "heads": 2}


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def patch(self, module, **values):
        for name, value in values.items():
            self.addCleanup(setattr, module, name, getattr(module, name))
            setattr(module, name, value)

    def assert_form(self, text, page):
        """Headings, and heads of tables, are those of the page."""
        got, want = map(pages.structure, (text, page.read_text()))
        for heading in got:
            # Parts of a step are those of a machine each.
            alike = heading if heading in want else list(want)[-1]
            self.assertEqual(heading[:4], alike[:4])
            self.assertEqual(got[heading][:1], want[alike][:1])


class Convergence(Folder):
    def study(self, **changes):
        text = self.folder / "text"
        text.write_text("".join(f"{i} is less than {i + 1}. " for i in range(4000)))
        self.patch(convergence,
                   CONFIG={**convergence.CONFIG, "model": {
                       **convergence.CONFIG["model"], **SMALL},
                       "data": {"seq_len": 32, "batch": 2},
                       "validation": {"batches": 2}},
                   REPEATED=[convergence.BASELINE,
                             convergence.Model("basic", convergence.PURE),
                             *convergence.ENCODERS],
                   ONCE=[convergence.Model("basic", "1/2")])
        options = {"binary": BINARY, "text": text, "steps": 4, "full": False,
                   **changes}
        return convergence.Study(self.folder / "study", **options)

    def test_stops_goes_on_and_reports(self):
        study = self.study()
        self.assertEqual(len(study.planned), 13)
        study.train(0)
        self.assertEqual(len(study.left()), 13)
        self.assertIn("Left out, 13 of 13 runs: softmax (seed 1); basic, pure",
                      convergence.report(study))
        while len(study.left()) == 13:
            study.train(4)
        first = {path: path.stat().st_mtime_ns
                 for path in study.folder.glob("*_*.json")}
        # The folder keeps what it has, whoever goes on.
        study = self.study()
        study.train(600)
        self.assertEqual(study.left(), [])
        for path, changed in first.items():
            self.assertEqual(path.stat().st_mtime_ns, changed)
        text = convergence.report(study)
        self.assertIn("Nothing that was planned is left out.", text)
        self.assert_form(text, convergence.PAGE)
        losses = pages.structure(text)["## Losses"]
        self.assertEqual([row[:2] for row in losses[2:]],
                         [["softmax", "3"], ["basic, pure", "3"],
                          ["encoder, softmax", "3"], ["encoder, basic, pure", "3"],
                          ["basic, 1/2", "1"]])
        orderings = pages.structure(text)["## Orderings, Tables 2 and 3"]
        self.assertEqual([row[0] for row in orderings[2:]],
                         ["basic, pure − softmax",
                          "encoder, basic, pure − encoder, softmax"])
        convergence.draw(study).savefig(self.folder / "picture.svg")
        self.assertEqual(pages.differences(text, text), [])
        self.assertNotEqual(pages.differences(
            text, text.replace("| basic, pure |", "| gla, pure |")), [])

    def test_a_run_that_was_stopped_goes_on(self):
        study = self.study(steps=STEPS)
        case = study.planned[0]
        began = time.monotonic()
        study.planned = [case]
        # Until it has taken some steps; then its time is over.
        while not (lines := self.steps_of(study, case)):
            study.train(0.5 + time.monotonic() - began)
        self.assertLess(lines, STEPS)
        study.train(600)
        self.assertEqual(study.left(), [])
        (trained,) = study.trained(case[0]).values()
        self.assertEqual(len(trained.losses), STEPS)

    def steps_of(self, study, case):
        metrics = study._run_folder(*case) / "metrics.jsonl"
        return (sum('"step"' in line for line in metrics.read_text().splitlines())
                if metrics.exists() else 0)

    def test_another_study_in_the_folder(self):
        self.study()
        with self.assertRaisesRegex(SystemExit, "is of another study"):
            self.study(steps=5)

    def test_a_run_that_fails_is_an_error(self):
        study = self.study()
        study.text.unlink()
        with self.assertRaisesRegex(SystemExit, "seed 1: exit code 2"):
            study.train(60)

    def test_intervals_and_verdicts(self):
        # Student's t of 2 degrees of freedom is 4.303; deviation 0.1, root of 3.
        mean, half = convergence.interval([0.1, 0.2, 0.3])
        self.assertAlmostEqual(mean, 0.2)
        self.assertAlmostEqual(half, 4.30265 * 0.1 / 3 ** 0.5, 5)
        self.assertEqual(convergence.interval([0.1]), (0.1, None))
        for paper, mean, half, want in (
                (0.1, 0.2, 0.1, "holds"), (-0.1, -0.2, 0.1, "holds"),
                (0.1, -0.2, 0.1, "the other way here"),
                (0.1, 0.2, 0.2, "not decided here"),
                (0.1, 0.2, None, "not decided here"),
                (0.0, 0.2, 0.1, "equal in the paper, not here")):
            self.assertEqual(convergence.verdict(paper, mean, half), want)


class StepTime(Folder):
    def test_a_page(self):
        self.patch(step_time, MACHINES=[Threads(2)], LENGTHS=(32, 64, 96),
                   SETTINGS=[*step_time.SETTINGS, *(
                       f"model.{field}={value}" for field, value in {
                           **SMALL, "layers": 4, "head_dim": 8,
                           "kv_heads": 2}.items())])
        bench = Bench(self.folder, 1, BINARY)
        text = step_time.report(bench)
        self.assert_form(text, step_time.PAGE)
        self.assertIn("of 3 cases.", text)  # LASP-2 beside LASP
        self.assertIn("of 2 cases.", text)  # and Ring, without the last length
        speed = pages.structure(text)["## Speed"]
        self.assertEqual([row[:2] for row in speed[-3:]],
                         [["2 threads", "32"], ["2 threads", "64"],
                          ["2 threads", "96"]])
        for cell in speed[-3][2:5]:
            self.assertGreater(pages.spread_of(cell)[0], 0)
        parts = pages.structure(text)["### 2 threads"]
        self.assertEqual(len(parts) - 2, 4 * 2 + 5 * 3 + 2)
        # A second report reads what the first one measured.
        measured = {path: path.stat().st_mtime_ns
                    for path in self.folder.glob("*.json")}
        self.assertEqual(len(measured), 3)
        self.assertEqual(step_time.report(bench), text)
        for path, changed in measured.items():
            self.assertEqual(path.stat().st_mtime_ns, changed)


@unittest.skipUnless(peers.PYTHON.exists(), "tools/setup --peers has not been run")
class BesidePeers(Folder):
    METHODS = ("ringweave, zigzag", "ringweave, contiguous", "torch, balanced",
               "ring-attention-pytorch, contiguous")

    def test_a_page(self):
        self.patch(peers, GONE={"magi-attention": peers.GONE["magi-attention"]})
        timed = [{"name": f"{mask}, 64 tokens", "mask": mask, "tokens": 64,
                  **peers.SHAPE} for mask in ("causal", "full")]

        def probes(ranks):
            return [case for case in peers.probes(ranks) if case["name"] in (
                "causal", "full", "causal, float64", "uneven shards")]

        measured = peers.Peers(self.folder, 1)
        text = peers.report(measured, timed, probes, self.METHODS)
        self.assertIn("### Causal, 64 tokens\n\n1 rounds.", text)
        parts = pages.structure(text)
        speed = parts["### Full, 64 tokens"]
        self.assertEqual([row[0].strip(" †") for row in speed[2:]],
                         [self.METHODS[0], self.METHODS[1], self.METHODS[3]])
        for cell in speed[2][1:]:
            self.assertGreater(pages.spread_of(cell)[0], 0)
        # Ringweave takes everything; torch's balanced templates no full mask.
        accepts = {row[0]: row[1:] for row in parts["## What each accepts"]}
        self.assertEqual(accepts[self.METHODS[0]], ["yes"] * 4)
        self.assertEqual(accepts[self.METHODS[2]][:2], ["yes", "no (1)"])
        self.assertIn("1. `RuntimeError: Load balancing requires", text)
        error = {row[0]: row[1:] for row in parts["## Error"]}
        self.assertLess(max(map(float, error["ringweave, zigzag; 4 ranks"])), 1e-5)
        self.assertEqual(error["torch, balanced; 4 ranks"][3:6], ["–"] * 3)
        self.assertIn("No module named", parts["## What does not run here"][-1][2])
        self.assertNotIn(str(ROOT), text)
        # A second report reads what the first one measured.
        again = peers.Peers(self.folder, 1, python="no/program")
        self.assertEqual(peers.report(again, timed, probes, self.METHODS), text)


class Pages(unittest.TestCase):
    PAGE = "# A\n\n| x | y |\n|---|---|\n| r | 1.00 (0.90–1.10) |\n"

    def differences(self, before, after):
        return pages.differences(self.PAGE, self.PAGE.replace(before, after))

    def test_what_differs(self):
        self.assertEqual(self.differences("1.00 (0.90–1.10)", "1.20 (1.05–1.30)"), [])
        self.assertEqual(len(self.differences("1.00 (0.90–1.10)",
                                              "1.20 (1.11–1.30)")), 1)
        self.assertEqual(len(self.differences("1.00 (0.90–1.10)", "2.00 ± 0.85")), 1)
        self.assertEqual(self.differences("1.00 (0.90–1.10)", "2.00 ± 0.95"), [])
        self.assertEqual(len(self.differences("# A", "# B")), 1)
        self.assertEqual(len(self.differences("| r |", "| s |")), 1)
        self.assertEqual(len(self.differences("| y |", "| z |")), 1)
        self.assertEqual(len(self.differences("| x |", "| x | y |\n| x |")), 1)

    def test_help_and_errors_of_the_scripts(self):
        for script, arguments in (("convergence.py", ["folder"]),
                                  ("step_time.py", []), ("links.py", [])):
            command = [sys.executable, MEASURED / script]
            for more, code, word in ((["--help"], 0, "FOLDER"),
                                     (arguments, 2, "error: no program no/program")):
                done = subprocess.run(
                    [*command, *more], text=True, capture_output=True, timeout=60,
                    env={"RINGWEAVE_BINARY": "no/program"}, check=False)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(word, done.stdout + done.stderr)
                self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    unittest.main()
