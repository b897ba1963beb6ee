#!/usr/bin/env python3
"""Measures softmax attention beside other libraries that run on CPUs, on the same
shapes in turn, and prints docs/results/peers.md.

    benchmarks/measured/peers.py [--save FOLDER] [--repeat N] [--write | --check]

Takes up to fifteen minutes, on a computer that should do nothing else. FOLDER keeps
what was measured, one JSON file per launch, which is not run again while its file
is there. `tools/setup --peers` makes the environment, once; the libraries' versions
stand there. RINGWEAVE_LIBRARY names another library of operations than the release
preset's.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from lab import ROOT, table
from machines import op_library
from pages import add_options, finish

HERE = pathlib.Path(__file__).resolve().parent
PAGE = ROOT / "docs/results/peers.md"
PYTHON = ROOT / "build/peers/bin/python"
PACKAGES = ("torch", "ring-attention-pytorch", "axolotl-ringmaster", "deepspeed",
            "yunchang", "ring-flash-attn", "transformer-engine", "magi-attention",
            "fla-core")
SHAPE = {"heads": 8, "kv_heads": 8, "head_dim": 64}
TIMED = [{"name": f"{mask}, {tokens:,} tokens", "mask": mask, "tokens": tokens,
          **SHAPE}
         for mask, tokens in (("causal", 512), ("causal", 2048), ("full", 2048))]
CASE_SECONDS = 40  # of a case's rounds; at least 3 are made
LAUNCH_SECONDS = 900
# Which of Ringweave's is the counterpart.
OURS = {"causal": "ringweave, zigzag", "full": "ringweave, contiguous"}
GONE = {
    "ring-flash-attn": "from ring_flash_attn import zigzag_ring_flash_attn_func",
    "yunchang": """
from yunchang.ring import ring_pytorch_attn_func
ring_pytorch_attn_func(q, q, q, causal=True)""",
    "transformer-engine": "import transformer_engine.pytorch",
    "magi-attention": "from magi_attention.api import calc_attn",
    "fla-core": """
from fla.ops.kda import chunk_kda
chunk_kda(q, q, q, -q.abs(), q[..., 0].abs())""",
    "torch": """
from torch.distributed.tensor.experimental import context_parallel
q = q.transpose(1, 2)
with context_parallel(dist.init_device_mesh("cpu", (1,)), buffers=[q],
                      buffer_seq_dims=[2]):
    torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)""",
}
WHAT = {
    "ring-flash-attn": "its import; needs flash-attn, of GPUs",
    "yunchang": "its ring over torch's own operations, one rank",
    "transformer-engine": "its import; what its layers need is built with CUDA",
    "magi-attention": "its import; PyPI's package is a placeholder",
    "fla-core": "a layer's operator with context parallelism (linear attention "
                "alone)",
    "torch": "its context manager, one rank; its templates run when called directly",
}
# Calls one rank in a group of its own, and says how that ended.
TRIAL = """
import os, sys, tempfile, warnings
warnings.simplefilter("ignore")
import torch, torch.distributed as dist
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
q = torch.randn(1, 64, 2, 32)
try:
    exec(sys.argv[1])
except BaseException as error:
    lines = str(error).strip().splitlines() or [""]
    print("\\n" + type(error).__name__ + ": " + lines[0])
else:
    print("\\nruns")
os._exit(0)
"""


def probes(ranks):
    """Cases of accuracy and of what is accepted."""
    small = {"mask": "causal", "heads": 4, "kv_heads": 4, "head_dim": 32,
             "dtype": "float32", "tokens": 128 * ranks}
    several = {
        "causal": {}, "full": {"mask": "full"}, "causal, float64": {
            "dtype": "float64"},
        "2 heads of keys": {"kv_heads": 2},
        "odd shards": {"tokens": 129 * ranks},
        "uneven shards": {"tokens": 128 * ranks + 2},
        "an empty shard": {"tokens": 2},
        "window": {"window": 100},
        "documents": {"documents": [0, 130, 200, 128 * ranks]},
    }
    return [{"name": name, **small, **case} for name, case in several.items()]


class Peers:
    """Starts ranks and keeps what they found."""

    def __init__(self, folder, repeat, python=PYTHON, case_seconds=CASE_SECONDS):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.repeat = repeat
        self.python = python
        self.case_seconds = case_seconds
        self.environment = dict(
            os.environ, OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo",
            PYTHONPATH=str(ROOT / "python"), TORCH_CPP_LOG_LEVEL="ERROR")
        self.environment["RINGWEAVE_LIBRARY"] = op_library()

    def kept(self, name, make):
        path = self.folder / f"{name}.json"
        if not path.exists():
            print("measuring:", name, file=sys.stderr)
            path.write_text(json.dumps(make()))
        return json.loads(path.read_text())

    def launch(self, what, cases, methods=()):
        """What the ranks found. `cases`: [(ranks, cases)…]. One process makes all
        ranks; it is ended with them when time is over."""
        with tempfile.TemporaryDirectory() as folder:
            results = pathlib.Path(folder) / "results.json"
            task = json.dumps({
                "results": str(results), "what": what, "cases": cases,
                "methods": list(methods), "repeat": self.repeat,
                "case_seconds": self.case_seconds})
            with subprocess.Popen(
                    [self.python, HERE / "peer_ranks.py", task], text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    env=self.environment, start_new_session=True) as ranks:
                try:
                    said, _ = ranks.communicate(timeout=LAUNCH_SECONDS)
                except BaseException:
                    os.killpg(ranks.pid, signal.SIGKILL)
                    raise
            if ranks.returncode != 0:
                raise SystemExit(f"{what}: exit code {ranks.returncode}\n{said}")
            return json.loads(results.read_text())

    def times(self, cases, methods=()):
        return self.kept("time", lambda: self.launch("time", [(2, cases)], methods))

    def errors(self, cases, methods=()):
        """Number of ranks -> results."""
        every = self.kept("error", lambda: self.launch("error", [
            (ranks, cases(ranks)) for ranks in (3, 4)], methods))
        return {ranks: [one for one in every if one["ranks"] == ranks]
                for ranks in (3, 4)}

    def absent(self):
        """Library -> how a trial of it ended."""
        return self.kept("absent", lambda: {
            name: self.trial(code) for name, code in GONE.items()})

    def trial(self, code):
        try:
            done = subprocess.run([self.python, "-c", TRIAL, code], text=True,
                                  capture_output=True, timeout=60, check=False,
                                  env=self.environment)
        except subprocess.TimeoutExpired:
            return "no answer in 60 s"
        return (done.stdout.strip().splitlines() or
                [f"exit code {done.returncode}"])[-1]

    def versions(self):
        code = ("import importlib.metadata as m, json, sys; "
                "print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))")
        return self.kept("versions", lambda: json.loads(subprocess.run(
            [self.python, "-c", code, *PACKAGES], check=True, text=True,
            capture_output=True, env=self.environment).stdout))

    def machine(self):
        def made():
            lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
            model = next((line.split(": ")[1] for line in lines
                          if line.startswith("model name")), "unknown")
            library = self.environment["RINGWEAVE_LIBRARY"]
            build = next((f"Ringweave's {preset} build" for preset in (
                "release", "dev") if f"/build/{preset}/" in library),
                "another build of Ringweave")
            return f"{model}, {os.cpu_count()} cores; {build}"
        return self.kept("machine", made)


def spread(values, scale=1.0, digits=2):
    low, middle, high = (f"{scale * x:.{digits}f}" for x in (
        min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}–{high})"


def ratios(ours, theirs):
    """Of each round, whose calls followed one another."""
    return [a / b for a, b in zip(ours, theirs)]


def speeds(results):
    """A table per case."""
    text = ""
    for case in dict.fromkeys(one["case"] for one in results):
        here = {one["method"]: one for one in results if one["case"] == case}
        ours = here[OURS[case.split(",")[0]]]
        rows = []
        for name, one in here.items():
            row = [name if one["right"] else name + " †"]
            for part in ("forward_seconds", "training_seconds"):
                row += [spread(one[part], 1e3, 1), "1" if one is ours else
                        spread(ratios(ours[part], one[part]))]
            rows.append(row)
        count = len(ours["forward_seconds"])
        text += f"### {case[0].upper()}{case[1:]}\n\n{count} rounds.\n\n" + table(
            ["method", "forward, ms", f"{ours['method']} / it",
             "forward and backward, ms", f"{ours['method']} / it"], rows) + "\n"
    return text


def summary(results):
    """The range of medians, over cases and methods of others."""
    lines = []
    for part, title in (("forward_seconds", "A forward"),
                        ("training_seconds", "A forward with its backward")):
        found, slower, faster = {}, [], 0
        for one in results:
            ours = next(other for other in results if other["case"] == one["case"]
                        and other["method"] == OURS[one["case"].split(",")[0]])
            if one["method"].startswith("ringweave"):
                continue
            ratio = ratios(ours[part], one[part])
            library = one["method"].split(",")[0]
            found.setdefault(library, []).append(statistics.median(ratio))
            faster += max(ratio) < 1
            if min(ratio) > 1:
                slower.append(f"{one['method']} ({one['case']})")
        each = "; ".join(f"{name}: {min(of):.2f} to {max(of):.2f}"
                         for name, of in found.items())
        lines.append(textwrap.fill(
            f"- {title} takes this share of another's time: {each}. Slower than "
            f"these in every round: {'; '.join(slower) or 'none'}. Faster in every "
            f"round in {faster} of {sum(map(len, found.values()))} cases.",
            88, subsequent_indent="  ",
            break_on_hyphens=False) + "\n")
    return "".join(lines)


def unlike(error):
    """Whether that is another result, not another rounding."""
    return not error < 1e-3


def accuracy(by_ranks):
    """Largest differences where methods take the case."""
    names = ("causal", "full", "causal, float64")
    rows = []
    for method in dict.fromkeys(one["method"] for one in by_ranks[3]):
        for ranks, results in by_ranks.items():
            row = [f"{method}; {ranks} ranks"]
            for case in names:
                one = find(results, method, case)
                row += (["–"] * 3 if "refused" in one else
                        [f"{error:.1e}" for error in one["errors"]])
            rows.append(row)
    head = ["method"]
    for name in names:
        head += [f"{name}: output", "q's gradient", "k's and v's"]
    return table(head, rows)


def find(results, method, case):
    return next(one for one in results
                if one["method"] == method and one["case"] == case)


def accepted(by_ranks):
    """Per case and method: yes, what differs, or the number of what it said."""
    said, rows = [], []
    cases = list(dict.fromkeys(one["case"] for one in by_ranks[3]))
    for method in dict.fromkeys(one["method"] for one in by_ranks[3]):
        row = [method]
        for case in cases:
            cells = {}
            for ranks, results in by_ranks.items():
                cells[ranks] = verdict(find(results, method, case), said)
            alike = len(set(cells.values())) == 1
            row.append(cells[3] if alike else
                       "; ".join(f"{ranks}: {cell}" for ranks, cell in cells.items()))
        rows.append(row)
    notes = "".join(f"{number}. {code(text)}\n"
                    for number, text in enumerate(said, 1))
    return table(["method", *cases], rows) + "\n" + notes


def verdict(one, said):
    if "refused" not in one:
        output, *gradients = one["errors"]
        return ("other values" if unlike(output) else "other gradients"
                if any(map(unlike, gradients)) else "yes")
    text = plain(one["refused"])
    if text not in said:
        said.append(text)
    return f"no ({said.index(text) + 1})"


def plain(text):
    """Without what differs from run to run, or names a place on this computer."""
    text = re.sub(r"(?<![\w.])/[\w./+-]+", "…", text)
    text = re.sub(r"\[(127\.0\.0\.1|[\w.:]+)\]:\d+", "…", text)
    text = re.sub(r"\d+ vs \d+", "… vs …", text)
    return text if len(text) <= 160 else text[:157] + "…"


def code(text):
    return "`" + text.replace("`", "'").replace("|", "/") + "`"


def report(peers, timed=TIMED, cases=probes, methods=()):
    times = peers.times(timed, methods)
    by_ranks = peers.errors(cases, methods)
    versions = peers.versions()
    absent = table(["library", "what was tried", "how it ended"], [
        [f"{name} {versions[name]}", WHAT[name], code(plain(text))]
        for name, text in peers.absent().items()])
    used = ", ".join(f"{name} {versions[name]}" for name in PACKAGES[:4])
    return f"""# Beside other libraries, on CPUs

Ringweave's softmax attention and that of other libraries for sequences over several
processes, called with the same tensors in turn:
{used}.
Made on one computer ({peers.machine()}) by

```
benchmarks/measured/peers.py --write
```

which has `tools/setup --peers` make the environment of these versions. Ranks are
processes on loopback, in a Gloo group, of one thread each.

- **ringweave**: `ringweave.attention` with its defaults, on the layouts zigzag and
  contiguous; each call also compares what the ranks asked for.
- **torch**: the templates of its ring attention and their backward, called directly with
  the flash attention of CPUs. Balanced is its zigzag. Keys travel by an all-gather, its
  default, or by all_to_all.
- **ring-attention-pytorch**: `ring_flash_attn`, contiguous or striped. Its windows count
  whole buckets of keys.
- **Ringmaster** (axolotl-ringmaster): ring, zigzag, and distflash, which splits the work
  of contiguous shards evenly. It has plain softmax for CPUs, meant for tests.
- **DeepSpeed Ulysses**: exchanges heads for tokens, around torch's own attention.

These libraries are made for GPUs: their times here say how their exchange and CPU path do,
nothing of GPUs.

## What it finds

Medians of the ratios below; under 1 Ringweave is faster:

{summary(times)}
## Time

2 ranks, one sequence, {SHAPE["heads"]} heads of {SHAPE["head_dim"]}, float32. A call takes
as long as its slowest rank. Figures are medians of rounds in which all methods follow one
another, with the least and the most; a ratio is that of one round. †: its output or
gradients are not right, see below.

{speeds(times)}
## Error

Largest difference from one device in float64, 4 heads of 32, 128 tokens per rank, inputs
of a normal distribution, in float32 but for the last columns. – is a refusal.

{accuracy(by_ranks)}
## What each accepts

3 and 4 ranks; the same in both unless it says otherwise. Odd shards have 129 tokens each;
uneven ones differ by one or two tokens; in "an empty shard" 2 tokens are on all ranks
together. Shards are handed over as a layout of Ringweave makes them; some of these
libraries have functions that pad sequences or cut them, which were not tried. The window
is of 100 tokens and the query's own. "Other values", "other gradients": an answer
without an error, which is off by more than 0.001; of the latter the output is right.

{accepted(by_ranks)}
What was said comes from the first rank that failed; "no argument" is ours, where a call
can't express the case. All other words are those of the exceptions.

## What does not run here

{absent}
"""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", metavar="FOLDER")
    parser.add_argument("--repeat", type=int, default=15, metavar="N")
    add_options(parser, PAGE.relative_to(ROOT))
    options = parser.parse_args()
    if subprocess.run([ROOT / "tools/setup", "--peers"], check=False,
                      stdout=sys.stderr).returncode:
        parser.error("tools/setup --peers failed; see above")
    with tempfile.TemporaryDirectory() as folder:
        text = report(Peers(options.save or folder, options.repeat))
    print(text, end="")
    finish(text, PAGE, options)


if __name__ == "__main__":
    main()
