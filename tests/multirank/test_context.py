"""ringweave.context_parallel: a model that calls torch's own attention, against
itself on one process."""

import contextlib
import functools
import unittest

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

import harness

ROWS, TOKENS, HEADS, KV_HEADS, HEAD_DIM, VOCABULARY = 2, 37, 4, 2, 8, 13
WIDTH = HEADS * HEAD_DIM


class Block(torch.nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.causal = causal
        self.q = torch.nn.Linear(WIDTH, WIDTH)
        self.kv = torch.nn.Linear(WIDTH, 2 * KV_HEADS * HEAD_DIM)

    def forward(self, x):
        q = self.q(x).unflatten(-1, (HEADS, HEAD_DIM)).transpose(1, 2)
        k, v = self.kv(x).unflatten(-1, (2, KV_HEADS, HEAD_DIM)).unbind(2)
        out = F.scaled_dot_product_attention(
            q, k.transpose(1, 2), v.transpose(1, 2), is_causal=self.causal,
            scale=0.3, enable_gqa=True)
        return x + out.transpose(1, 2).flatten(2)


class Model(torch.nn.Module):
    def __init__(self, causal, recompute):
        super().__init__()
        torch.manual_seed(0)
        self.recompute = recompute  # None, or use_reentrant of a checkpoint
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = torch.nn.ModuleList(Block(causal) for _ in range(2))
        self.double()

    def forward(self, ids, angles):
        x = self.embedding(ids) + angles
        for block in self.blocks:
            x = (block(x) if self.recompute is None else
                 checkpoint(block, x, use_reentrant=self.recompute))
        return x


def inputs():
    generator = torch.Generator().manual_seed(1)
    return (torch.randint(VOCABULARY, (ROWS, TOKENS), generator=generator),
            torch.randn(TOKENS, WIDTH, generator=generator, dtype=torch.float64),
            torch.randn(ROWS, TOKENS, WIDTH, generator=generator,
                        dtype=torch.float64))


def gradients(model):
    return torch.cat([value.grad.flatten() for value in model.parameters()])


def differences(group, how="plain"):
    """Of outputs and gradients, by layout and mask; whether buffers came back."""
    import ringweave
    found = {}
    for layout in ("zigzag", "contiguous", "striped"):
        for causal in (True, False):
            ids, angles, weights = inputs()
            whole = Model(causal, None)
            wanted = whole(ids, angles)
            (wanted * weights).sum().backward()
            wanted = wanted.detach()
            model = Model(causal, False if how == "checkpoint" else None)
            buffers = [ids, angles, weights]
            mesh = (dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
                    if how == "mesh" else None)
            with ringweave.context_parallel(
                    mesh, buffers=buffers, buffer_seq_dims=[1, 0, -2],
                    no_restore_buffers={weights}, layout=layout):
                out = model(ids, angles)
                (out * weights).sum().backward()
            summed = gradients(model)
            dist.all_reduce(summed)
            got, = ringweave.context_parallel_unshard(mesh, [out], [1],
                                                      layout=layout)
            same = (torch.equal(ids, inputs()[0]) and torch.equal(angles, inputs()[1])
                    and weights.shape[1] == out.shape[1])
            found[layout, causal] = (
                float((got - wanted).abs().max()),
                float((summed - gradients(whole)).abs().max()), same)
    return found


def outside(group):
    """What a checkpoint says that is recomputed behind the context."""
    import ringweave
    ids, angles, weights = inputs()
    model = Model(True, False)
    with ringweave.context_parallel(buffers=[ids, angles], buffer_seq_dims=[1, 0]):
        out = model(ids, angles)
    try:
        out.sum().backward()
        return "no error"
    except Exception as error:
        return type(error).__name__


def exceptions(group):
    """Buffers and torch's function are as before; then the context can be used."""
    import ringweave
    ids, angles, _ = inputs()
    before = F.scaled_dot_product_attention
    with contextlib.suppress(KeyError):
        with ringweave.context_parallel(buffers=[ids], buffer_seq_dims=[1]):
            inside = F.scaled_dot_product_attention is not before
            raise KeyError
    same = torch.equal(ids, inputs()[0])
    with ringweave.context_parallel(buffers=[ids], buffer_seq_dims=[1]), \
            torch.no_grad():
        grad = torch.is_grad_enabled()
    with torch.no_grad(), ringweave.context_parallel(buffers=[ids],
                                                     buffer_seq_dims=[1]):
        grad = grad or torch.is_grad_enabled()
    return inside, same, F.scaled_dot_product_attention is before, grad


def refusals(group):
    import ringweave
    ids, angles, weights = inputs()

    def enter(buffers, dims, **more):
        with ringweave.context_parallel(buffers=buffers, buffer_seq_dims=dims,
                                        **more):
            pass

    def attend(*more, heads=2, **keywords):
        with ringweave.context_parallel(buffers=[ids], buffer_seq_dims=[1]):
            x = torch.zeros(1, heads, ids.shape[1], 8)
            F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], *more, **keywords)

    def twice():
        with ringweave.context_parallel(buffers=[ids], buffer_seq_dims=[1]):
            enter([angles], [0])

    def reentrant():
        with ringweave.context_parallel(buffers=[ids, angles],
                                        buffer_seq_dims=[1, 0]):
            Model(True, True)(ids, angles.requires_grad_(False))

    calls = {
        "none": lambda: enter([], []),
        "dims": lambda: enter([ids], [1, 0]),
        "dim": lambda: enter([ids], [2]),
        "gradient": lambda: enter([angles.clone().requires_grad_()], [0]),
        "view": lambda: enter([weights[:1]], [1]),
        "expanded": lambda: enter([torch.zeros(1).expand(TOKENS)], [0]),
        "twice": lambda: enter([ids, ids], [1, 1]),
        "tokens": lambda: enter([ids, angles[:5].clone()], [1, 0]),
        "not there": lambda: enter([ids], [1], no_restore_buffers={angles}),
        "nested": twice,
        "layout": lambda: enter([ids], [1], layout="spiral"),
        "mask": lambda: attend(torch.zeros(1)),
        "dropout": lambda: attend(dropout_p=0.1),
        "heads": lambda: attend(heads=4),
        "shape": lambda: attend_of_three(ids),
        "reentrant": reentrant,
        "other buffer": lambda: enter([ids + dist.get_rank()], [1]),
        "one rank's": lambda: enter([ids] * (1 + dist.get_rank()), [1]),
        "inference": lambda: enter([in_inference()], [0]),
        "weights": lambda: attend_with_weights(ids),
        "unshard": lambda: ringweave.context_parallel_unshard(None, [ids], [])}

    def whole_again(call):
        try:
            call()
        finally:
            assert ids.shape == (ROWS, TOKENS)

    return harness.said({name: functools.partial(whole_again, call)
                         for name, call in calls.items()})


def in_inference():
    with torch.inference_mode():
        return torch.zeros(TOKENS)


def attend_with_weights(ids):
    import ringweave
    attend = torch.nn.MultiheadAttention(8, 2)
    with ringweave.context_parallel(buffers=[ids], buffer_seq_dims=[1]):
        x = torch.zeros(ids.shape[1], 1, 8)
        attend(x, x, x)


def modules(group):
    """Differences of torch's own modules, in training and evaluation."""
    import ringweave
    found = {}
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 2, 16, dropout=0.0,
                                             batch_first=True).double()
    x = torch.randn(ROWS, TOKENS, 16, dtype=torch.float64)
    for training in (True, False):
        layer.train(training)
        with torch.no_grad():
            wanted = layer(x)
            with ringweave.context_parallel(buffers=[x], buffer_seq_dims=[1]):
                out = layer(x)
            got, = ringweave.context_parallel_unshard(None, [out], [1])
        found[training] = (got - wanted).abs().max().item()
    return found, torch.backends.mha.get_fastpath_enabled()


def attend_of_three(ids):
    import ringweave
    with ringweave.context_parallel(buffers=[ids], buffer_seq_dims=[1]):
        x = torch.zeros(2, ids.shape[1], 8)
        F.scaled_dot_product_attention(x, x, x)


class Context(unittest.TestCase):
    def test_outputs_and_gradients_are_those_of_one_process(self):
        for size, how in ((1, "plain"), (2, "mesh"), (3, "plain"),
                          (3, "checkpoint")):
            for found in harness.run_well(self, differences, size, how=how):
                self.assertEqual(len(found), 6)
                for case, (output, gradient, same) in found.items():
                    self.assertLess(max(output, gradient), 1e-10, (size, how, case))
                    self.assertTrue(same, (size, how, case))

    def test_a_checkpoint_recomputed_outside_is_an_error(self):
        for name in harness.run_well(self, outside, 2):
            self.assertEqual(name, "CheckpointError")

    def test_modules_of_torch(self):
        for found, fast_path in harness.run_well(self, modules, 2):
            self.assertTrue(fast_path)
            for training, difference in found.items():
                self.assertLess(difference, 1e-10, training)

    def test_exceptions(self):
        for found in harness.run_well(self, exceptions, 2):
            self.assertEqual(found, (True, True, True, False))

    def test_refusals(self):
        wanted = {
            "none": "got 0 buffers and 0 buffer_seq_dims",
            "dims": "got 1 buffers and 2 buffer_seq_dims",
            "dim": "of shape (2, 37) with buffer_seq_dim 2",
            "gradient": "which requires a gradient",
            "view": "which is a view of a tensor; want a clone() of it",
            "expanded": "which is a view of a tensor; want a clone() of it",
            "twice": "buffer 1 of shape (2, 37) twice; want it once",
            "tokens": "with 5 tokens in dimension 0; want 37, as in buffer 0",
            "not there": "no_restore_buffers that is not among buffers",
            "nested": "got a context in another",
            "layout": "spiral",
            "mask": "got an attn_mask in context_parallel; want none",
            "dropout": "got dropout_p 0.1 in context_parallel; want 0",
            "heads": "got 4 heads of queries, 2 of keys in context_parallel",
            "shape": "want (batch, heads, tokens, head_dim)",
            "reentrant": "use_reentrant=True in context_parallel",
            "other buffer": 'got buffer 0 "(2,',
            "one rank's": "refused on rank 1: [context_parallel] got 2 buffers",
            "inference": "made in inference mode",
            "weights": "got need_weights=True in context_parallel; want False",
            "unshard": "got 1 buffers and 0 seq_dims; want as many"}
        harness.check_said(self, refusals, 2, wanted)


if __name__ == "__main__":
    unittest.main()
