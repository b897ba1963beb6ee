"""Faults of ranks and links in the middle of training, on links of namespaces:
who is named, how long it takes, and what is left.

    5 faults x 4 phases of `python -m ringweave train` on 4 ranks of a mesh

A phase is hit by configs in which it lasts long, and by the lines of
metrics.jsonl between which it lies. Errors say what ranks were doing; a fault
that met another phase is tried again.

The random choices are printed. Environment variables:

    RINGWEAVE_LONG=1     all phases three times instead of two of them once, one of
                         each fault 20 times, and other exchanges than the default
    RINGWEAVE_PHASES     these alone, such as "backward:5,checkpoint"
    RINGWEAVE_SEED       of the random choices (1)
    RINGWEAVE_VERBOSE=1  prints what the ranks said
"""

import dataclasses
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # tests/
from fabric import Fabric, refusal
from fabric.topology import parse
from run_lines import lines_of
from test_wiring import mesh

RANKS = 4
STEPS = 7
STEP_SECONDS = 5  # time_outs.step_seconds
# What a rank takes beside it to ask others who failed, and to leave the group.
MARGIN_SECONDS = 5
RUN_SECONDS = 60
TRIES = 8
MANY = 20
SEED = os.environ.get("RINGWEAVE_SEED", "1")
VERBOSE = os.environ.get("RINGWEAVE_VERBOSE") == "1"
LONG = os.environ.get("RINGWEAVE_LONG") == "1"
BINARY = os.environ.get("RINGWEAVE_BINARY")
REFUSAL = refusal()

# At a tenth of the rate a message takes no more than a second.
LONG_SEQUENCES = {
    "mbit": 100,
    "model": {"hidden": 64, "intermediate": 64, "layers": 2, "heads": 2,
              "head_dim": 64, "pattern": "LN", "linear": {"kind": "lightning"}},
    "data": {"seq_len": 3001, "batch": 1, "validation_fraction": 0.45},
    "validation": {"every": 1, "batches": 3},
    "checkpoint": {"every_steps": 2},
}
MANY_WEIGHTS = {
    "mbit": 400,
    "model": {"vocab_size": 8192, "hidden": 256, "intermediate": 256,
              "layers": 1, "heads": 2, "pattern": "N"},
    "data": {"seq_len": 15, "batch": 1, "validation_fraction": 0},
    "validation": {},
    "checkpoint": {"every_steps": 1},
}


@dataclasses.dataclass(frozen=True)
class Phase:
    """What lies in a part of the time between two lines of metrics.jsonl."""
    config: dict
    after: str  # kind of the line before it
    until: str
    part: tuple[float, float]
    said: str  # by a rank that a fault meets there


PHASES = {
    # Validation goes forward alone.
    "forward": Phase(LONG_SEQUENCES, "step", "validation", (0.05, 0.8),
                     "attention forward"),
    # A step's backward takes twice its forward.
    "backward": Phase(LONG_SEQUENCES, "validation", "step", (0.5, 0.78),
                      "attention backward"),
    "gradients": Phase(MANY_WEIGHTS, "checkpoint", "step", (0.3, 0.7),
                       "all-reduce: (pieces|sums)"),
    "checkpoint": Phase(MANY_WEIGHTS, "step", "checkpoint", (0.05, 0.8),
                        "all-gather|barrier"),
}
EXCHANGES = ["multi_ring", "ring", "direct", "all_gather"]
OF_RANKS = {"kill": Fabric.kill, "stop": Fabric.stop}
OF_LINKS = {"down": Fabric.link_down, "lose": Fabric.lose, "slow": Fabric.slow}
# Of the form without RINGWEAVE_LONG.
SHORT = ["forward", "backward"]
HEAL = {"down": Fabric.link_up, "lose": Fabric.find, "stop": Fabric.kill}
ERROR = re.compile(
    r"ringweave: rank (?P<rank>\d): \[(?P<doing>[^]]*): (send|receive)\] "
    r"rank (?P=rank), peer (?P<peer>\d)(, step \d+)?: (?P<cause>.*?)"
    r"( \(first failed: rank (?P<first>\d)\))?")


def config(of, softmax):
    return {
        "format": "ringweave.config", "version": 1, "steps": STEPS, "seed": 5,
        "compute": "float32", "threads": 1,
        "model": of["model"], "data": {"files": [], **of["data"]},
        "optimizer": {"learning_rate": 0.003, "warmup_steps": 2},
        "parallel": {"ranks": RANKS, "bucket_bytes": 0, "softmax": softmax},
        "validation": of["validation"], "checkpoint": of["checkpoint"],
        "time_outs": {"start_seconds": 30, "step_seconds": STEP_SECONDS},
    }


def figures(run):
    """What no fault may change."""
    return [(line["kind"], line["step"], line["loss"], line.get("grad_norm"))
            for line in lines_of(run) if line["kind"] in ("step", "validation")]


class Watch:
    """The lines of a run's metrics.jsonl with the times at which they came."""

    def __init__(self, run):
        self.seen = []  # (kind, step, seconds)
        self._path = run / "metrics.jsonl"
        self._size = 0

    def look(self):
        try:
            with self._path.open("rb") as file:
                file.seek(self._size)
                text = file.read()
        except FileNotFoundError:
            return
        text = text[:text.rfind(b"\n") + 1]
        self._size += len(text)
        now = time.monotonic()
        for line in map(json.loads, text.splitlines()):
            self.seen.append((line["kind"], line["step"], now))

    def wait_for(self, kind, step, ranks):
        """When the line came."""
        end = time.monotonic() + RUN_SECONDS
        while time.monotonic() < end and all(r.code is None for r in ranks):
            self.look()
            for line in self.seen:
                if line[:2] == (kind, step):
                    return line[2]
            time.sleep(0.002)
        raise AssertionError(f"no {kind} {step}: {self.seen}, ranks ended with "
                             f"{[rank.code for rank in ranks]}")

    def seconds_between(self, after, until):
        """Of the last such lines."""
        end = None
        for kind, _, seconds in reversed(self.seen):
            if kind == until and end is None:
                end = seconds
            if kind == after and end is not None:
                return end - seconds
        raise AssertionError(f"no {after} before {until}: {self.seen}")

    def last(self, kind):
        self.look()
        return max([0] + [step for k, step, _ in self.seen if k == kind])


@dataclasses.dataclass
class Cell:
    fault: str
    phase: Phase
    name: str
    draw: random.Random

    def __post_init__(self):
        draw = self.draw
        self.where = ((draw.randrange(RANKS),) if self.fault in OF_RANKS
                      else tuple(draw.sample(range(RANKS), 2)))
        self.step = draw.randint(3, 5)
        self.part = draw.uniform(*self.phase.part)
        self.fresh = draw.random() < 0.5  # the machine that goes on
        self.softmax = draw.choice(EXCHANGES) if LONG else EXCHANGES[0]

    def __str__(self):
        return (f"{self.name}: {self.fault} {'-'.join(map(str, self.where))} "
                f"after {self.phase.after} {self.step} at {self.part:.2f}, "
                f"{self.softmax}")

    def inject(self, fabric):
        {**OF_RANKS, **OF_LINKS}[self.fault](fabric, *self.where)

    def heal(self, fabric):
        if self.fault in HEAL:
            HEAL[self.fault](fabric, *self.where)


@unittest.skipUnless(BINARY and os.environ.get("RINGWEAVE_LIBRARY"),
                     "built without the operators")
class Faults(unittest.TestCase):
    wanted = {}  # figures of undisturbed runs, by config

    def setUp(self):
        if REFUSAL and os.geteuid() == 0:
            self.fail(f"root, and yet: {REFUSAL}")
        if REFUSAL:
            self.skipTest(REFUSAL)
        self.folder = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory()))
        draw = random.Random(9)
        self.text = self.folder / "text.txt"
        self.text.write_text("".join(draw.choices("abc de.\n", k=60_000)))
        self.runs = 0

    # --- runs ---------------------------------------------------------------

    def arguments(self, cell, run):
        path = self.folder / "config.json"
        path.write_text(json.dumps(config(cell.phase.config, cell.softmax)))
        return ["train", "--config", path, "--data", self.text,
                "--run-dir", run, "--resume", "auto"]

    def new_run(self):
        self.runs += 1
        return self.folder / f"run-{self.runs}"

    def undisturbed(self, cell):
        """On threads of one process, which give the same bits."""
        key = (str(cell.phase.config), cell.softmax)
        if key not in self.wanted:
            run = self.new_run()
            done = subprocess.run(
                [BINARY, *map(str, self.arguments(cell, run))], text=True,
                capture_output=True, timeout=RUN_SECONDS)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.wanted[key] = figures(run)
        return self.wanted[key]

    def machine(self, cell):
        return Fabric(parse(mesh(RANKS)), link_mbit=cell.phase.config["mbit"])

    def start(self, cell, fabric, run):
        command = [sys.executable, "-m", "ringweave",
                   *self.arguments(cell, run)]
        self.errors = [self.folder / f"{rank}.err" for rank in range(RANKS)]
        ranks = []
        for rank, path in enumerate(self.errors):
            with path.open("w") as stderr:
                ranks.append(fabric.start(rank, command, stderr=stderr))
        return ranks

    def said(self):
        """By all ranks, without torch's call stacks."""
        lines = "".join(path.read_text() for path in self.errors).splitlines()
        return "\n".join(line for line in lines
                         if line and not line.startswith("frame #"))

    def assert_ends_well(self, cell, ranks, run):
        end = time.monotonic() + RUN_SECONDS
        codes = [rank.wait(max(0, end - time.monotonic())) for rank in ranks]
        self.assertEqual(codes, [0] * RANKS, f"{cell}\n{self.said()}")
        self.assertEqual(figures(run), self.undisturbed(cell), f"{cell}")
        self.assertFalse(list((run / "checkpoints").glob("*.partial")))

    # --- what is left -------------------------------------------------------

    def assert_named(self, cell, rank):
        """The one line of error of a rank that a fault left; what it was
        doing."""
        text = self.errors[rank].read_text()
        lines = [line for line in text.splitlines()
                 if line.startswith("ringweave:")]
        self.assertEqual(len(lines), 1, f"{cell}\n{self.said()}")
        self.assertNotIn("Traceback", text)
        error = ERROR.fullmatch(lines[0])
        self.assertTrue(error, f"{cell}\n{lines[0]}")
        named = int(error["first"] or error["peer"])
        self.assertIn(named, cell.where, f"{cell}: rank {rank} names {named}\n"
                                         f"{self.said()}")
        return error["doing"]

    def whole_checkpoints(self, run):
        """Steps of those that a run may take."""
        steps = []
        for folder in sorted((run / "checkpoints").glob("step-*")):
            if folder.suffix == ".partial":
                continue
            manifest = json.loads((folder / "manifest.json").read_text())
            self.assertEqual(
                {(file["name"], file["bytes"]) for file in manifest["files"]},
                {(path.name, path.stat().st_size) for path in folder.iterdir()
                 if path.name != "manifest.json"}, folder)
            self.assertEqual(len(manifest["files"]), 2 + RANKS)
            steps.append(int(folder.name.removeprefix("step-")))
        return steps

    def assert_goes_on(self, cell, fabric, run, newest):
        ranks = self.start(cell, fabric, run)
        self.assert_ends_well(cell, ranks, run)
        resumed = [line for line in lines_of(run) if line["kind"] == "resume"]
        self.assertEqual([(line["step"], line["ranks"]) for line in resumed],
                         [(newest, RANKS)])

    # --- cells --------------------------------------------------------------

    def disturb(self, cell, fabric, run):
        """Starts a run and injects the fault; the ranks, and when it was."""
        phase = cell.phase
        ranks = self.start(cell, fabric, run)
        watch = Watch(run)
        begin = watch.wait_for(phase.after, cell.step, ranks)
        length = watch.seconds_between(phase.after, phase.until)
        time.sleep(max(0, begin + cell.part * length - time.monotonic()))
        injected = time.monotonic()
        cell.inject(fabric)
        return ranks, watch, injected, length

    def slowed(self, cell):
        run = self.new_run()
        with self.machine(cell) as fabric:
            ranks, watch, injected, length = self.disturb(cell, fabric, run)
            self.assert_ends_well(cell, ranks, run)
        took = max(r.started + r.seconds for r in ranks) - injected
        print(f"{cell} of {length:.2f} s; all ended well {took:.1f} s later",
              flush=True)

    def broken(self, cell):
        """Whether the fault met its phase."""
        run = self.new_run()
        with self.machine(cell) as fabric:
            ranks, watch, injected, length = self.disturb(cell, fabric, run)
            left = [rank for rank in ranks if cell.fault in OF_LINKS or
                    rank.rank not in cell.where]
            end = injected + STEP_SECONDS + MARGIN_SECONDS
            for rank in left:
                rank.wait(max(0, end - time.monotonic()))
            codes = [rank.code for rank in left]
            took = [None if r.code is None else
                    r.started + r.seconds - injected for r in left]
            print(f"{cell} of {length:.2f} s; ended with {codes} after "
                  f"{[t and round(t, 1) for t in took]}", flush=True)
            if VERBOSE:
                print(self.said(), flush=True)
            self.assertEqual(codes, [1] * len(left),
                             f"{cell}\n{self.said()}")
            doing = [self.assert_named(cell, rank.rank) for rank in left]
            met = any(re.search(cell.phase.said, what) for what in doing)
            cell.heal(fabric)
            newest = max(self.whole_checkpoints(run))
            self.assertGreaterEqual(newest, watch.last("checkpoint"))
            self.assertLessEqual(newest, watch.last("step"))
            if met and not cell.fresh:
                self.assert_goes_on(cell, fabric, run, newest)
        if met and cell.fresh:
            with self.machine(cell) as fabric:
                self.assert_goes_on(cell, fabric, run, newest)
        if not met or VERBOSE:
            print(f"  met {'' if met else 'another phase: '}"
                  f"{', '.join(doing)}", flush=True)
        return met

    def take(self, fault, name, number):
        """Until the fault meets the phase."""
        draw = random.Random(f"{SEED} {fault} {name} {number}")
        for _ in range(TRIES):
            cell = Cell(fault, PHASES[name], name, draw)
            self.undisturbed(cell)
            if fault == "slow":
                return self.slowed(cell)
            if self.broken(cell):
                return
        self.fail(f"{fault} met no {name} in {TRIES} tries")

    def take_phases(self, fault, many):
        if "RINGWEAVE_PHASES" in os.environ:
            words = os.environ["RINGWEAVE_PHASES"].split(",")
            phases = [(*word.split(":"), 1)[:2] for word in words]
        elif LONG:
            phases = [(name, MANY if name == many else 3) for name in PHASES]
        else:
            phases = [(name, 1) for name in SHORT]
        print(f"seed {SEED}", flush=True)
        for name, times in phases:
            for number in range(int(times)):
                with self.subTest(fault=fault, phase=name, number=number):
                    self.take(fault, name, number)

    def test_killed_rank(self):
        self.take_phases("kill", many="gradients")

    def test_stopped_rank(self):
        self.take_phases("stop", many="backward")

    def test_link_that_is_down(self):
        self.take_phases("down", many="checkpoint")

    def test_link_that_loses_everything(self):
        self.take_phases("lose", many="forward")

    def test_slow_link(self):
        self.take_phases("slow", many="backward")


if __name__ == "__main__":
    unittest.main()
