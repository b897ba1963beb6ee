"""The memory of `ringweave train` on a corpus that may be larger than it.

RINGWEAVE_LONG=1 takes a corpus of 4 GiB, in a cgroup of 1 GiB where one can be
made, instead of one of 128 MiB.
"""

import contextlib
import json
import os
import pathlib
import random
import statistics
import subprocess
import threading
import time
import unittest

import cli
import test_data

LONG = os.environ.get("RINGWEAVE_LONG") == "1"
MIB = 1 << 20
TAIL = 8192  # bytes with the last two lines of metrics


@contextlib.contextmanager
def memory_cgroup(limit):
    """The file to write a process's id to; None where none can be made."""
    root = pathlib.Path("/sys/fs/cgroup")
    v1 = (root / "memory").is_dir()
    group = (root / "memory" if v1 else root) / f"ringweave-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        name = "memory.limit_in_bytes" if v1 else "memory.max"
        try:
            (group / name).write_text(str(limit))
            procs = group / "cgroup.procs"
        except OSError:
            procs = None
        yield procs
    finally:
        group.rmdir()


class Memory(test_data.DataTest):
    STEPS = 1000

    def resident(self, corpus, cgroup=None):
        """Samples of (step, KiB by kind) of a run on one large file."""
        run = self.folder / f"run-{corpus.stat().st_size}"
        config = self.config(**{
            "data.files": [str(corpus)], "data.validation_fraction": 0.01,
            "compute": "float32", "steps": self.STEPS, "validation.batches": 1,
            "validation.every": 0})
        process = subprocess.Popen(
            [cli.BINARY, "train", "--config", config, "--run-dir", run],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: cgroup and cgroup.write_text(str(os.getpid())))
        self.addCleanup(process.kill)
        err = []
        reader = threading.Thread(target=lambda: err.append(process.stderr.read()))
        reader.start()
        samples = []
        status = pathlib.Path(f"/proc/{process.pid}/status")
        metrics = run / "metrics.jsonl"
        while process.poll() is None:
            with contextlib.suppress(OSError, IndexError, ValueError, KeyError):
                text = status.read_text()
                kib = {line.split(":")[0]: int(line.split()[1])
                       for line in text.splitlines()
                       if line.startswith(("VmRSS", "RssAnon"))}
                with open(metrics, "rb") as file:
                    file.seek(max(0, metrics.stat().st_size - TAIL))
                    last = file.read().splitlines()[-2]
                # A process that has just ended has none.
                if kib:
                    samples.append((json.loads(last)["step"], kib))
            time.sleep(0.005)
        reader.join()
        process.stderr.close()
        self.assertEqual(process.returncode, 0, err[0])
        return samples

    def corpus(self, name, size):
        """A file of text of that size, without holding it."""
        path = self.folder / name
        draw = random.Random(2)
        block = "".join(test_data.documents(2000)).encode()[:MIB // 16]
        with open(path, "wb") as file:
            while file.tell() < size:
                file.write(block[draw.randrange(1000):])
        return path

    def median(self, samples, kind, first, last):
        within = [kib[kind] for step, kib in samples if first <= step <= last]
        self.assertGreater(len(within), 5)
        return statistics.median(within)

    def test_a_corpus_may_be_larger_than_memory(self):
        small = self.resident(self.corpus("small.txt", MIB))
        large = self.corpus("large.txt", 4096 * MIB if LONG else 128 * MIB)
        with memory_cgroup(1024 * MIB) as cgroup:
            samples = self.resident(large, cgroup)
            limited = cgroup is not None
        anonymous = self.median(samples, "RssAnon", 300, self.STEPS)
        of_small = self.median(small, "RssAnon", 300, self.STEPS)
        early = self.median(samples, "VmRSS", 200, 300)
        late = self.median(samples, "VmRSS", 900, self.STEPS)
        print(f"{large.stat().st_size / MIB:.0f} MiB of text, "
              f"{'in a cgroup of 1 GiB' if limited else 'without a cgroup'}: "
              f"anonymous memory {anonymous} KiB, {of_small} KiB with 1 MiB of "
              f"text; resident {early} KiB in steps 200-300, {late} KiB in steps "
              f"900-{self.STEPS}")
        self.assertLess(anonymous, 1.02 * of_small)
        self.assertLess(late, 1.01 * early)


if __name__ == "__main__":
    unittest.main()
