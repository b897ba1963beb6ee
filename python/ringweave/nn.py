"""The families of linear layers as modules, for sequences that are split.

    layer = ringweave.nn.Gla(hidden=512, heads=8)
    y = layer(x, layout=layout)     # x: this rank's tokens, (batch, tokens, 512)

Each computes what the layer of that name does in the models of `ringweave train`
(docs/models.md has their equations), and its weights have the same names and
shapes: those of a checkpoint's model.layers.N.self_attn go into load_state_dict().
Weights begin as in those models, but for the output's projection, which there
depends on the number of layers.

`layout`, `mask` and `group` of a call are those of ringweave.linear_attention().
Whatever the type of x, norms, normalisers and decays are in float32 (float64 for
float64). Gradients of weights are this rank's part of a sum over ranks, as in any
data-parallel training.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

import ringweave
from ringweave._features import (
    divided, precise, retention_decays, square_features, taylor_features, with_one)

_INIT_STD = 0.02
_NORMALISER_EPS = 1e-6  # of Based and Rebased


def _check(condition, text):
    if not condition:
        raise ValueError(text)


def _projection(rows, columns, bias=False):
    module = nn.Linear(columns, rows, bias=bias)
    nn.init.normal_(module.weight, std=_INIT_STD)
    if bias:
        nn.init.zeros_(module.bias)
    return module


def _project(x, module):
    return F.linear(x, module.weight.to(x.dtype))


def _heads(x, count):
    return x.unflatten(-1, (count, -1))


def _convolution(channels, width, bias=False):
    """What has the weights; `causal_convolution` applies them."""
    return nn.Conv1d(channels, channels, width, groups=channels, bias=bias)


class _Norm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight, over the last dimension."""

    def __init__(self, size, eps):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        y = x.to(precise(x.dtype))
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return (y * self.weight.to(y.dtype)).to(x.dtype)


class _Layer(nn.Module):
    """Projections of queries, keys, values and of the output.

    hidden: size of a token. heads: of queries; kv_heads, which divide them, of
    keys and values (default: heads); head_dim: default hidden / heads.
    convolution: tokens that a short convolution over queries, keys and values
    sees, 2 to 8; 0: there is none. exchange: as in linear_attention().
    """

    def __init__(self, hidden, heads, *, kv_heads=None, head_dim=None,
                 key_dim=None, convolution=0, norm_eps=1e-5, exchange=None):
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        _check(min(hidden, heads, kv_heads) >= 1 and heads % kv_heads == 0,
               f"got hidden {hidden}, {heads} heads and {kv_heads} kv_heads; want "
               "at least 1 of each, and kv_heads that divide heads")
        _check(head_dim is not None or hidden % heads == 0,
               f"got hidden {hidden} and {heads} heads without head_dim; want one, "
               "or heads that divide hidden")
        _check(convolution == 0 or 2 <= convolution <= 8,
               f"got a convolution of {convolution} tokens; want 0, or 2 to 8")
        self.hidden, self.heads, self.kv_heads = hidden, heads, kv_heads
        self.head_dim = hidden // heads if head_dim is None else head_dim
        _check(self.head_dim >= 1, f"got head_dim {head_dim}; want at least 1")
        self.norm_eps, self.exchange = norm_eps, exchange
        self._make_projections(self.head_dim if key_dim is None else key_dim)
        self.o_proj = _projection(hidden, heads * self.head_dim)
        if convolution:
            self._add_convolutions(convolution)

    def _make_projections(self, key_dim):
        self.q_proj = _projection(self.heads * key_dim, self.hidden)
        self.k_proj = _projection(self.kv_heads * key_dim, self.hidden)
        self.v_proj = _projection(self.kv_heads * self.head_dim, self.hidden)

    def _add_convolutions(self, width):
        for name in "qkv":
            channels = getattr(self, f"{name}_proj").out_features
            self.add_module(f"{name}_conv1d", _convolution(channels, width))

    def _qkv(self, x, call):
        """(batch, tokens, heads of each, size of its heads)."""
        projections = self.q_proj, self.k_proj, self.v_proj
        if hasattr(self, "q_conv1d"):
            weight = torch.cat([module.weight for module in projections])
            kernels = torch.cat([module.weight for module in (
                self.q_conv1d, self.k_conv1d, self.v_conv1d)])
            parts = _convolved(F.linear(x, weight.to(x.dtype)), kernels, None,
                               call).split(
                [module.out_features for module in projections], -1)
        else:
            parts = [_project(x, module) for module in projections]
        return [_heads(part, count) for part, count in zip(
            parts, (self.heads, self.kv_heads, self.kv_heads))]

    def _attend(self, q, k, v, call, **options):
        return ringweave.linear_attention(q, k, v, exchange=self.exchange, **call,
                                          **options)

    def _normalised(self, q, k, v, eps, call):
        """Σ (q·k) v / (Σ q·k + eps), in the type of v."""
        sums = self._attend(q, k, with_one(v.to(q.dtype)), call)
        return divided(sums, eps).to(v.dtype)

    def _scale(self):
        return self.head_dim ** -0.5

    def forward(self, x, *, layout, mask="causal", group=None):
        """x: (batch, tokens of this rank, hidden), to the same shape. All ranks
        of the group call it, and its backward, in the same order."""
        call = {"layout": layout, "mask": mask, "group": group}
        return _project(self._mix(x, call), self.o_proj)


def _convolved(x, kernels, bias, call):
    """SiLU of a short convolution, (batch, tokens, channels)."""
    dtype = precise(x.dtype)
    return F.silu(ringweave.causal_convolution(
        x, kernels.squeeze(1).to(dtype),
        None if bias is None else bias.to(dtype), **call))


class Basic(_Layer):
    """φ(q)·φ(k) in place of softmax's exp(q·k), with φ(x) = elu(x) + 1 and a
    normaliser; or feature_map="identity", whose output is normed per head."""

    def __init__(self, hidden, heads, *, feature_map="elu1", **options):
        super().__init__(hidden, heads, **options)
        _check(feature_map in ("elu1", "identity"),
               f'got feature_map "{feature_map}"; want "elu1" or "identity"')
        if feature_map == "identity":
            self.o_norm = _Norm(self.head_dim, self.norm_eps)

    def _mix(self, x, call):
        q, k, v = self._qkv(x, call)
        if hasattr(self, "o_norm"):
            out = self._attend(q, k, v, call, scale=self._scale())
            return self.o_norm(out).flatten(2)
        dtype = precise(x.dtype)
        q, k = (F.elu(part.to(dtype)) + 1 for part in (q, k))
        return self._normalised(q, k, v, self.norm_eps, call).flatten(2)


def _alibi_slopes(heads):
    power = 2 ** (heads.bit_length() - 1)

    def slope(i, count):
        return 2 ** (-8 * (i + 1) / count)

    return [slope(i, power) if i < power else
            slope(2 * (i - power), 2 * power) for i in range(heads)]


class Lightning(_Layer):
    """SiLU of queries and keys, and a constant decay per head: ALiBi's slopes,
    which fall from the first of `layers` layers to the last."""

    def __init__(self, hidden, heads, *, layer=0, layers=1, **options):
        super().__init__(hidden, heads, **options)
        _check(0 <= layer < layers,
               f"got layer {layer} of {layers}; want 0 to {layers - 1}")
        self.o_norm = _Norm(heads * self.head_dim, self.norm_eps)
        depth = layer / max(1, layers - 1)
        self._decay = [-slope * (1 - depth + 1e-5)
                       for slope in _alibi_slopes(heads)]

    def _mix(self, x, call):
        q, k, v = self._qkv(x, call)
        decay = torch.tensor(self._decay, dtype=precise(x.dtype),
                             device=x.device)
        out = self._attend(F.silu(q), F.silu(k), v, call, gates=decay,
                           scale=self._scale())
        return self.o_norm(out.flatten(2))


class _Gated(_Layer):
    """The output is normed per head and goes through a gate."""

    def __init__(self, hidden, heads, **options):
        super().__init__(hidden, heads, **options)
        self.g_proj = _projection(heads * self.head_dim, hidden)
        self.g_norm = _Norm(self.head_dim, self.norm_eps)

    def _gated(self, x, out):
        gate = F.silu(_heads(_project(x, self.g_proj), self.heads))
        return (self.g_norm(out) * gate).flatten(2)


class Retention(_Gated):
    """Rotary queries and keys, and the decays 1 - 2^(-5-h)."""

    def __init__(self, hidden, heads, *, rope_theta=10000.0, **options):
        super().__init__(hidden, heads, **options)
        _check(self.head_dim % 2 == 0,
               f"got head_dim {self.head_dim}; want an even one, whose halves turn")
        self.rope_theta = rope_theta

    def _mix(self, x, call):
        q, k, v = self._qkv(x, call)
        dtype = precise(x.dtype)
        decay = retention_decays(self.heads, x.device).to(dtype)
        turn = self._angles(x, call)
        out = self._attend(self._turned(q, turn), self._turned(k, turn), v, call,
                           gates=decay, scale=self._scale())
        return self._gated(x, out)

    def _angles(self, x, call):
        half = torch.arange(self.head_dim // 2, dtype=torch.float64)
        frequencies = self.rope_theta ** (-2 * half / self.head_dim)
        positions = ringweave.positions(call["layout"], group=call["group"])
        angles = torch.outer(positions.to(torch.float64), frequencies)
        return [part.unsqueeze(1).to(x.device, precise(x.dtype))
                for part in (angles.cos(), angles.sin())]

    @staticmethod
    def _turned(x, turn):
        """Dimension i turns with dimension i + head_dim / 2."""
        cos, sin = turn
        first, second = x.to(cos.dtype).chunk(2, -1)
        return torch.cat([first * cos - second * sin,
                          second * cos + first * sin], -1).to(x.dtype)


class Gla(_Gated):
    """A decay per token, head and key dimension, by a projection of rank
    gate_rank."""

    def __init__(self, hidden, heads, *, gate_rank=16, gate_divisor=16.0,
                 **options):
        super().__init__(hidden, heads, **options)
        _check(gate_rank >= 1 and gate_divisor > 0,
               f"got gate_rank {gate_rank} and gate_divisor {gate_divisor}; want "
               "at least 1, and more than 0")
        self.gate_divisor = gate_divisor
        self.gk_proj = nn.Sequential(
            _projection(gate_rank, hidden),
            _projection(self.kv_heads * self.head_dim, gate_rank, bias=True))

    def _mix(self, x, call):
        q, k, v = self._qkv(x, call)
        down, up = self.gk_proj
        dtype = precise(x.dtype)
        logits = (_project(_project(x, down), up).to(dtype)
                  + up.bias.to(dtype))
        gates = _heads(F.logsigmoid(logits) / self.gate_divisor, self.kv_heads)
        out = self._attend(q, k, v, call, gates=gates, scale=self._scale())
        return self._gated(x, out)


class _SmallHeads(_Layer):
    def __init__(self, hidden, heads, *, feature_dim=16, **options):
        _check(feature_dim >= 1, f"got feature_dim {feature_dim}; want at least 1")
        super().__init__(hidden, heads, key_dim=feature_dim, **options)
        self.feature_dim = feature_dim

    def _mix(self, x, call):
        q, k, v = self._qkv(x, call)
        dtype = precise(x.dtype)
        return self._normalised(self._features(q.to(dtype)),
                                self._features(k.to(dtype)), v,
                                _NORMALISER_EPS, call).flatten(2)


class Based(_SmallHeads):
    """1 + s + s²/2 in place of exp(s), s = q·k / √feature_dim."""

    def _features(self, x):
        return taylor_features(x / self.feature_dim ** 0.25)


class _FeatureMap(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(size))
        self.beta = nn.Parameter(torch.zeros(size))


class Rebased(_SmallHeads):
    """(q'·k')² / feature_dim in place of exp, x' = γ ⊙ layernorm(x) + β."""

    def __init__(self, hidden, heads, **options):
        super().__init__(hidden, heads, **options)
        self.feature_map = _FeatureMap(self.feature_dim)

    def _features(self, x):
        normed = F.layer_norm(x, x.shape[-1:], self.feature_map.gamma.to(x.dtype),
                              self.feature_map.beta.to(x.dtype), self.norm_eps)
        return square_features(normed) / math.sqrt(self.feature_dim)


class Mamba2(_Layer):
    """A decay per token and head that the token chooses, and one key (B) and
    query (C) of state_dim numbers for all heads. It always has a convolution."""

    def __init__(self, hidden, heads, *, state_dim=64, convolution=4, **options):
        _check(state_dim >= 1, f"got state_dim {state_dim}; want at least 1")
        _check(convolution != 0,
               "got no convolution; want 2 to 8 tokens that it sees")
        _check(options.get("kv_heads") in (None, heads),
               f"got {options.get('kv_heads')} kv_heads; want none: all heads have "
               "one key, and values of their own")
        self.state_dim = state_dim  # nn.Module lets plain values be set before
        super().__init__(hidden, heads, convolution=convolution, **options)
        inner = heads * self.head_dim
        self.g_proj = _projection(inner, hidden)
        self.dt_proj = _projection(heads, hidden)
        self.norm = _Norm(inner, self.norm_eps)
        self.D = nn.Parameter(torch.ones(heads))
        # exp(A_log) evenly from 1 to 16; softplus(dt_bias) from 1e-3 to 0.1,
        # evenly in the logarithm: as the authors draw them.
        self.A_log = nn.Parameter((1 + 15 * torch.rand(heads)).log())
        step = torch.exp(math.log(1e-3) + math.log(100) * torch.rand(heads))
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))

    def _make_projections(self, key_dim):
        self.q_proj = _projection(self.state_dim, self.hidden)
        self.k_proj = _projection(self.state_dim, self.hidden)
        self.v_proj = _projection(self.heads * self.head_dim, self.hidden)

    def _add_convolutions(self, width):
        self.conv1d = _convolution(
            self.heads * self.head_dim + 2 * self.state_dim, width, bias=True)

    def _mix(self, x, call):
        projections = self.v_proj, self.k_proj, self.q_proj
        weight = torch.cat([module.weight for module in projections])
        values, keys, queries = _convolved(
            F.linear(x, weight.to(x.dtype)), self.conv1d.weight,
            self.conv1d.bias, call).split(
                [module.out_features for module in projections], -1)
        dtype = precise(x.dtype)
        v = _heads(values, self.heads).to(dtype)
        step = F.softplus(_project(x, self.dt_proj).to(dtype)
                          + self.dt_bias.to(dtype))
        # The step multiplies the value, not the key: the same product, and the
        # key stays one for all heads.
        out = self._attend(
            _heads(queries, 1), _heads(keys, 1),
            (v * step.unsqueeze(-1)).to(x.dtype), call,
            gates=-step * self.A_log.to(dtype).exp())
        skipped = out.to(dtype) + v * self.D.to(dtype).unsqueeze(-1)
        gated = skipped.flatten(2) * F.silu(_project(x, self.g_proj).to(dtype))
        return self.norm(gated).to(x.dtype)
