"""Reads the metrics of runs (docs/run-folder.md)."""

import math
import os
import sys

from ringweave.commands.common import Fault, json_in, lines_in

METRICS = "metrics.jsonl"
WANTED = f"the folder of a run, or its {METRICS}"
MOST = 1e300
MOST_STEPS = 1 << 53  # as floats, in which steps are drawn, they are exact


class Run:
    """The lines of a run's metrics, by kind, in the order of the file.

    `path` is that of metrics.jsonl, `folder` where it lies, `name` that of the
    folder. Lines of kinds other than step, validation and resume are left out.
    `lines` are those of the file, of a caller who has begun to read it.
    """

    def __init__(self, given, lines=None):
        self.given = given
        self.path = (os.path.join(given, METRICS) if os.path.isdir(given)
                     else given)
        self.folder = os.path.dirname(self.path) or "."
        self.name = os.path.basename(os.path.realpath(self.folder))
        self.steps, self.validations, self.resumes = [], [], []
        kinds = {"step": self.steps, "validation": self.validations,
                 "resume": self.resumes}
        # Lines of steps and validations, in the order of the file.
        self.lines = []
        for number, line in _objects(
                self.path, lines or lines_in(self.path, WANTED)):
            where = f"{self.path}:{number}"
            if not isinstance(line.get("kind"), str):
                raise Fault(f'{where}: got a line without a "kind"; want the '
                            "metrics of a run")
            if line["kind"] not in kinds:
                continue
            step = line.get("step")
            if type(step) is not int or not 0 <= step <= MOST_STEPS:
                raise Fault(f'{where}: got a line of kind "{line["kind"]}" '
                            'without a whole number "step", at most 2^53')
            kinds[line["kind"]].append(line)
            if line["kind"] != "resume":
                self.lines.append(line)
        if not self.steps:
            raise Fault(f"{self.path} has no lines of steps yet")

    def seconds_after(self):
        """Step -> seconds that it and the steps before it took."""
        total, after = 0.0, {}
        for line in self.steps:
            seconds = number_in(line, "seconds")
            total += 0.0 if math.isnan(seconds) else seconds
            after[line["step"]] = total
        return after


def number_in(line, field):
    """The number in a field; NaN without one, or with one so large that sums
    overflow. null stands for one that JSON has no word for."""
    value = line.get(field)
    known = type(value) in (int, float) and abs(value) <= MOST
    return float(value) if known else math.nan


def _objects(path, lines):
    """Yields (number, object) of each line.

    The last line of a run that is under way, or was killed, may be half
    written. It has no line break then, and is left out with a note.
    """
    for number, line in enumerate(lines, 1):
        value = json_in(line)
        if isinstance(value, dict):
            yield number, value
        elif line.endswith(b"\n"):
            raise Fault(f"{path}:{number}: got a line that is no JSON object")
        else:
            print(f"note: {path}:{number}: left out, half a line",
                  file=sys.stderr)
