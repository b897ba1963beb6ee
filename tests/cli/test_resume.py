"""Checkpoints of `ringweave train`: kill it, go on, get the same losses.

RINGWEAVE_LONG=1 kills 50 times instead of a few.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
import unittest
import unittest.mock

import cli
from run_lines import lines_of
import test_torchrun
import test_train

LONG = os.environ.get("RINGWEAVE_LONG") == "1"
STEPS = 60


class ResumeTest(test_train.TrainTest):
    def setUp(self):
        super().setUp()
        self.run_dir = self.folder / "run"

    def arguments(self, *more, **changes):
        return super().arguments(*more, **{
            "steps": STEPS, "compute": "float32",
            "validation.every": 20, "checkpoint": {"every_steps": 3},
            **changes})

    def resumed(self, *more, **changes):
        return self.arguments("--run-dir", self.run_dir, "--resume", "auto",
                              *more, **changes)

    def lines(self, kind, run=None):
        return lines_of(run or self.run_dir, kind)

    def figures(self, run=None):
        """What must not depend on how often a run was ended."""
        return ([(line["step"], line["loss"], line["grad_norm"])
                 for line in self.lines("step", run)],
                [(line["step"], line["loss"])
                 for line in self.lines("validation", run)])

    def undisturbed(self, **changes):
        run = self.folder / "undisturbed"
        self.results(*self.arguments("--json", "--run-dir", run, **changes))
        return self.figures(run)

    def checkpoints(self):
        return sorted(
            path.name for path in (self.run_dir / "checkpoints").iterdir())

    def start_and_wait_for(self, text, *arguments):
        process = subprocess.Popen(
            [cli.BINARY, *map(str, arguments)], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        while text not in process.stderr.readline():
            self.assertIsNone(process.poll())
        return process


class Resume(ResumeTest):
    def test_a_run_folder_ends_with_a_checkpoint(self):
        self.results(*self.resumed("--json", checkpoint={}))
        self.assertEqual(self.checkpoints(), [f"step-{STEPS:08}"])
        folder = self.run_dir / "checkpoints" / f"step-{STEPS:08}"
        self.assertEqual(
            sorted(path.name for path in folder.iterdir()),
            ["manifest.json", "model.safetensors",
             "optimizer-00001-of-00002.safetensors",
             "optimizer-00002-of-00002.safetensors", "state.json"])
        self.assertEqual([line["step"] for line in self.lines("checkpoint")],
                         [STEPS])

    def test_a_signal_saves_and_the_run_goes_on_bit_by_bit(self):
        wanted = self.undisturbed()
        for how in (signal.SIGINT, signal.SIGTERM):
            shutil.rmtree(self.run_dir, ignore_errors=True)
            process = self.start_and_wait_for("step 1/", *self.resumed())
            process.send_signal(how)
            out, err = process.communicate(timeout=cli.SECONDS)
            self.assertEqual(process.returncode, 128 + how, err)
            self.assertEqual(out, "")
            self.assertIn("checkpoint after", err)
            self.assertIn(f"stopped by signal {int(how)}", err)
            done = self.lines("step")[-1]["step"]
            self.assertLess(done, STEPS)
            self.assertIn(f"step-{done:08}", self.checkpoints())
            got = self.results(*self.resumed("--json"))
            self.assertEqual(got["steps"], STEPS - done)
            self.assertEqual(self.figures(), wanted)
            self.assertEqual(self.lines("resume"),
                             [{"kind": "resume", "step": done, "ranks": 2}])

    def test_killed_at_random_moments(self):
        wanted = self.undisturbed()
        draw = random.Random(3)
        kills = 0
        goal = 34 if LONG else 4
        while kills < goal:
            # Killed as often as wanted, it begins anew.
            process = subprocess.Popen(
                [cli.BINARY, *map(str, self.resumed())],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            time.sleep(draw.uniform(0, 1.2))
            process.kill()
            _, err = process.communicate(timeout=cli.SECONDS)
            if process.returncode == 0:
                self.assertEqual(self.figures(), wanted)
                shutil.rmtree(self.run_dir)
                continue
            self.assertEqual(process.returncode, -signal.SIGKILL, err)
            kills += 1
        got = self.results(*self.resumed("--json"))
        self.assertLessEqual(got["steps"], STEPS)
        self.assertEqual(self.figures(), wanted)
        self.assertFalse([name for name in self.checkpoints()
                          if name.endswith(".partial")])

    def test_other_ranks_go_on_within_rounding(self):
        changes = {"compute": "float64"}
        losses = [loss for _, loss, _ in self.undisturbed(**changes)[0]]
        process = self.start_and_wait_for("step 1/", *self.resumed(**changes))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=cli.SECONDS)
        self.results(*self.resumed("--json", "--ranks", 3, "--set",
                                   "parallel.softmax=ring", **changes))
        for (_, got, _), wanted in zip(self.figures()[0], losses, strict=True):
            self.assertAlmostEqual(got, wanted, delta=1e-9)

    def test_resume_takes_folders_and_needs_no_config(self):
        wanted = self.undisturbed()
        self.results(*self.resumed("--json", "--steps", 6))
        for folder in (self.run_dir,
                       self.run_dir / "checkpoints" / "step-00000006"):
            copy = self.folder / "copy"
            shutil.copytree(self.run_dir, copy)
            place = copy / folder.relative_to(self.run_dir)
            self.results("train", "--json", "--resume", place, "--steps", 9)
            self.assertEqual(len(self.figures(copy)[0]), 9)
            shutil.rmtree(copy)
        # With its own config it has nothing left to do.
        got = self.results("train", "--json", "--resume", self.run_dir)
        self.assertEqual(got["steps"], 0)
        self.assertIsNone(got["first_loss"])
        self.assertEqual(wanted[0][0], self.figures()[0][0])

    def test_what_cannot_be_resumed_is_one_error(self):
        def refused(*words, arguments=None):
            before = self.figures()
            self.assert_fault(cli.run(*arguments), *words)
            self.assertEqual(self.figures(), before)

        self.results(*self.resumed("--json", "--steps", 6))
        newest = self.run_dir / "checkpoints" / "step-00000006"
        for field, value, words in (
                ("model.hidden", 64, ("model.hidden 64", "want 32")),
                ("data.batch", 3, ("data.batch 3", "want 2")),
                ("seed", 8, ("seed 8",)),
                ("compute", "float64", ("compute",)),
                ("validation.every", 1, ("validation.every 1",)),
                ("optimizer.beta1", 0.5, ("optimizer.beta1 0.5",)),
                ("steps", 5, ("steps", "at least 6"))):
            refused(*words, arguments=self.resumed(**{field: value}))
        text = self.text.read_text()
        self.text.write_text(text.replace("dull", "Dull"))
        refused("data of hash", arguments=self.resumed())
        self.text.write_text(text)

        nowhere = self.folder / "nowhere"
        refused("run.json", arguments=self.arguments("--resume", nowhere))
        refused("is not there", arguments=self.arguments(
            "--resume", newest.with_name("step-00000004")))
        refused("later checkpoint", "step-00000006", arguments=self.arguments(
            "--resume", newest.with_name("step-00000003")))
        refused("same run", arguments=self.arguments(
            "--resume", newest, "--run-dir", self.folder / "other"))
        refused("--run-dir", arguments=self.arguments("--resume", "auto"))
        refused("no --config", arguments=["train"])
        refused("no --config", arguments=[
            "train", "--run-dir", nowhere, "--resume", "auto"])
        refused("new or empty", arguments=self.arguments(
            "--run-dir", self.run_dir))

        (newest / "state.json").write_text("{")
        refused("state.json", arguments=self.resumed())
        (newest / "state.json").unlink()
        refused("state.json", arguments=self.resumed())

    def test_a_full_disk_after_a_signal_is_a_failure(self):
        """Not a run that was stopped well."""
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

        process = subprocess.Popen(
            [cli.BINARY, *map(str, self.resumed(
                steps=100000, checkpoint={}))], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, preexec_fn=limit)
        self.addCleanup(process.kill)
        while "step 1/" not in process.stderr.readline():
            self.assertIsNone(process.poll())
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=cli.SECONDS)
        self.assertEqual(process.returncode, 1, err)
        self.assertIn("File too large", err.splitlines()[-1])
        self.assertEqual(self.checkpoints(), [])

    def test_a_checkpoint_of_another_name(self):
        self.results(*self.resumed("--json", "--steps", 6))
        folder = self.run_dir / "checkpoints"
        shutil.rmtree(folder / "step-00000003")
        (folder / "step-00000006").rename(folder / "step-00000005")
        self.assert_fault(cli.run(*self.resumed()), "got step 6; want 5")

    def test_a_foreign_folder_stays_as_it_is(self):
        self.run_dir.mkdir()
        (self.run_dir / "run.json").write_text('{"name": "other"}')
        self.assert_fault(cli.run(*self.resumed()), "run.json", "format")
        self.assertEqual(len(list(self.run_dir.iterdir())), 1)

    def test_a_refused_start_does_not_block_the_next(self):
        self.run_dir.mkdir()
        (self.run_dir / "run.lock").touch()
        self.results(*self.arguments("--json", "--run-dir", self.run_dir))

    def test_damaged_checkpoints_are_one_error(self):
        self.results(*self.resumed("--json", "--steps", 6))
        newest = self.run_dir / "checkpoints" / "step-00000006"
        for path in newest.glob("*.safetensors"):
            before = path.read_bytes()
            path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
            done = cli.run(*self.resumed())
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(str(path), done.stderr.splitlines()[-1])
            path.write_bytes(before)
        self.results(*self.resumed("--json"))

    def test_one_process_at_a_time(self):
        process = self.start_and_wait_for(
            "step 1/", *self.resumed(steps=100000))
        self.assert_fault(cli.run(*self.resumed(steps=100000)), str(self.run_dir),
                          "another process trains")
        process.kill()
        process.communicate(timeout=cli.SECONDS)
        self.results(*self.resumed("--json", steps=self.lines("step")[-1]["step"]))

    def test_a_run_that_was_killed_before_its_first_checkpoint(self):
        wanted = self.undisturbed()
        process = self.start_and_wait_for(
            "step 1/", *self.resumed(checkpoint={"every_steps": 0}))
        process.kill()
        process.communicate(timeout=cli.SECONDS)
        self.results(*self.resumed("--json"))
        self.assertEqual(self.figures(), wanted)

    def test_dry_run_looks_at_the_checkpoint(self):
        self.results(*self.resumed("--json", "--steps", 6))
        before = self.figures()
        got = self.results(*self.resumed("--dry-run"))
        self.assertEqual(got["checkpoint"],
                         {"every_steps": 3, "keep_last": 2, "keep_every": 0})
        self.assert_fault(cli.run(*self.resumed("--dry-run", seed=8)), "seed")
        self.assertEqual(self.figures(), before)


@unittest.skipUnless(os.environ.get("RINGWEAVE_LIBRARY"),
                     "built without the operators")
class ResumeOfProcesses(ResumeTest, test_torchrun.ProcessTest):
    RANKS = 2

    def setUp(self):
        super().setUp()
        # How long a rank waits in vain for one that was killed at its start.
        environment = unittest.mock.patch.dict(
            os.environ, RINGWEAVE_TIMEOUT_SECONDS="25")
        environment.start()
        self.addCleanup(environment.stop)

    def test_ranks_are_killed_at_random_moments(self):
        wanted = self.undisturbed()
        draw = random.Random(4)
        for kill in range(10 if LONG else 2):
            processes = self.start([self.resumed()] * self.RANKS)
            # The first of them begins the run's folder.
            while not (self.run_dir / "metrics.jsonl").exists():
                time.sleep(0.05)
            time.sleep(draw.uniform(0, 1.5))
            victims = (processes if kill % 2 == 0 else
                       [draw.choice(processes)])
            for process in victims:
                process.kill()
            for code, _, err in self.finish(processes):
                self.assertIn(code, (0, 1, -signal.SIGKILL), err)
        done = self.finish(self.start([self.resumed("--json")] * self.RANKS))
        self.assertEqual([code for code, _, _ in done], [0] * self.RANKS)
        self.assertEqual(self.figures(), wanted)
        self.assertFalse([name for name in self.checkpoints()
                          if name.endswith(".partial")])

    def test_a_signal_to_one_rank_stops_all_after_the_same_step(self):
        wanted = self.undisturbed()
        processes = self.start([self.resumed()] * self.RANKS)
        while "step 1/" not in processes[0].stderr.readline():
            self.assertIsNone(processes[0].poll())
        processes[1].send_signal(signal.SIGTERM)
        for code, _, err in self.finish(processes):
            self.assertEqual(code, 128 + signal.SIGTERM, err)
            self.assertIn("stopped by signal 15", err)
        step = self.lines("step")[-1]["step"]
        self.assertIn(f"step-{step:08}", self.checkpoints())
        # Other ranks write the rest, of which the first ones are the same.
        self.results(*self.resumed("--json"))
        self.assertEqual(self.figures(), wanted)

    def launcher(self, *more):
        return [*self.command(*self.resumed(), ranks=self.RANKS)[:3],
                "--standalone", "--max-restarts", "2", "--nproc-per-node",
                str(self.RANKS), *more, "-m", "ringweave",
                *map(str, self.resumed())]

    def start_launcher(self):
        launcher = subprocess.Popen(
            self.launcher(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True)
        self.addCleanup(self.end, launcher)
        workers = self.workers(launcher, "checkpoint after 3 steps", self.RANKS)
        self.addCleanup(self.kill, workers)
        return launcher, workers

    def test_torchrun_goes_on_by_itself(self):
        wanted = self.undisturbed()
        launcher, workers = self.start_launcher()
        os.kill(workers[1], signal.SIGKILL)
        _, err = launcher.communicate(timeout=cli.SECONDS)
        self.assertEqual(launcher.returncode, 0, err)
        self.assertEqual(self.figures(), wanted)
        self.assertEqual(len(self.lines("resume")), 1)

    def test_the_launcher_is_killed(self):
        wanted = self.undisturbed()
        for _ in range(6 if LONG else 1):
            shutil.rmtree(self.run_dir, ignore_errors=True)
            launcher, workers = self.start_launcher()
            launcher.kill()
            self.kill(workers)
            launcher.communicate(timeout=cli.SECONDS)
            done = subprocess.run(self.launcher(), text=True,
                                  capture_output=True, timeout=cli.SECONDS)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.figures(), wanted)


if __name__ == "__main__":
    unittest.main()
