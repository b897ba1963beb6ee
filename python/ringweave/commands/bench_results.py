"""Reads what `ringweave bench … --json` printed into files, and tells it from
runs."""

import collections
import copy
import itertools
import json
import os

from ringweave.commands.canvas import clean
from ringweave.commands.common import (
    MOST_BYTES, Fault, json_in, lines_in, too_long)
from ringweave.commands.run_metrics import METRICS, Run

WANTED = "the JSON of a benchmark, or a run's folder or metrics.jsonl"

# Of several measurements; of one number, all three are that number.
Spread = collections.namedtuple("Spread", "median least most")

# What the cases of the benchmarks hold. None stands for what a case may lack.
# Seconds of a schedule, and of what it is compared with: bare messages, the
# bound of transfers, a prediction; with emulated compute that alone, and what
# overlaps it perfectly.
Time = collections.namedtuple(
    "Time",
    "name direction bytes seconds bare bound predicted compute overlapped")
# A split against the whole.
Ratio = collections.namedtuple("Ratio", "name ratio")
# A step of training; `parts` in order, by name; what it is compared with.
Step = collections.namedtuple(
    "Step", "softmax linear seq_len seconds parts predicted tokens_per_second "
    "peak_bytes")
# Seconds of a step's case that are not parts of it.
BESIDE_PARTS = ("bare_seconds", "bound_seconds", "predicted_seconds")

PASSES = ("forward", "backward")
BENCHES = ("exchange", "attention", "linear", "model")
# Beyond MOST a picture's own numbers overflow; what is nearer to 0 than LEAST
# is 0, since a logarithmic axis down to it would fail too.
MOST, LEAST = 1e18, 1e-18
# What may differ between files that measured parts of the same: how often, and
# what was measured beside the cases.
MEASURED = ("repeat", "slow_links", "median_link_bytes_per_second")
# Ends the title of a benchmark whose computing was emulated.
EMULATED = " --compute emulate"


class Bench:
    """A benchmark: the facts beside its cases, and the cases.

    `title` tells benchmarks apart whose cases can't be drawn together; `name`
    is that of the file.
    """

    def __init__(self, path, facts):
        self.path = path
        self.name = os.path.splitext(os.path.basename(path))[0]
        self.title = facts["bench"]
        if facts.get("compute") == "emulate" and (
                self.title + EMULATED in _READERS):
            self.title += EMULATED
        cases = facts.get("cases")
        if not isinstance(cases, list) or not cases:
            raise Fault(f'{path}: got no "cases"; want {WANTED}')
        self.cases = [
            _READERS[self.title](Fields(case, f"{path}: case {number}"))
            for number, case in enumerate(cases, 1)]
        for key, count in collections.Counter(map(_key, self.cases)).items():
            if count > 1:
                raise Fault(f"{path}: got {count} cases of {key}; want one")
        self.facts = {name: value for name, value in facts.items()
                      if name != "cases"}


def read(path):
    """The Run or the Bench at `path`."""
    if os.path.isdir(path) or os.path.basename(path) == METRICS:
        return Run(path)
    lines = lines_in(path, WANTED)
    data = bytearray(next(lines, b""))
    value = json_in(data)
    if isinstance(value, dict) and "kind" in value and "bench" not in value:
        return Run(path, itertools.chain([data], lines))
    for line in lines:
        data += line
        if len(data) > MOST_BYTES:
            raise too_long(path, WANTED)
    if not data.strip():
        raise Fault(f"{path} is empty; want {WANTED}")
    value = json_in(data)
    if value is None:
        raise Fault(f"{path}: got no JSON, or several; want {WANTED}")
    if not isinstance(value, dict) or "bench" not in value:
        raise Fault(f'{path}: got JSON without "bench"; want {WANTED}')
    if value["bench"] not in BENCHES:
        raise Fault(f'{path}: got "bench" {json.dumps(value["bench"])[:40]}; '
                    f"want {', '.join(BENCHES)}")
    return Bench(path, value)


def joined(benches):
    """`benches`, those as one that measured other cases of the same.

    So the sizes of one machine may come in several files. Files in which the
    same case stands are of two machines, or of two times.
    """
    result = []
    for bench in benches:
        for other in result:
            if _machine(bench) == _machine(other) and not (
                    set(map(_key, bench.cases)) &
                    set(map(_key, other.cases))):
                other.name += f" + {bench.name}"
                other.cases = other.cases + bench.cases
                break
        else:
            result.append(copy.copy(bench))
    return result


def _machine(bench):
    """The facts, without those that were measured."""
    return {name: value for name, value in bench.facts.items()
            if name not in MEASURED}


def _key(case):
    """What tells a case from the others of its benchmark, as a text."""
    key = case[:1] if isinstance(case, Ratio) else case[:3]
    return " ".join(str(part) for part in key if part != "")


class Fields:
    """The fields of a case, or those beside the cases; one that is wrong is a
    Fault that says where."""

    def __init__(self, values, where):
        if not isinstance(values, dict):
            raise Fault(f"{where}: got {json.dumps(values)[:40]}; want an "
                        "object")
        self.values, self.where = values, where

    def has(self, name):
        return self.values.get(name) is not None

    def text(self, name):
        if not isinstance(self.values.get(name), str):
            raise self.fault(name, "a text")
        return self.values[name]

    def truth(self, name):
        if not isinstance(self.values.get(name), bool):
            raise self.fault(name, "true or false")
        return self.values[name]

    def whole(self, name):
        if type(self.values.get(name)) is not int or not (
                0 <= self.values[name] <= MOST):
            raise self.fault(name, f"a whole number from 0 to {MOST:g}")
        return self.values[name]

    def number(self, name, least=0):
        if not _is_number(self.values.get(name)) or self.values[name] < least:
            raise self.fault(name, f"a number from {least} to {MOST:g}")
        return _float(self.values[name])

    def spread(self, name, least=0):
        value = self.values.get(name)
        numbers = [value.get(part) if isinstance(value, dict) else value
                   for part in ("median", "min", "max")]
        if not all(map(_is_number, numbers)) or not (
                least <= numbers[1] <= numbers[0] <= numbers[2]):
            raise self.fault(name, 'numbers 0 <= "min" <= "median" <= "max" '
                             f"<= {MOST:g}")
        return Spread(*map(_float, numbers))

    def optional(self, name, read):
        return read(name) if self.has(name) else None

    def fault(self, name, wanted):
        got = (json.dumps(self.values[name])[:40] if name in self.values
               else "nothing")
        return Fault(f'{self.where}: got {got} in {json.dumps(name)}; want '
                     f"{wanted}")


def _is_number(value):
    return type(value) in (int, float) and abs(value) <= MOST  # NaN is not


def _float(number):
    return float(number) if abs(number) >= LEAST else 0.0


def _time(case):
    if case.text("pass") not in PASSES:
        raise case.fault("pass", " or ".join(map(json.dumps, PASSES)))
    return Time(clean(case.text("name")), case.text("pass"),
                case.number("bytes", 1), case.spread("seconds"),
                case.optional("bare_seconds", case.spread),
                *(case.optional(f"{field}_seconds", case.number) for field in
                  ("bound", "predicted", "compute", "overlapped")))


def _ratio(case):
    return Ratio(clean(case.text("name")), case.spread("ratio"))


def _step(case):
    parts = {clean(field.removesuffix("_seconds").replace("_", " ")):
             case.spread(field, least=-1e-9)  # a difference may be below 0
             for field in case.values
             if field.endswith("_seconds") and field not in BESIDE_PARTS}
    if not parts:
        raise Fault(f'{case.where}: got no part of a step; want fields such as '
                    '"compute_seconds"')
    return Step(clean(case.optional("softmax", case.text) or ""),
                clean(case.optional("linear", case.text) or ""),
                case.whole("seq_len"), case.spread("seconds"), parts,
                case.optional("predicted_seconds", case.number),
                case.optional("tokens_per_second", case.number),
                case.optional("peak_memory_bytes", case.number))


_READERS = {"exchange": _time, "attention": _ratio, "linear": _ratio,
            "attention" + EMULATED: _time, "linear" + EMULATED: _time,
            "model": _step, "model" + EMULATED: _step}
