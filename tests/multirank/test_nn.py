"""ringweave.nn and ringweave.fla: layers and operators over processes.

Layers against the mixers of the C++ models on the same weights and inputs, which
tests/models and tests/independent check; operators against plain recurrences. All in
float64.
"""

import functools
import itertools
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import harness
import ringweave
from ringweave import fla, nn

SECONDS = 120
RANKS = (1, 2, 3, 4)
BATCH, TOKENS, HIDDEN = 2, 13, 12
LAYOUTS = ("zigzag", "contiguous")
DOCUMENTS = [0, 3, 4, 11, TOKENS]
# Layer, its arguments, and the fields of the config that name the same.
SIZES = {"hidden": HIDDEN, "heads": 4, "kv_heads": 2, "head_dim": 4}
ALL_HEADS = {**SIZES, "kv_heads": 4}
LAYERS = {
    "basic": (nn.Basic, SIZES, {}, {}),
    "basic, identity": (nn.Basic, SIZES, {"feature_map": "identity"}, {}),
    "lightning": (nn.Lightning, SIZES, {}, {"layer": 1, "layers": 3}),
    "retention": (nn.Retention, SIZES, {}, {}),
    "gla": (nn.Gla, SIZES, {"gate_rank": 3, "gate_divisor": 8.0}, {}),
    "based": (nn.Based, SIZES, {"feature_dim": 3}, {}),
    "rebased": (nn.Rebased, SIZES, {"feature_dim": 3}, {}),
    "mamba2": (nn.Mamba2, ALL_HEADS, {"state_dim": 5}, {}),
}
for _name in list(LAYERS):
    _make, _sizes, _fields, _place = LAYERS[_name]
    if _make is not nn.Basic or not _fields:
        LAYERS[f"{_name}, convolution"] = (
            _make, _sizes, {**_fields, "convolution": 3}, _place)


def layer_of(name):
    make, sizes, fields, place = LAYERS[name]
    return make(**sizes, **fields, **place).double()


def seeded(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def drawn(name):
    """Weights, such that each matters, an input and its output's gradient."""
    shapes = {key: value.shape for key, value in layer_of(name).state_dict().items()}
    weights = {key: 0.3 * seeded(i, *shape) + (len(shape) == 1)
               for i, (key, shape) in enumerate(sorted(shapes.items()))}
    return (weights, seeded(100, BATCH, TOKENS, HIDDEN),
            seeded(101, BATCH, TOKENS, HIDDEN))


def with_gradients(layer, x, gradient, group, layout, mask="causal"):
    """What all ranks have together: the output, and gradients by name."""
    layout = ringweave.layout(layout, x.shape[1], dist.get_world_size(group))
    own = ringweave.shard(x, layout, group=group).requires_grad_()
    layer.zero_grad()
    out = layer(own, layout=layout, mask=mask, group=group)
    out.backward(ringweave.shard(gradient, layout, group=group))
    found = {"output": ringweave.unshard(out.detach(), layout, group=group),
             "gradient of input": ringweave.unshard(own.grad, layout,
                                                    group=group)}
    for name, weight in layer.named_parameters():
        dist.all_reduce(weight.grad, group=group)
        found[f"gradient of {name}"] = weight.grad.clone()
    return found


def largest_difference(got, want):
    assert got.keys() == want.keys(), (got.keys(), want.keys())
    return max(float((got[name] - want[name]).abs().max()
                     / want[name].abs().max().clamp(min=1)) for name in want)


def layers_rank(group, wanted):
    group = dist.group.WORLD
    alone = [dist.new_group([rank]) for rank in range(dist.get_world_size())][
        dist.get_rank()]
    worst = {}
    for name, want in wanted.items():
        weights, x, gradient = drawn(name)
        layer = layer_of(name)
        layer.load_state_dict(weights)
        for layout in LAYOUTS:
            got = with_gradients(layer, x, gradient, group, layout)
            worst[name, layout] = largest_difference(got, want)
        # Documents are as sequences of their own.
        parts = [with_gradients(layer, x[:, begin:end], gradient[:, begin:end],
                                alone, "contiguous")
                 for begin, end in itertools.pairwise(DOCUMENTS)]
        want = {key: torch.cat([part[key] for part in parts], 1)
                if key in ("output", "gradient of input") else
                sum(part[key] for part in parts) for key in parts[0]}
        if name.startswith("retention"):
            continue  # its rotary positions go on
        got = with_gradients(layer, x, gradient, group, "zigzag",
                             {"kind": "causal", "document_offsets": DOCUMENTS})
        worst[name, "documents"] = largest_difference(got, want)
    return worst


def types_rank(group):
    """Layers in bfloat16, and layers in float32 of inputs in bfloat16."""
    found = {}
    layout = ringweave.layout("zigzag", TOKENS, dist.get_world_size())
    for name in LAYERS:
        weights, x, _ = drawn(name)
        layer = layer_of(name).float()
        layer.load_state_dict(weights)
        x = ringweave.shard(x, layout).float()
        with torch.no_grad():
            exact = layer(x, layout=layout)
            mixed = layer(x.bfloat16(), layout=layout)
            low = layer.bfloat16()(x.bfloat16(), layout=layout)
        found[name] = [(str(out.dtype), float(
            (out.float() - exact).abs().max() / exact.abs().max()))
            for out in (mixed, low)]
    return found


COMPILED = ("retention", "based", "gla, convolution", "mamba2")


def compiled_rank(group):
    """Whole graphs give the bits of the same layers without a compiler."""
    found = {}
    layout = ringweave.layout("zigzag", TOKENS, dist.get_world_size())
    for name in COMPILED:
        weights, x, gradient = drawn(name)
        layer = layer_of(name)
        layer.load_state_dict(weights)
        x, gradient = (ringweave.shard(each, layout) for each in (x, gradient))
        x.requires_grad_()
        whole = torch.compile(layer, fullgraph=True, backend="aot_eager")
        for call in (layer, whole):
            out = call(x, layout=layout)
            results = out, *torch.autograd.grad(
                out, [x, *layer.parameters()], gradient)
            found.setdefault(name, []).append(results)
    return {name: all(map(torch.equal, *results))
            for name, results in found.items()}


class Layers(unittest.TestCase):
    @staticmethod
    @functools.cache
    def of_models():
        """What the mixers of the C++ models give, on one rank."""
        with tempfile.TemporaryDirectory() as parent:
            folders = [pathlib.Path(parent) / str(i) for i in range(len(LAYERS))]
            for folder, name in zip(folders, LAYERS):
                weights, x, gradient = drawn(name)
                _, sizes, fields, place = LAYERS[name]
                kind = name.split(",")[0]
                folder.mkdir()
                (folder / "job.json").write_text(json.dumps({
                    "model": {**sizes, "layers": place.get("layers", 1),
                              "pattern": "L", "linear": {"kind": kind, **fields}},
                    "layer": place.get("layer", 0), "compute": "float64",
                    "ranks": 1}))
                save_file(weights, folder / "weights.safetensors")
                save_file({"input": x, "gradient of output": gradient},
                          folder / "input.safetensors")
            subprocess.run([os.environ["RINGWEAVE_MIXER"], *folders], check=True,
                           timeout=SECONDS)
            return {name: load_file(folder / "output.safetensors")
                    for folder, name in zip(folders, LAYERS)}

    def test_compute_what_the_models_do(self):
        for ranks in RANKS:
            for worst in harness.run_well(self, layers_rank, ranks,
                                          wanted=self.of_models()):
                for name, difference in worst.items():
                    self.assertLess(difference, 1e-10, (ranks, *name))

    def test_compile_as_whole_graphs(self):
        for equal in harness.run_well(self, compiled_rank, 2, seconds=SECONDS):
            self.assertEqual(equal, dict.fromkeys(COMPILED, True))

    def test_lower_precision(self):
        for found in harness.run_well(self, types_rank, 2):
            for name, results in found.items():
                for dtype, difference in results:
                    self.assertEqual(dtype, "torch.bfloat16", name)
                    self.assertLess(difference, 0.1, name)

    def test_bad_arguments_are_errors(self):
        for make, arguments, words in (
                (nn.Basic, {"hidden": 12, "heads": 5}, "head_dim"),
                (nn.Basic, {"hidden": 12, "heads": 4, "kv_heads": 3}, "3 kv_heads"),
                (nn.Basic, {"hidden": 0, "heads": 1}, "hidden 0"),
                (nn.Basic, {"hidden": 12, "heads": 4, "convolution": 9}, "9 tokens"),
                (nn.Basic, {"hidden": 12, "heads": 4, "feature_map": "relu"},
                 "relu"),
                (nn.Lightning, {"hidden": 12, "heads": 4, "layer": 2, "layers": 2},
                 "layer 2 of 2"),
                (nn.Retention, {"hidden": 12, "heads": 4}, "head_dim 3"),
                (nn.Gla, {"hidden": 12, "heads": 4, "gate_rank": 0}, "gate_rank 0"),
                (nn.Based, {"hidden": 12, "heads": 4, "feature_dim": 0},
                 "feature_dim 0"),
                (nn.Mamba2, {"hidden": 12, "heads": 4, "convolution": 0},
                 "no convolution"),
                (nn.Mamba2, {"hidden": 12, "heads": 4, "kv_heads": 2},
                 "2 kv_heads")):
            with self.subTest(make=make, **arguments):
                with self.assertRaisesRegex(ValueError, words):
                    make(**arguments)


# --- operators -------------------------------------------------------------------

HEADS, KEY, VALUE = 2, 3, 4


def recurrence(q, k, v, gates, scale, state, offsets=(0,)):
    """Plain: (output, last state). gates: broadcastable to k."""
    outputs = []
    for t in range(q.shape[1]):
        if t in offsets[1:]:
            state = torch.zeros_like(state)
        if gates is not None:
            state = state * gates[:, t].exp().unsqueeze(-1)
        state = state + k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        outputs.append(scale * (q[:, t].unsqueeze(-2) @ state).squeeze(-2))
    return torch.stack(outputs, 1), state


def scores(q, k, v, score, eps):
    """Of (score(q·k)) v over causal pairs, divided by their sum."""
    s = score(torch.einsum("bqhd,bkhd->bhqk", q, k)).tril()
    out = torch.einsum("bhqk,bkhd->bqhd", s, v)
    return out / (s.sum(-1).transpose(1, 2).unsqueeze(-1) + eps)


def gates_of(per_head):
    """Log decays of heads, broadcastable to keys."""
    return per_head.view(1, 1, HEADS, 1).expand(1, TOKENS, HEADS, 1)


RETENTION = torch.log1p(-torch.exp2(
    -5 - torch.arange(HEADS, dtype=torch.float64)))
LIGHTNING = (-8 / HEADS * (1 - 1 / 3)
             * torch.arange(HEADS, dtype=torch.float64))


def normalised(q, k, v, state, keys):
    out, last = recurrence(q, k, v, None, KEY ** -0.5, state)
    ones, last_keys = recurrence(q, k, torch.ones_like(v[..., :1]), None,
                                 KEY ** -0.5, keys.squeeze(1).unsqueeze(-1))
    return out / (ones + 1e-10), last, last_keys.squeeze(-1).unsqueeze(1)


def flat(out, state):
    """Of an operator whose state is a pair."""
    return (out, *state)


# Name -> the names of its inputs, our call, and what it is: a tuple each.
OPERATORS = {
    "chunk_gla": (
        "q k v per_key state", lambda q, k, v, g, state, **place: fla.chunk_gla(
            q, k, v, g, initial_state=state, output_final_state=True, **place),
        lambda q, k, v, g, state: recurrence(q, k, v, g, KEY ** -0.5, state)),
    "chunk_gla, state_v_first": (
        "q k v per_key turned", lambda q, k, v, g, state, **place: fla.chunk_gla(
            q, k, v, g, 0.7, state, True, True, **place),
        lambda q, k, v, g, state: (lambda out, last: (out, last.transpose(2, 3)))(
            *recurrence(q, k, v, g, 0.7, state.transpose(2, 3)))),
    "chunk_simple_gla": (
        "q k v per_head state",
        lambda q, k, v, g, state, **place: fla.chunk_simple_gla(
            q, k, v, g=g, initial_state=state, output_final_state=True, **place),
        lambda q, k, v, g, state: recurrence(q, k, v, g.unsqueeze(-1),
                                             KEY ** -0.5, state)),
    "chunk_simple_gla, g_gamma": (
        "q k v", lambda q, k, v, **place: fla.chunk_simple_gla(
            q, k, v, g_gamma=RETENTION, **place)[:1],
        lambda q, k, v: recurrence(q, k, v, gates_of(RETENTION), KEY ** -0.5,
                                   zero_state(q))[:1]),
    "chunk_retention": (
        "q k v state", lambda q, k, v, state, **place: fla.chunk_retention(
            q, k, v, initial_state=state, output_final_state=True, **place),
        lambda q, k, v, state: recurrence(q, k, v, gates_of(RETENTION),
                                          KEY ** -0.5, state)),
    "chunk_lightning_attn": (
        "q k v", lambda q, k, v, **place: fla.chunk_lightning_attn(
            q, k, v, 1, 3, **place)[:1],
        lambda q, k, v: recurrence(q, k, v, gates_of(LIGHTNING), KEY ** -0.5,
                                   zero_state(q))[:1]),
    "chunk_linear_attn": (
        "positive_q positive_k v state keys",
        lambda q, k, v, state, keys, **place: flat(*fla.chunk_linear_attn(
            q, k, v, initial_state=(state, keys), output_final_state=True,
            **place)), normalised),
    "chunk_linear_attn, normalize=False": (
        "q k v state", lambda q, k, v, state, **place: fla.chunk_linear_attn(
            q, k, v, 0.5, state, True, False, **place),
        lambda q, k, v, state: recurrence(q, k, v, None, 0.5, state)),
    "parallel_based": (
        "q k v", lambda q, k, v, **place: (fla.parallel_based(q, k, v, **place),),
        lambda q, k, v: (scores(q * KEY ** -0.5, k, v,
                                lambda s: 1 + s + s ** 2 / 2, 1e-6),)),
    "parallel_rebased": (
        "q k v", lambda q, k, v, **place: (
            fla.parallel_rebased(q, k, v, use_scale=False, **place),),
        lambda q, k, v: (scores(q, k, v, torch.square, 1e-5),)),
}


def zero_state(q):
    return torch.zeros(q.shape[0], HEADS, KEY, VALUE, dtype=torch.float64)


def inputs_of(names):
    """Whole tensors by name; those that have no tokens are as on all ranks."""
    shapes = {"q": (TOKENS, HEADS, KEY), "k": (TOKENS, HEADS, KEY),
              "v": (TOKENS, HEADS, VALUE), "per_key": (TOKENS, HEADS, KEY),
              "per_head": (TOKENS, HEADS), "state": (HEADS, KEY, VALUE),
              "turned": (HEADS, VALUE, KEY), "keys": (1, HEADS, KEY)}
    found = {}
    for seed, name in enumerate(names.split()):
        kind = name.removeprefix("positive_")
        x = seeded(seed, BATCH, *shapes[kind])
        if kind in ("per_key", "per_head"):
            x = F.logsigmoid(x)
        found[name] = x.abs() + 0.1 if kind != name or kind == "keys" else x
    return found


def with_operator_gradients(call, inputs, weights):
    inputs = {name: x.detach().requires_grad_() for name, x in inputs.items()}
    outputs = call(*inputs.values())
    torch.autograd.backward(outputs, weights(outputs))
    return outputs, {name: x.grad for name, x in inputs.items()}


def operators_rank(group):
    ranks = dist.get_world_size()
    layout = ringweave.layout("zigzag", TOKENS, ranks)
    split = {"q", "k", "v", "positive_q", "positive_k", "per_key", "per_head"}
    worst = {}
    for name, (names, ours, plain) in OPERATORS.items():
        inputs = inputs_of(names)

        def weights(outputs):
            return [seeded(50 + i, *out.shape) for i, out in enumerate(outputs)]

        want_out, want = with_operator_gradients(plain, inputs, weights)

        def shard(key, x):
            return ringweave.shard(x, layout) if key in split else x

        def own_weights(outputs):
            # Each rank's gradient of a state is its part of a sum.
            first, *rest = weights(want_out)
            return [ringweave.shard(first, layout), *(x / ranks for x in rest)]

        out, got = with_operator_gradients(
            functools.partial(ours, layout=layout),
            {key: shard(key, x) for key, x in inputs.items()}, own_weights)
        found = {"out": ringweave.unshard(out[0].detach(), layout)}
        found |= {f"state {i}": x.detach() for i, x in enumerate(out[1:])}
        for key, gradient in got.items():
            if key in split:
                found[key] = ringweave.unshard(gradient, layout)
            else:
                dist.all_reduce(gradient)
                found[key] = gradient
        wanted = {"out": want_out[0], **want} | {
            f"state {i}": x for i, x in enumerate(want_out[1:])}
        worst[name] = largest_difference(
            found, {key: x.detach() for key, x in wanted.items()})
    worst["cu_seqlens"] = documents_difference(layout)
    return worst


def documents_difference(layout):
    q, k, v, g = (x[:1] for x in inputs_of("q k v per_key").values())
    # One document is empty.
    offsets = torch.tensor([0, 3, 3, 4, 11, TOKENS])
    want, _ = recurrence(q, k, v, g, KEY ** -0.5, zero_state(q), DOCUMENTS)
    out, state = fla.chunk_gla(
        *(ringweave.shard(x, layout) for x in (q, k, v, g)), cu_seqlens=offsets,
        layout=layout)
    assert state is None
    return largest_difference({"out": ringweave.unshard(out, layout)},
                              {"out": want})


def refusals_rank(group):
    layout = ringweave.layout("zigzag", TOKENS, 1)
    x = seeded(0, 2, TOKENS, HEADS, KEY)
    one = x[:1]
    calls = {
        "batch": lambda: fla.chunk_gla(x, x, x, -x.abs(), cu_seqlens=[0, 5, TOKENS],
                                       layout=layout),
        "state of documents": lambda: fla.chunk_retention(
            one, one, one, output_final_state=True, cu_seqlens=[0, 5, TOKENS],
            layout=layout),
        "two decays": lambda: fla.chunk_simple_gla(
            x, x, x, g=-x[..., 0].abs(), g_gamma=RETENTION, layout=layout),
        "other": lambda: fla.chunk_simple_gla(x, x, x, head_first=True,
                                              layout=layout)}
    return harness.said(calls)


class Operators(unittest.TestCase):
    def test_compute_what_their_names_say(self):
        for ranks in (1, 2, 3):
            for worst in harness.run_well(self, operators_rank, ranks):
                for name, difference in worst.items():
                    self.assertLess(difference, 1e-10, (ranks, name))

    def test_refusals(self):
        harness.check_said(self, refusals_rank, 1, {
            "batch": "batch of 2; want a batch of 1",
            "state of documents": "leaves 2 documents; want one",
            "two decays": "g and g_gamma",
            "other": "head_first=True"})


# --- convolutions ----------------------------------------------------------------

CHANNELS, WIDTH = 3, 4


def whole_convolution(x, weight, bias, state):
    """(output, last inputs) of torch's Conv1d."""
    before = torch.cat([state, x], 1)
    out = F.conv1d(before.transpose(1, 2), weight.unsqueeze(1), bias,
                   groups=CHANNELS).transpose(1, 2)
    return out, before[:, -(WIDTH - 1):]


def convolution_rank(group):
    ranks = dist.get_world_size()
    inputs = {"x": seeded(0, BATCH, TOKENS, CHANNELS),
              "weight": seeded(1, CHANNELS, WIDTH), "bias": seeded(2, CHANNELS),
              "state": seeded(3, BATCH, WIDTH - 1, CHANNELS)}

    def weights(outputs):
        return [seeded(50 + i, *out.shape) for i, out in enumerate(outputs)]

    want_out, want = with_operator_gradients(whole_convolution, inputs, weights)
    worst = {}
    for kind in LAYOUTS:
        layout = ringweave.layout(kind, TOKENS, ranks)
        inputs["x"] = ringweave.shard(seeded(0, BATCH, TOKENS, CHANNELS), layout)
        (out, last), got = with_operator_gradients(
            lambda x, weight, bias, state: ringweave.causal_convolution(
                x, weight, bias, initial_state=state, final_state=True,
                layout=layout), inputs,
            lambda outputs: [ringweave.shard(weights(want_out)[0], layout),
                             weights(want_out)[1] / ranks])
        for name in ("weight", "bias", "state"):
            dist.all_reduce(got[name])
        found = {"out": ringweave.unshard(out.detach(), layout),
                 "last": last.detach(),
                 **got, "x": ringweave.unshard(got["x"], layout)}
        worst[kind] = largest_difference(found, {
            "out": want_out[0].detach(), "last": want_out[1].detach(), **want})
        # Of the weight alone, twice, and of nothing at all.
        weight = inputs["weight"].clone().requires_grad_()
        out = ringweave.causal_convolution(inputs["x"], weight, layout=layout)
        first, second = (torch.autograd.grad(out.sum(), weight, retain_graph=True)
                         for _ in range(2))
        assert torch.equal(first[0], second[0])
        assert not ringweave.causal_convolution(
            inputs["x"], weight.detach(), layout=layout).requires_grad
    return worst


def convolution_refusals_rank(group):
    ranks = dist.get_world_size()
    layout = ringweave.layout("contiguous", TOKENS, ranks)
    x = ringweave.shard(seeded(0, BATCH, TOKENS, CHANNELS), layout)
    weight = seeded(1, CHANNELS, WIDTH)

    def twice():
        own = x.clone().requires_grad_()
        out = ringweave.causal_convolution(own, weight, layout=layout)
        torch.autograd.grad(out.sum(), own, create_graph=True)

    def convolve(x=x, weight=weight, layout=layout, **options):
        return ringweave.causal_convolution(x, weight, layout=layout, **options)

    return harness.said({
        "dimensions": lambda: convolve(weight=weight.unsqueeze(1)),
        "type": lambda: convolve(weight=weight.float()),
        "channels": lambda: convolve(weight=weight[:2]),
        "tokens": lambda: convolve(x=x[:, 1:]),
        "striped": lambda: convolve(layout=ringweave.layout("striped", TOKENS,
                                                            ranks)),
        "full": lambda: convolve(mask="full"), "no tensor": lambda: convolve(x=3),
        "twice": twice})


class Convolutions(unittest.TestCase):
    def test_are_torchs_of_the_whole(self):
        for ranks in (1, 2, 3, 5):
            for worst in harness.run_well(self, convolution_rank, ranks):
                for kind, difference in worst.items():
                    self.assertLess(difference, 1e-10, (ranks, kind))

    def test_refusals(self):
        harness.check_said(self, convolution_refusals_rank, 2, {
            "dimensions": "weight of 3 dimensions; want (channels, width)",
            "type": "weight of type Float; want Double",
            "channels": "weight of shape (2, 4); want (3, 4)",
            "tokens": "got x of shape", "striped": "striped",
            "full": "mask", "no tensor": "TypeError: got x as int",
            "twice": "second derivatives"})


if __name__ == "__main__":
    unittest.main()
