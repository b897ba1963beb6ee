"""What the scripts in papers/ and studies/ share: they call the program, and
print Markdown.

A script has `NAME`, the page that it makes, and `report(lab)`, the page's text.
Everything is simulated or by formula, so a page is the same wherever it is made.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEFAULT_BINARY = ROOT / "build/release/ringweave/cli/ringweave"


class Lab:
    """The built program. Equal calls are made once."""

    def __init__(self, binary):
        self.binary = str(binary)
        self.done = {}

    def call(self, *arguments):
        """The JSON that `ringweave arguments… --json` prints."""
        key = tuple(map(str, arguments))
        if key not in self.done:
            run = subprocess.run([self.binary, *key, "--json"], text=True,
                                 capture_output=True, check=False)
            if run.returncode != 0:
                raise SystemExit(f"ringweave {' '.join(key)}\n{run.stderr}")
            self.done[key] = json.loads(run.stdout)
        return self.done[key]

    def simulate(self, topology, strategy, flops=None, backward=False,
                 **options):
        """One pass. `flops`: of a rank's attention per second; None: transfers
        alone. Options are the program's: seq_len=…, mask="full", …"""
        arguments = ["simulate", "--topology", topology, "--strategy", strategy,
                     "--backward" if backward else "--forward-only"]
        return self._simulate(arguments, flops, options)

    def play(self, topology, schedule, **options):
        """A schedule of ours (schedule() below), transfers alone. The blocks of
        a rank are cuts of its shard, so they say how long the sequence is."""
        tokens = sum(block["size"] for block in schedule["blocks"])
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(schedule, file)
            file.flush()
            return self._simulate(["simulate", "--topology", topology,
                                   "--schedule", file.name, "--transfers-only",
                                   "--seq-len", tokens, "--mask", "full",
                                   "--layout", "contiguous"], None, options)

    def _simulate(self, arguments, flops, options):
        arguments += (["--no-compute"] if flops is None
                      else ["--flops", f"{flops:.12g}"])
        for name, value in options.items():
            arguments += ["--" + name.replace("_", "-"), value]
        passes = self.call(*arguments)["passes"]
        assert len(passes) == 1 and passes[0]["seconds"] is not None
        return passes[0]


def schedule(ranks, blocks, transfers):
    """A schedule without computation. `blocks`: {(owner, strand): size};
    `transfers`: (from, to, owner, strand, step it is sent in, slot). A rank
    waits for what it receives before the step after."""
    steps = 1 + max(step for *_, step, _ in transfers)
    return {
        "format": "ringweave.schedule", "version": 1, "ranks": ranks,
        "pass": "forward", "steps": steps,
        "blocks": [{"block": [owner, strand, 0], "size": size}
                   for (owner, strand), size in sorted(blocks.items())],
        "transfers": [
            {"from": source, "to": to, "block": [owner, strand, 0],
             "payload": "kv", "action": "copy", "post_step": step,
             "wait_step": step + 1, "source_slot": -1, "slot": slot}
            for source, to, owner, strand, step, slot in transfers],
        "tiles": [], "retained": []}


def table(head, rows):
    """Markdown; numbers come as text, rounded by the caller."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def percent(value, of):
    """How far `value` is from `of`: "+3 %"."""
    return f"{100 * (value / of - 1):+.0f} %"


def milliseconds(seconds):
    return f"{1e3 * seconds:.3g}"


def parser():
    """For the arguments that all scripts take; --help shows the script's own
    docstring."""
    arguments = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "program", nargs="?", metavar="PROGRAM",
        default=os.environ.get("RINGWEAVE_BINARY", str(DEFAULT_BINARY)),
        help="the built `ringweave`; default: RINGWEAVE_BINARY, else the "
        "release build's")
    return arguments


def parsed(arguments):
    """(options, lab); ends with a line of error if there is no program."""
    options = arguments.parse_args()
    need_program(arguments, options.program, "give PROGRAM")
    return options, Lab(options.program)


def need_program(arguments, program, otherwise):
    """Ends with a line of error if there is no such program."""
    if shutil.which(program) is None:
        arguments.error(
            f"no program {program}; want a path of one: build the preset release "
            "first (cmake --preset release && cmake --build build/release "
            f"--target ringweave), or {otherwise}")


def program_of(arguments):
    """What RINGWEAVE_BINARY names, or the release build's program."""
    program = os.environ.get("RINGWEAVE_BINARY", str(DEFAULT_BINARY))
    need_program(arguments, program, "set RINGWEAVE_BINARY")
    return program


def main(report):
    _, lab = parsed(parser())
    print(report(lab), end="")
