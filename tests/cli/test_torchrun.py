"""The same program as one process per rank: torchrun, and without a launcher."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

import cli
from free_port import free_port
import test_train

RANKS = 4


@unittest.skipUnless(os.environ.get("RINGWEAVE_LIBRARY"),
                     "built without the operators")
class ProcessTest(test_train.TrainTest):
    def command(self, *arguments, ranks=RANKS):
        """The command line of torchrun for `ringweave arguments…`."""
        return [sys.executable, "-m", "torch.distributed.run",
                "--nproc-per-node", str(ranks), "--master-port",
                str(free_port()), "-m", "ringweave", *map(str, arguments)]

    def torchrun(self, *arguments, ranks=RANKS):
        """The finished torchrun of `ringweave arguments…`."""
        return subprocess.run(self.command(*arguments, ranks=ranks), text=True,
                              capture_output=True, timeout=cli.SECONDS)

    def start(self, commands, folders=None):
        """One process per command line, joined by env:// without a launcher.
        `folders`: where each runs; without, all here."""
        port = free_port()
        processes = []
        for rank, arguments in enumerate(commands):
            environment = dict(
                os.environ, RANK=str(rank), WORLD_SIZE=str(len(commands)),
                MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
                OMP_NUM_THREADS="1")
            process = subprocess.Popen(
                [sys.executable, "-m", "ringweave", *map(str, arguments)],
                env=environment, text=True, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, cwd=folders and folders[rank])
            self.addCleanup(self.end, process)
            processes.append(process)
        return processes

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def finish(self, processes):
        """(exit code, stdout, stderr) of each."""
        return [(process.returncode, *streams) for process, streams in
                [(p, p.communicate(timeout=cli.SECONDS)) for p in processes]]

    @staticmethod
    def kill(pids):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def workers(self, launcher, text="step 1/", ranks=RANKS):
        """Process ids of torchrun's workers, once they have said `text`."""
        while text not in launcher.stderr.readline():
            self.assertIsNone(launcher.poll())
        children = pathlib.Path(f"/proc/{launcher.pid}/task/{launcher.pid}/"
                                "children").read_text().split()
        self.assertEqual(len(children), ranks)
        return [int(child) for child in children]

    def ringweave_lines(self, text):
        return [line for line in text.splitlines()
                if line.startswith("ringweave:")]


class Torchrun(ProcessTest):
    def test_equal_bits_as_ranks_in_threads(self):
        threads = self.train("--ranks", RANKS)
        done = self.torchrun(*self.arguments("--json"))
        self.assertEqual(done.returncode, 0, done.stderr)
        processes = json.loads(done.stdout)
        for key in ("losses", "validation_loss", "bytes_sent"):
            self.assertEqual(processes[key], threads[key])

    def test_one_clear_error_for_all_ranks(self):
        done = self.torchrun(*self.arguments("--ranks", 3))
        self.assertNotEqual(done.returncode, 0)
        lines = self.ringweave_lines(done.stderr)
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertIn("--ranks 3", lines[0])
        self.assertEqual(done.stdout, "")

    def test_killed_or_stopped_worker(self):
        for how in (signal.SIGKILL, signal.SIGSTOP):
            launcher = subprocess.Popen(
                self.command(*self.arguments(
                    **{"steps": 100000, "time_outs.step_seconds": 6})),
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            self.addCleanup(self.end, launcher)
            workers = self.workers(launcher)
            self.addCleanup(self.kill, workers)
            os.kill(workers[1], how)
            _, err = launcher.communicate(timeout=cli.SECONDS)
            self.assertNotEqual(launcher.returncode, 0, err)

    def test_benchmarks(self):
        for arguments, cases in (
                (("attention", "--strategy", "ring,direct", "--kv-heads", 2), 2),
                (("linear", "--exchange", "chain"), 1)):
            done = self.torchrun("bench", *arguments, "--json", "--seq-len", 93,
                                 "--heads", 4, "--head-dim", 8, "--dtype",
                                 "float64", "--repeat", 1, ranks=3)
            self.assertEqual(done.returncode, 0, done.stderr)
            got = json.loads(done.stdout)
            self.assertEqual((got["ranks"], len(got["cases"])), (3, cases))
            for case in got["cases"]:
                self.assertLess(case["max_error"], 1e-10)
                self.assertEqual([(link["from"], link["to"])
                                  for link in case["links"]],
                                 [(a, b) for a in range(3) for b in range(3)
                                  if a != b])
                for link in case["links"]:
                    self.assertEqual(link["sent_bytes"], link["planned_bytes"])
        done = self.torchrun("bench", "exchange", "--json", "--shard-bytes",
                             "64KiB", "--repeat", 1, ranks=3)
        self.assertEqual(done.returncode, 0, done.stderr)
        got = json.loads(done.stdout)
        self.assertTrue(got["processes"])
        self.assertEqual(len(got["cases"]), 8)

    def test_topology_prints_once(self):
        done = self.torchrun("topology", "decompose", "--ranks", 5, "--json",
                             ranks=2)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["ranks"], 5)


class WithoutALauncher(ProcessTest):
    def commands(self, changes):
        """A train command per entry of `changes`, each with its own config."""
        commands = []
        for rank, change in enumerate(changes):
            path = self.folder / f"config-{rank}.json"
            path.write_text(json.dumps(test_train.tiny_config(**change)))
            commands.append(["train", "--config", path, "--data", self.text])
        return commands

    def test_different_configs_are_one_error(self):
        done = self.finish(self.start(self.commands([{}, {}, {"seed": 8}])))
        self.assertEqual([code for code, _, _ in done], [2, 2, 2])
        lines = self.ringweave_lines("".join(err for _, _, err in done))
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("config", lines[0])
        self.assertNotIn("Traceback", "".join(err for _, _, err in done))

    def test_different_files_of_a_benchmark_are_one_error(self):
        """Their names are equal; what lies there is not."""
        folders = []
        for rank, name in enumerate(("mesh:ranks=2", "two_level:ranks=2,nodes=2")):
            folder = self.folder / str(rank)
            folder.mkdir()
            (folder / "machine.json").write_text(
                cli.run("topology", "show", name, "--json").stdout)
            folders.append(folder)
        words = ["bench", "attention", "--compute", "emulate", "--device-table",
                 "h100", "--seq-len", "64", "--repeat", "1", "--topology",
                 "machine.json"]
        done = self.finish(self.start([words] * 2, folders=folders))
        self.assertEqual([code for code, _, _ in done], [2, 2])
        lines = self.ringweave_lines("".join(err for _, _, err in done))
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("topology", lines[0])

    def test_one_rank_that_can_not_start_is_one_error(self):
        done = self.finish(self.start(self.commands(
            [{}, {"model.pattern": "LX"}, {}])))
        self.assertEqual([code for code, _, _ in done], [2, 2, 2])
        lines = self.ringweave_lines("".join(err for _, _, err in done))
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("rank 1", lines[0])
        self.assertIn("pattern", lines[0])

    def test_a_rank_that_never_gets_ready(self):
        """The config's start time-out holds before ranks compare it, too."""
        commands = self.commands([{"time_outs.start_seconds": 4}] * 2)
        endless = self.folder / "endless.json"
        os.mkfifo(endless)  # whoever reads it waits for a writer
        commands[1][2] = endless
        started = time.monotonic()
        waiting, stuck = self.start(commands)
        (code, _, err), = self.finish([waiting])
        self.assertEqual(code, 1, err)
        self.assertIn("rank 1", "".join(self.ringweave_lines(err)))
        self.assertLess(time.monotonic() - started, 45)

    def fail_one(self, how, first_failed):
        """Sends rank 2 a signal in the middle of training; the others' ends.
        `first_failed`: at the end of their errors."""
        processes = self.start(self.commands(
            [{"steps": 100000, "time_outs.step_seconds": 6}] * RANKS))
        # Rank 0 says how far it is.
        while "step 1/" not in processes[0].stderr.readline():
            self.assertIsNone(processes[0].poll())
        time.sleep(0.5)
        processes[2].send_signal(how)
        started = time.monotonic()
        done = self.finish(p for rank, p in enumerate(processes) if rank != 2)
        self.assertLess(time.monotonic() - started, 30)
        for code, _, err in done:
            self.assertEqual(code, 1, err)
            self.assertEqual(len(self.ringweave_lines(err)), 1, err)
            self.assertNotIn("Traceback", err)
            self.assertRegex(
                self.ringweave_lines(err)[0],
                r"^ringweave: rank [013]: \[[^]]*: (send|receive)\] "
                rf"[^(]*{first_failed}$")

    def test_killed_rank(self):
        self.fail_one(signal.SIGKILL, r"\(first failed: rank 2\)")

    def test_stopped_rank(self):
        # The others time out together. It is known only where all say so.
        self.fail_one(signal.SIGSTOP, r"(\(first failed: rank 2\))?")

    def test_terminated_ranks(self):
        processes = self.start(self.commands([{"steps": 100000}] * RANKS))
        while "step 1/" not in processes[0].stderr.readline():
            self.assertIsNone(processes[0].poll())
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for code, _, err in self.finish(processes):
            self.assertEqual(code, 128 + signal.SIGTERM, err)
            self.assertIn("stopped by signal 15", err)


if __name__ == "__main__":
    unittest.main()
