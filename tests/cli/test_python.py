"""`import ringweave`: the ops against one device, over Gloo processes."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import cli
from free_port import free_port

RANKS = 3

# Run by each rank. Tokens divide nothing; the last shard is short.
PROGRAM = '''
import json, math, pathlib, sys
import torch
import torch.distributed as dist
import ringweave

dist.init_process_group("gloo")
rank, ranks = dist.get_rank(), dist.get_world_size()
torch.manual_seed(3)
tokens, heads, kv_heads, dim = 29, 4, 2, 8
make = lambda *shape: torch.randn(*shape, dtype=torch.float64)
whole = [make(2, tokens, heads, dim), make(2, tokens, kv_heads, dim),
         make(2, tokens, kv_heads, dim)]
out_grad = make(2, tokens, heads, dim)


def same(name, a, b):
    error = (a - b).abs().max().item() / max(1.0, b.abs().max().item())
    assert error < 1e-10, f"rank {rank}: {name}: {error}"


def compare(name, split, plain, inputs, layout):
    parts = [ringweave.shard(x, layout).requires_grad_() for x in inputs]
    out = split(*parts)
    grads = torch.autograd.grad(out, parts, ringweave.shard(out_grad, layout))
    leaves = [x.clone().requires_grad_() for x in inputs]
    want = plain(*leaves)
    want_grads = torch.autograd.grad(want, leaves, out_grad)
    same(name, ringweave.unshard(out, layout), want.detach())
    for x, y in zip(grads, want_grads):
        same(name + " gradient", ringweave.unshard(x, layout), y)


def plain_attention(q, k, v, causal=True, seen=None):
    k, v = (x.repeat_interleave(heads // kv_heads, 2) for x in (k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(dim)
    if causal and seen is None:
        seen = torch.ones(tokens, tokens).tril().bool()
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)


for kind in ("contiguous", "zigzag", "striped"):
    layout = ringweave.layout(kind, tokens, ranks)
    same(kind, ringweave.unshard(ringweave.shard(whole[0], layout), layout),
         whole[0])
    for strategy in ("ring", "direct"):
        compare(f"{kind} {strategy}",
                lambda q, k, v: ringweave.attention(
                    q, k, v, layout=layout, strategy=strategy),
                plain_attention, whole, layout)
    compare(f"{kind} full",
            lambda q, k, v: ringweave.attention(q, k, v, layout=layout,
                                                mask="full", group="0"),
            lambda q, k, v: plain_attention(q, k, v, False), whole, layout)


def plain_linear(q, k, v, g):
    state, outs = torch.zeros(2, heads, dim, dim, dtype=torch.float64), []
    for t in range(tokens):
        state = state * g[:, t].exp()[..., None, None]
        state = state + k[:, t, :, :, None] * v[:, t, :, None, :]
        outs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(outs, 1)


layout = ringweave.layout("zigzag", tokens, ranks)
inputs = [make(2, tokens, heads, dim) for _ in range(3)]
inputs.append(-make(2, tokens, heads).abs())
for exchange in ("chain", "sharded_scan", "log_step", "all_gather"):
    compare(exchange,
            lambda q, k, v, g: ringweave.linear_attention(
                q, k, v, gates=g, layout=layout, exchange=exchange),
            plain_linear, inputs, layout)
_, state = ringweave.linear_attention(
    *(ringweave.shard(x, layout) for x in inputs[:3]), layout=layout,
    final_state=True)
same("final state", state, torch.einsum("bthk,bthv->bhkv", *inputs[1:3]))

# Layouts and masks as dicts and as JSON text; a window, and documents.
explicit = {"kind": "explicit", "tokens": tokens,
            "runs": [[[0, 3, 1], [20, 9, 1]], [], [[3, 17, 1]]]}
mask = {"kind": "causal", "window": {"left": 6},
        "document_offsets": [0, 11, tokens]}
at = torch.arange(tokens)
seen = ((at[:, None] >= at) & (at[:, None] - at <= 6) &
        ((at[:, None] >= 11) == (at >= 11)))
for form in (lambda x: x, json.dumps):
    compare("explicit layout, window, documents",
            lambda q, k, v: ringweave.attention(
                q, k, v, layout=form(explicit), mask=form(mask)),
            lambda q, k, v: plain_attention(q, k, v, seen=seen), whole,
            form(explicit))


def refused(call, *words, kind=RuntimeError):
    try:
        call()
    except kind as error:
        for word in words:
            assert word in str(error), error
        return
    raise AssertionError("no error")


refused(lambda: ringweave.layout("zigzog", tokens, ranks), "zigzag")
refused(lambda: ringweave.layout("zigzag", tokens, 2**32 + 2), "4294967298")
parts = [ringweave.shard(x, layout) for x in whole]
refused(lambda: ringweave.attention(*parts, layout=layout, mask="casual"),
        '"causal"')

# Plans: one of given rings.
linear = [ringweave.shard(x, layout)
          for x in (inputs[0], inputs[1][:, :, :2], inputs[2][:, :, :2])]
folder = pathlib.Path(sys.argv[1])
planned = ringweave.attention(*parts, layout=layout, plan=folder / "plan.json")
same("plan", planned, ringweave.attention(*parts, layout=layout))
same("shared states",
     ringweave.linear_attention(*linear, layout=layout,
                                plan=folder / "linear.json"),
     ringweave.linear_attention(
         linear[0], *(x.repeat_interleave(2, 2) for x in linear[1:]),
         layout=layout))
refused(lambda: ringweave.attention(*parts, layout=layout, strategy="ring",
                                    plan="p"), "strategy", kind=ValueError)
refused(lambda: ringweave.attention(*parts, layout=layout, mask="full",
                                    plan=folder / "plan.json"),
        "plan.json is for mask", "full")
refused(lambda: ringweave.attention(*(x[:, :, :2] for x in parts),
                                    layout=layout, plan=folder / "plan.json"),
        "plan.json is for heads 4, and this runs with 2")
refused(lambda: ringweave.attention(*parts, layout=layout,
                                    plan=folder / "linear.json"),
        "without softmax layers")
refused(lambda: ringweave.linear_attention(*linear, layout=layout,
                                           plan=folder / "plan.json"),
        "without linear layers")
refused(lambda: ringweave.attention(*parts, layout=layout, plan="absent.json"),
        "absent.json")
dist.destroy_process_group()
print("agrees", rank)
'''

# Gradients of the example's first step, which the optimizer would hide: a loss
# n times too large trains the same weights under AdamW.
GRADIENTS = '''
import sys
import torch
import torch.distributed as dist
sys.path.insert(0, sys.argv[1])
import train


def gradients(parallel):
    torch.manual_seed(0)
    model = train.wrapped(train.Model(), parallel)
    train.loss_of(model, 0)[0].backward()
    return {name.removeprefix("module."):
            weight.grad.full_tensor() if parallel == "fsdp" else weight.grad
            for name, weight in model.named_parameters()}


dist.init_process_group("gloo")
rank = dist.get_rank()
got = {parallel: gradients(parallel) for parallel in ("ddp", "fsdp")}
dist.destroy_process_group()
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
want = gradients("ddp")
for parallel, weights in got.items():
    assert weights.keys() == want.keys(), parallel
    for name, gradient in weights.items():
        error = ((gradient - want[name]).norm() / want[name].norm()).item()
        assert error < 1e-4, f"{parallel}, {name}: relative error {error:.1e}"
dist.destroy_process_group()
print("agrees", rank)
'''
FIRST_CALL = '''
import torch
import torch.distributed as dist
import ringweave.transformers
dist.init_process_group("gloo")
rank = dist.get_rank()
batch = ringweave.transformers.shard_batch({"input_ids": torch.arange(12)[None]})
assert batch["input_ids"].numel() == 4
dist.destroy_process_group()
print("agrees", rank)
'''
EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "python/examples"


@unittest.skipUnless(cli.built_with_torch(), "built without torch")
class PythonOps(unittest.TestCase):
    def save_plan(self, path, pattern, **fields):
        """Of the shape that PROGRAM has; `fields` replace those of the file."""
        done = cli.run("plan", "--topology", f"mesh:ranks={RANKS}",
                       "--heads", 4, "--kv-heads", 2, "--head-dim", 8,
                       "--layers", 1, "--pattern", pattern, "--batch", 2,
                       "--compute", "float64", "--seq-len", 29, "--save", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    def agrees(self, program, argument):
        """Runs a program that prints so on every rank."""
        port = free_port()
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, argument], text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=dict(os.environ, RANK=str(rank), WORLD_SIZE=str(RANKS),
                         MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
                         OMP_NUM_THREADS="1"))
            for rank in range(RANKS)]
        for rank, process in enumerate(processes):
            out, err = process.communicate(timeout=cli.SECONDS)
            self.assertEqual(out, f"agrees {rank}\n", err)

    def test_ops_agree_with_one_device(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        plan = pathlib.Path(folder.name) / "plan.json"
        # What no name brings.
        self.save_plan(plan, "N", softmax={
            "name": "rings", "rings": [[0, 1, 2], [0, 2, 1]]})
        self.save_plan(plan.with_name("linear.json"), "L")
        self.agrees(PROGRAM, folder.name)

    def example(self, name, *arguments, ranks=2):
        """What a file of python/examples prints."""
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node",
             str(ranks), "--master-port", str(free_port()), EXAMPLES / name,
             *arguments],
            text=True, capture_output=True, timeout=cli.SECONDS)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_attention_example(self):
        self.assertIn("v's gradient: largest difference",
                      self.example("attention.py"))

    def test_context_manager_example(self):
        lines = [self.example("context_manager.py", ranks=ranks)
                 for ranks in (1, 2)]
        self.assertEqual(len(lines[0].splitlines()), 3)
        self.assertEqual(*lines)
        self.assertIn(lines[0], (EXAMPLES.parents[1] / "docs/python.md").read_text())

    def test_training_example(self):
        """DDP and FSDP2 train what one process does, and save it alike."""
        import torch  # not there without the operators
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        losses, weights = [], []
        for ranks, parallel in ((1, "ddp"), (3, "ddp"), (2, "fsdp")):
            file = f"{folder.name}/{parallel}-{ranks}.pt"
            lines = self.example("train.py", "--steps", "5", "--parallel",
                                 parallel, "--save", file,
                                 ranks=ranks).splitlines()
            self.assertEqual(len(lines), 5)
            losses.append([float(line.split()[-1]) for line in lines])
            weights.append(torch.load(file))
        self.assertLess(losses[0][-1], losses[0][0])
        for other in range(1, 3):
            for one, two in zip(losses[0], losses[other]):
                self.assertAlmostEqual(one, two, delta=2e-3)
            self.assertEqual(weights[0].keys(), weights[other].keys())
            for name, weight in weights[0].items():
                self.assertLess(
                    (weight - weights[other][name]).abs().max(), 2e-2, name)

    def test_training_examples_gradients(self):
        self.agrees(GRADIENTS, str(EXAMPLES))

    def test_a_batch_may_be_the_first_call(self):
        self.agrees(FIRST_CALL, "")

    def test_needs_a_group(self):
        done = subprocess.run(
            [sys.executable, "-c",
             "import ringweave; ringweave.unshard(None, '')"],
            text=True, capture_output=True, timeout=cli.SECONDS)
        self.assertIn("init_process_group", done.stderr)

    def test_module_without_a_launcher(self):
        done = subprocess.run(
            [sys.executable, "-m", "ringweave", "--version"], text=True,
            capture_output=True, timeout=cli.SECONDS)
        self.assertEqual(done.stdout, cli.run("--version").stdout)


if __name__ == "__main__":
    unittest.main()
