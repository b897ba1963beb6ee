"""ringweave.linear_attention() against the naive operators of fla-core:
outputs, final states, and the gradients of all inputs."""

import inspect
import unittest

import fla.ops
import fla.ops.rebased
import torch
import torch.distributed as dist
from fla.ops.based.naive import naive_parallel_based
from fla.ops.gla.naive import naive_recurrent_gla
from fla.ops.linear_attn.naive import naive_recurrent_linear_attn
from fla.ops.rebased.naive import naive_parallel_rebased
from fla.ops.retention.naive import naive_retention
from fla.ops.simple_gla.naive import naive_recurrent_simple_gla

import ringweave
import ringweave.fla
from comparison import (BATCH, TOKENS, TYPES, Comparison, computing,
                        heads_first)

HEADS, KEY, VALUE = 3, 6, 5
SCALE = KEY ** -0.5  # the default of the naive operators


def ours(q, k, v, gates=None, initial_state=None, scale=SCALE):
    layout = ringweave.layout("zigzag", TOKENS, 1)
    return ringweave.linear_attention(
        q, k, v, layout=layout, gates=gates, scale=scale,
        initial_state=initial_state, final_state=True)


def squares(x):
    """Features whose products are the squares of x's products."""
    return (x.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2)


def based_features(x):
    x = x * SCALE ** 0.5
    one = torch.ones_like(x[..., :1])
    return torch.cat([one, x, squares(x) / 2 ** 0.5], -1)


def rebased_features(x):
    return squares(x * SCALE ** 0.5)


def normalised(features, q, k, v):
    """Σ φq·φk v / Σ φq·φk by our operator."""
    with_ones = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    sums, _ = ours(features(q), features(k), with_ones, scale=1)
    return sums[..., :-1] / (sums[..., -1:] + 1e-6)


def retention_gates(q):
    """γ of the heads are constants of the naive operator."""
    return torch.log1p(-torch.exp2(-5 - torch.arange(HEADS, dtype=q.dtype)))


# What each is given beside q, k and v, then our operator and theirs, which
# return the output or the output and the last state.
OPERATORS = {
    "gla": (("per_key", "state"), ours,
            lambda *inputs: naive_recurrent_gla(
                *inputs, output_final_state=True)),
    "simple_gla": (("per_head", "state"), ours,
                   lambda q, k, v, g, state: naive_recurrent_simple_gla(
                       q, k, v, g, initial_state=state)),
    "linear_attn": (("state",),
                    lambda q, k, v, state: ours(q, k, v, None, state),
                    lambda q, k, v, state: naive_recurrent_linear_attn(
                        q, k, v, initial_state=state,
                        output_final_state=True)),
    "retention": ((), lambda q, k, v: ours(q, k, v, retention_gates(q))[0],
                  lambda *inputs: heads_first(naive_retention, *inputs)),
    "based": ((), lambda *inputs: normalised(based_features, *inputs),
              lambda *inputs: heads_first(naive_parallel_based, *inputs)),
    "rebased": ((), lambda *inputs: normalised(rebased_features, *inputs),
                lambda *inputs: heads_first(naive_parallel_rebased, *inputs)),
}
SHAPES = {"q": (BATCH, TOKENS, HEADS, KEY), "k": (BATCH, TOKENS, HEADS, KEY),
          "v": (BATCH, TOKENS, HEADS, VALUE),
          "per_key": (BATCH, TOKENS, HEADS, KEY),
          "per_head": (BATCH, TOKENS, HEADS),
          "state": (BATCH, HEADS, KEY, VALUE)}


def drawn(names, dtype):
    generator = torch.Generator().manual_seed(1)
    inputs = {}
    for name in names:
        x = torch.randn(SHAPES[name], generator=generator, dtype=torch.float64)
        if name.startswith("per_"):
            x = torch.nn.functional.logsigmoid(x) / 4
        inputs[name] = x.to(dtype).requires_grad_()
    return inputs


def outcome(operator, inputs):
    """What it returns, and the gradients of a sum of all of it."""
    result = operator(*inputs.values())
    parts = result if isinstance(result, tuple) else (result,)
    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(part.shape, generator=generator, dtype=part.dtype)
               for part in parts]
    gradients = torch.autograd.grad(parts, list(inputs.values()), weights)
    return (dict(zip(("output", "final state"), parts)) |
            {f"gradient of {name}": gradient
             for name, gradient in zip(inputs, gradients)})


def parameters(function):
    """(name, default, kind) of each, in order."""
    return [(each.name, each.default, each.kind)
            for each in inspect.signature(function).parameters.values()]


class Signatures(unittest.TestCase):
    def test_are_those_of_flash_linear_attention(self):
        own = {"layout", "group", "exchange"}
        for name in ringweave.fla.__all__:
            theirs = getattr(fla.ops, name, None) or getattr(fla.ops.rebased, name)
            ours = parameters(getattr(ringweave.fla, name))
            with self.subTest(name):
                self.assertLessEqual(own, {each[0] for each in ours})
                # Those of keywords that are refused have names of their own.
                self.assertEqual(
                    [each for each in ours if each[0] not in own
                     and each[2] != inspect.Parameter.VAR_KEYWORD],
                    [each for each in parameters(theirs)
                     if each[2] != inspect.Parameter.VAR_KEYWORD])


class Operators(Comparison):
    @classmethod
    def setUpClass(cls):
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0,
                                world_size=1)
        cls.addClassCleanup(dist.destroy_process_group)

    def test_naive_operators(self):
        for name, (more, mine, theirs) in OPERATORS.items():
            for compute, dtype in TYPES.items():
                with self.subTest(name, compute=compute):
                    inputs = drawn(("q", "k", "v", *more), dtype)
                    with computing(compute):
                        want = outcome(theirs, inputs)
                    self.assert_equal(outcome(mine, inputs), want, compute,
                                      f"operator {name}")


if __name__ == "__main__":
    unittest.main()
