"""Ringweave's mixers against whole layers of Transformers and torchscale, and
against layers that are written here around the naive operators of fla-core:
outputs, and the gradients of the input and of all weights.

A function below computes one layer, from our weights by their names. Where
the authors' layer differs by design it gets weights with which it computes the
same; docs/models.md lists the differences.
"""

import dataclasses
import functools
import itertools
import json
import os
import pathlib
import subprocess
import tempfile
import types
import typing
import unittest

import torch
import torch.nn.functional as F
import transformers
from fla.ops.based.naive import naive_parallel_based
from fla.ops.gla.naive import naive_recurrent_gla
from fla.ops.linear_attn.naive import naive_recurrent_linear_attn
from fla.ops.rebased.naive import naive_parallel_rebased
from fla.ops.retention.naive import naive_retention
from fla.ops.simple_gla.naive import naive_recurrent_simple_gla
from safetensors.torch import load_file, save_file
from torch.func import functional_call
from torchscale.component.multiscale_retention import MultiScaleRetention
from transformers import Mamba2Config, MiniMaxConfig
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
from transformers.models.minimax.modeling_minimax import (
    MiniMaxLightningAttention)

from comparison import (BATCH, TOKENS, TYPES, Comparison, computing,
                        heads_first)

SECONDS = 60
HIDDEN, HEADS, KV_HEADS, HEAD_DIM = 32, 4, 2, 8
INNER = HEADS * HEAD_DIM
EPS = 1e-5
FEATURES = 4  # of based and rebased
STATE = 6  # of mamba2
GATE_RANK = 3  # of gla
LAYERS = 3
THETA = 10000.0


def repeated(x, dim):
    """What KV_HEADS heads have, for all query heads."""
    return x.repeat_interleave(HEADS // KV_HEADS, dim)


def each_head(weight):
    """The projection of keys or values, for all query heads."""
    return repeated(weight.unflatten(0, (KV_HEADS, -1)), 0).flatten(0, 1)


def projected(w, x):
    """q, k and v, (batch, tokens, HEADS, size), after short convolutions if
    there are weights of them."""
    found = {}
    for name, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
        y = x @ w[f"{name}_proj.weight"].T
        kernel = w.get(f"{name}_conv1d.weight")
        if kernel is not None:
            channels, _, width = kernel.shape
            y = F.silu(F.conv1d(y.transpose(1, 2), kernel, groups=channels,
                                padding=width - 1)[..., :TOKENS]
                       ).transpose(1, 2)
        found[name] = y.unflatten(2, (heads, -1))
    return found["q"], repeated(found["k"], 2), repeated(found["v"], 2)


def normed(x, weight, eps=EPS):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def gated(w, x, out):
    """Of retention and gla: a norm per head, and a gate."""
    out = normed(out, w["g_norm.weight"]).flatten(2)
    return (out * F.silu(x @ w["g_proj.weight"].T)) @ w["o_proj.weight"].T


def angles(dtype):
    """Llama's, of (token, half of the head)."""
    half = torch.arange(HEAD_DIM // 2, dtype=torch.float64)
    frequencies = THETA ** (-2 * half / HEAD_DIM)
    return torch.outer(torch.arange(TOKENS, dtype=torch.float64),
                       frequencies).to(dtype)


def turned(x):
    """Rotated as complex numbers, whose parts are the halves of a head."""
    angle = angles(x.dtype).unsqueeze(1)
    y = (torch.complex(*x.chunk(2, -1)) *
         torch.polar(torch.ones_like(angle), angle))
    return torch.cat([y.real, y.imag], -1)


def basic(w, x):
    q, k, v = projected(w, x)
    out, _ = naive_recurrent_linear_attn(F.elu(q) + 1, F.elu(k) + 1, v, scale=1,
                                         normalize=True)
    return out.flatten(2) @ w["o_proj.weight"].T


def basic_identity(w, x):
    out, _ = naive_recurrent_linear_attn(*projected(w, x))
    return normed(out, w["o_norm.weight"]).flatten(2) @ w["o_proj.weight"].T


def based(w, x):
    out = heads_first(naive_parallel_based, *projected(w, x))
    return out.flatten(2) @ w["o_proj.weight"].T


def rebased(w, x):
    def scaled(y):
        y = y - y.mean(-1, keepdim=True)
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + EPS)
        return y * w["feature_map.gamma"] + w["feature_map.beta"]

    q, k, v = projected(w, x)
    out = heads_first(naive_parallel_rebased, scaled(q), scaled(k), v)
    return out.flatten(2) @ w["o_proj.weight"].T


def gla(w, x):
    q, k, v = projected(w, x)
    logits = (x @ w["gk_proj.0.weight"].T @ w["gk_proj.1.weight"].T +
              w["gk_proj.1.bias"])
    gates = (F.logsigmoid(logits) / 16).unflatten(2, (KV_HEADS, -1))
    return gated(w, x, naive_recurrent_gla(q, k, v, repeated(gates, 2))[0])


def retention(w, x):
    q, k, v = projected(w, x)
    return gated(w, x, heads_first(naive_retention, turned(q), turned(k), v))


def torchscale_retention(w, x):
    layer = MultiScaleRetention(
        types.SimpleNamespace(multiway=False, layernorm_eps=TINY_EPS), HIDDEN,
        INNER, HEADS)

    def interleaved(weight):
        """Torchscale turns dimensions 2i and 2i + 1 together."""
        halves = weight.unflatten(0, (HEADS, 2, HEAD_DIM // 2))
        return halves.transpose(1, 2).flatten(0, 2)

    weights = {
        "q_proj.weight": interleaved(w["q_proj.weight"]),
        "k_proj.weight": interleaved(each_head(w["k_proj.weight"])),
        "v_proj.weight": each_head(w["v_proj.weight"]),
        "g_proj.weight": w["g_proj.weight"],
        # Its norm has no weight; ours goes into the projection behind it.
        "out_proj.weight": (w["o_proj.weight"] *
                            w["g_norm.weight"].repeat(HEADS))}
    turn = angles(x.dtype).repeat_interleave(2, 1)
    # As its RetNetRelPos makes them, whose module wants further libraries.
    decay = torch.log(1 - 2 ** (-5 - torch.arange(HEADS, dtype=x.dtype)))
    past = torch.arange(TOKENS)[:, None] - torch.arange(TOKENS)
    mask = torch.exp(past * decay[:, None, None]).tril()
    mask = mask / mask.sum(-1, keepdim=True).sqrt()
    return functional_call(layer, weights,
                           (x, ((turn.sin(), turn.cos()), mask)))


def lightning(w, x, layer):
    """With the slopes of TransNormer."""
    q, k, v = projected(w, x)
    slopes = (2 ** (-8 * torch.arange(1, HEADS + 1, dtype=x.dtype) / HEADS) *
              (1 - layer / (LAYERS - 1) + 1e-5))
    out, _ = naive_recurrent_simple_gla(F.silu(q), F.silu(k), v,
                                        -slopes.expand(q.shape[:3]))
    return normed(out.flatten(2), w["o_norm.weight"]) @ w["o_proj.weight"].T


class SiluOfQueriesAndKeys(torch.nn.Module):
    """In place of MiniMax's activation, which is of values too."""

    def forward(self, x):
        q, k, v = x.unflatten(2, (HEADS, 3, HEAD_DIM)).unbind(3)
        return torch.stack([F.silu(q), F.silu(k), v], 3).flatten(2)


def minimax_lightning(w, x, layer):
    module = MiniMaxLightningAttention(MiniMaxConfig(
        hidden_size=HIDDEN, num_attention_heads=HEADS, head_dim=HEAD_DIM,
        num_hidden_layers=LAYERS, layer_types=["linear_attention"] * LAYERS,
        block_size=16), layer)
    module.act_fn = SiluOfQueriesAndKeys()
    of_heads = [weight.unflatten(0, (HEADS, HEAD_DIM)) for weight in (
        w["q_proj.weight"], each_head(w["k_proj.weight"]),
        each_head(w["v_proj.weight"]))]
    weights = {"qkv_proj.weight": torch.stack(of_heads, 1).flatten(0, 2),
               "norm.weight": w["o_norm.weight"],
               # The gate is sigmoid(0) = 1/2.
               "output_gate.weight": torch.zeros(INNER, HIDDEN, dtype=x.dtype),
               "out_proj.weight": 2 * w["o_proj.weight"]}
    return functional_call(module, weights, (x, None, None))[0]


def mamba2(w, x):
    """Of Transformers, whose input projection has z, x, B, C, Δ in a row."""
    module = Mamba2Mixer(Mamba2Config(
        hidden_size=HIDDEN, num_heads=HEADS, head_dim=HEAD_DIM,
        expand=INNER // HIDDEN, state_size=STATE, n_groups=1,
        conv_kernel=w["conv1d.weight"].shape[2], chunk_size=16,
        layer_norm_epsilon=EPS), 0)
    same = ("conv1d.weight", "conv1d.bias", "A_log", "D", "dt_bias",
            "norm.weight")
    weights = {name: w[name] for name in same} | {
        "in_proj.weight": torch.cat([w[f"{name}_proj.weight"]
                                     for name in ("g", "v", "k", "q", "dt")]),
        "out_proj.weight": w["o_proj.weight"]}
    return functional_call(module, weights, (x,))


# Epsilons with which theirs are ours.
NORMALISER_EPS = 1e-10  # of naive_recurrent_linear_attn()
TINY_EPS = 1e-20  # torchscale's norm sees other multiples of the output
MINIMAX_EPS = 1e-6 / HEAD_DIM  # its norm is behind q without 1 / sqrt(d)


@dataclasses.dataclass
class Case:
    theirs: typing.Callable
    linear: dict  # fields of the config
    eps: float = EPS
    layer: int = 0


def family(kind, theirs, eps=EPS, **fields):
    """A family without short convolutions, and with them."""
    linear = {"kind": kind, **fields}
    return {kind: Case(theirs, linear, eps),
            f"{kind}, convolution": Case(theirs, linear | {"convolution": 4},
                                         eps)}


CASES = {
    **family("basic", basic, NORMALISER_EPS),
    "basic, identity": Case(basic_identity, {"kind": "basic",
                                             "feature_map": "identity"}),
    **family("lightning", functools.partial(lightning, layer=0)),
    "lightning, layer 1": Case(functools.partial(lightning, layer=1),
                               {"kind": "lightning"}, layer=1),
    "lightning of MiniMax": Case(functools.partial(minimax_lightning, layer=0),
                                 {"kind": "lightning"}, MINIMAX_EPS),
    **family("retention", retention),
    "retention of torchscale": Case(torchscale_retention,
                                    {"kind": "retention"}, TINY_EPS),
    **family("gla", gla, gate_rank=GATE_RANK),
    **family("based", based, feature_dim=FEATURES),
    **family("rebased", rebased, feature_dim=FEATURES),
    **{f"mamba2 of Transformers, convolution of {width}": Case(
        mamba2, {"kind": "mamba2", "state_dim": STATE, "convolution": width})
       for width in (2, 4)},
}

RANKS = (1, 3)


def model(case):
    return {"hidden": HIDDEN, "layers": LAYERS, "heads": HEADS,
            "kv_heads": KV_HEADS, "head_dim": HEAD_DIM, "pattern": "L",
            "rope_theta": THETA, "norm_eps": case.eps, "linear": case.linear}


def shapes(linear):
    """Name -> shape of each weight, as docs/models.md lists them."""
    kind, width = linear["kind"], linear.get("convolution", 0)
    key = FEATURES if kind in ("based", "rebased") else HEAD_DIM
    rows = {"q": HEADS * key, "k": KV_HEADS * key, "v": KV_HEADS * HEAD_DIM}
    own = {}
    if kind == "basic" and "feature_map" in linear:
        own = {"o_norm.weight": (HEAD_DIM,)}
    elif kind == "lightning":
        own = {"o_norm.weight": (INNER,)}
    elif kind in ("retention", "gla"):
        own = {"g_proj.weight": (INNER, HIDDEN), "g_norm.weight": (HEAD_DIM,)}
    elif kind == "rebased":
        own = {"feature_map.gamma": (key,), "feature_map.beta": (key,)}
    elif kind == "mamba2":
        rows = {"q": STATE, "k": STATE, "v": INNER, "g": INNER, "dt": HEADS}
        channels = INNER + 2 * STATE
        own = {"conv1d.weight": (channels, 1, width),
               "conv1d.bias": (channels,), "A_log": (HEADS,), "D": (HEADS,),
               "dt_bias": (HEADS,), "norm.weight": (INNER,)}
    if kind == "gla":
        own |= {"gk_proj.0.weight": (GATE_RANK, HIDDEN),
                "gk_proj.1.weight": (rows["k"], GATE_RANK),
                "gk_proj.1.bias": (rows["k"],)}
    if width and kind != "mamba2":
        own |= {f"{name}_conv1d.weight": (size, 1, width)
                for name, size in rows.items()}
    return (own | {"o_proj.weight": (HIDDEN, INNER)} |
            {f"{name}_proj.weight": (size, HIDDEN)
             for name, size in rows.items()})


# Such that states remember, which with 1 they would not.
CENTRES = {"A_log": -1.0, "dt_bias": -2.0}


def drawn(case, compute):
    """Weights, the input, and the gradient of the output."""
    generator = torch.Generator().manual_seed(1)
    dtype = TYPES[compute]

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = {}
    for name, shape in shapes(case.linear).items():
        drawn = 0.3 * normal(*shape)
        if len(shape) == 1:
            drawn += CENTRES.get(name, 1.0)
        weights[name] = drawn.to(dtype).requires_grad_()
    x = normal(BATCH, TOKENS, HIDDEN).to(dtype).requires_grad_()
    return weights, x, normal(BATCH, TOKENS, HIDDEN).to(dtype)


def theirs(case, weights, x, gradient):
    output = case.theirs(weights, x)
    inputs = {"input": x, **weights}
    gradients = torch.autograd.grad(output, list(inputs.values()), gradient)
    return {"output": output} | {
        f"gradient of {name}": value
        for name, value in zip(inputs, gradients)}


def write_job(folder, case, weights, x, gradient, compute, ranks):
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps({
        "model": model(case), "layer": case.layer, "compute": compute,
        "ranks": ranks}))
    save_file(weights, folder / "weights.safetensors")
    save_file({"input": x, "gradient of output": gradient},
              folder / "input.safetensors")


class Layers(Comparison):
    @classmethod
    def setUpClass(cls):
        # Otherwise it warns of each kernel that a CPU has not.
        transformers.logging.set_verbosity_error()

    def test_mixers(self):
        jobs = list(itertools.product(CASES, TYPES, RANKS))
        with tempfile.TemporaryDirectory() as name:
            folders = [pathlib.Path(name) / str(i) for i in range(len(jobs))]
            for folder, (case, compute, ranks) in zip(folders, jobs):
                write_job(folder, CASES[case], *drawn(CASES[case], compute),
                          compute, ranks)
            subprocess.run([os.environ["RINGWEAVE_MIXER"], *folders],
                           check=True, timeout=SECONDS)
            outputs = [load_file(folder / "output.safetensors")
                       for folder in folders]
        for (name, compute, ranks), got in zip(jobs, outputs):
            case = CASES[name]
            with self.subTest(name, compute=compute, ranks=ranks):
                with computing(compute):
                    want = theirs(case, *drawn(case, compute))
                self.assert_equal(got, want, compute, f"{name}, {ranks} ranks")


if __name__ == "__main__":
    unittest.main()
