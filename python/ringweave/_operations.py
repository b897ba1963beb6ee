"""The operations of the package, over the op library."""

import json
import os

import torch
import torch.distributed

from ringweave import _groups, _library
from ringweave._layout import (Layout, json_of, layout, layout_of, positions,
                               shard)


_library.load()
_ops = torch.ops.ringweave


# Where a kernel meets a group for the first time.
_implementation = torch.library.Library("ringweave", "IMPL")
_implementation.impl("open_group", _groups.open_group,
                     "CompositeExplicitAutograd")


def _list(values):
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _mask(mask):
    """(kind or JSON of it all, left, right, documents), as operators take it."""
    if isinstance(mask, str):
        return mask, None, None, None
    fields = dict(mask)
    kind = fields.pop("kind", None)
    window = dict(fields.pop("window", None) or {})
    sides = window.pop("left", None), window.pop("right", None)
    documents = _offsets(fields.pop("document_offsets", None))
    if fields or window or not isinstance(kind, str):  # refused, or read there
        return json_of(mask), None, None, None
    return kind, *sides, documents


def _offsets(values):
    if values is None:
        return None
    if not isinstance(values, (list, tuple)) and not hasattr(values, "tolist"):
        raise TypeError(f"got document_offsets {values!r}; want numbers, lists, "
                        "tensors or arrays")
    offsets = torch.as_tensor(values)
    if offsets.numel() and (offsets.is_floating_point()
                            or offsets.dtype == torch.bool):
        raise TypeError(f"got document_offsets of {offsets.dtype}; want int64")
    return offsets.to("cpu", torch.int64)


def _path(plan):
    return None if plan is None else os.fspath(plan)


def _choice(name, chosen, default, plan):
    """`chosen` or the default; not beside a plan, which would decide."""
    if plan is not None and chosen is not None:
        raise ValueError(f"got {name}={chosen!r} and plan={str(plan)!r}; want "
                         "one of them")
    return default if chosen is None else chosen


def _check_tensors(**tensors):
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"got {name} as {type(tensor).__name__}; want a "
                            "Tensor")
        if type(tensor).__name__ == "DTensor":  # whose import is slow
            raise TypeError(f"got {name} as a DTensor, whose sizes are those of "
                            f"all ranks; want this rank's shard: "
                            f"{name}.to_local()")


def _number(name, value):
    if isinstance(value, torch.Tensor) and value.requires_grad:
        raise TypeError(f"got {name} as a tensor that requires a gradient; want "
                        f"a number: there is no gradient of {name}, multiply q "
                        "by it instead")
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise TypeError(f"got {name}={value!r}; want a number") from None


def unshard(part, layout, *, group=None, dim=1):
    """The whole tensor, on every rank, from all ranks' shards.

    The gradient of a shard is that of its tokens, summed over the ranks: a loss
    that every rank computes from the whole counts once per rank.
    """
    def call(group_name):
        _check_tensors(part=part)
        whole, _ = _ops.unshard_forward(
            part, group_name, *layout_of(layout).arguments(),
            dim + part.dim() if dim < 0 else dim)
        return whole

    return _groups.call("unshard", group, call)


def set_agreement(mode, *, group=None):
    """How the ranks of a group compare their calls; all of them call this.

    "every": the default; each call waits until all ranks are known to make the
    same one. "first_use": a call that was agreed on once is compared some calls
    later, without a wait; after an error the group can't be used. "off": nothing
    is compared.
    """
    _groups.own_group(group).set_agreement(mode)


class Session:
    """A model that reads and goes on, with what it keeps of its tokens.

        session = ringweave.Session("llama/", sequences=2, chunk=4096)
        logits = session.prefill(0, prompt)           # (vocab_size)
        logits = session.decode([0], [token])         # (1, vocab_size)
        session.save("cache/")

    checkpoint: the folder of a run, of a checkpoint, or one that Transformers
    wrote. Every rank of `group` makes the same calls with the same values, and
    gets the same logits. Without a process group this process is all. Tokens of
    a prompt are split over the ranks, `chunk` of them at a time (0: all), by
    `layout`, `softmax` and `linear`, as in attention() and linear_attention().
    compute: "float64", "float32" or "bfloat16"; None: what the folder says.
    """

    def __init__(self, checkpoint, *, sequences=1, chunk=0, layout=None,
                 softmax=None, linear=None, compute=None, group=None):
        options = {"sequences": sequences, "chunk": chunk, "layout": layout,
                   "softmax": softmax, "linear": linear, "compute": compute}
        given = {name: value for name, value in options.items()
                 if value is not None}
        alone = group is None and not torch.distributed.is_initialized()
        self._own = torch.classes.ringweave.Session(
            os.fspath(checkpoint), None if alone else _groups.own_group(group),
            json.dumps(given))

    @property
    def tokens(self):
        """How many tokens each sequence has."""
        return self._own.tokens()

    @property
    def end_tokens(self):
        """Ids that end a text, as the folder says."""
        return self._own.end_tokens()

    def prefill(self, sequence, tokens):
        """Puts tokens behind those of a sequence; the logits of the next one."""
        return self._own.prefill(sequence, _list(tokens))

    def decode(self, sequences, tokens):
        """Puts one token behind each of these sequences, which ascend."""
        return self._own.decode(_list(sequences), _list(tokens))

    def save(self, folder):
        """Makes a folder of what is kept; all ranks see one file system."""
        self._own.save(os.fspath(folder))

    def load(self, folder):
        """Fills a new session from such a folder, on any number of ranks."""
        self._own.load(os.fspath(folder))


def attention(q, k, v, *, layout, group=None, mask="causal", scale=None,
              strategy=None, plan=None):
    """Softmax attention over the sequence of all ranks' shards.

    q: (batch, tokens of this rank, heads, head_dim); k and v: the same with
    kv_heads, which divides heads. float64, float32, bfloat16 or float16.
    mask: "causal", "full", or

        {"kind": "causal", "window": {"left": 1023, "right": 0},
         "document_offsets": [0, 700, tokens]}

    A query at p sees keys p - left … p + right; a side that is left out is
    unlimited. Documents begin at the offsets; the last offset is the number of
    tokens. scale: default 1 / sqrt(head_dim).
    strategy: how keys and values travel: ring, ring_reverse, multi_ring (the
    default), time_varying_multi_ring, direct, direct:K, all_gather; over U nodes
    paths:nodes=U, double_ring:nodes=U,
    hierarchical:nodes=U,slices=K,inner=STRATEGY.
    plan: in its place, the path of a file of `ringweave plan --save`, made for
    this shape, layout and mask; the only way to rings and synthesised.
    """
    def call(group_name):
        _check_tensors(q=q, k=k, v=v)
        way = _choice("strategy", strategy, "multi_ring", plan)
        kind, left, right, documents = _mask(mask)
        out, *_ = _ops.attention_forward(
            q, k, v, documents, group_name, *layout_of(layout).arguments(),
            kind, left, right, _number("scale", scale), way, _path(plan))
        return out

    return _groups.call("attention", group, call)


def linear_attention(q, k, v, *, layout, group=None, gates=None, mask="causal",
                     scale=None, initial_state=None, final_state=False,
                     exchange=None, plan=None):
    """Linear attention: o_t = scale · S_tᵀ q_t, with the state
    S_t = diag(exp(g_t)) S_{t-1} + k_t v_tᵀ.

    q and k: (batch, tokens of this rank, heads, key_dim); v: (batch, tokens,
    heads, value_dim). float64, float32, bfloat16 or float16. Their heads may differ:
    there are as many states as the least common multiple of the heads of k, v
    and gates, of which q has a multiple or a divisor. Nothing needs repeating.
    gates: log decays <= 0 of shape (heads), (batch, tokens, heads) or (batch,
    tokens, heads, key_dim), in float32 (float64 for float64); None: no decay.
    mask: as in attention(), without a window; documents reset the state. "full"
    only without gates. layout: contiguous runs, so not striped.
    initial_state: (batch, states, key_dim, value_dim) in the type of gates, the
    same on all ranks, the first document continues from it; None: zeros. A
    rank's gradient of it, and of a constant decay, is its part of a sum over
    ranks. scale: default 1. Returns the output, with `final_state` also the
    state after the last token, the same on all ranks.
    exchange: how states travel: all_gather (the default), all_gather:STRATEGY,
    chain. plan: in its place, the path of a file of `ringweave plan --save`.
    """
    def call(group_name):
        given = {"gates": gates, "initial_state": initial_state}
        _check_tensors(q=q, k=k, v=v, **{
            name: each for name, each in given.items() if each is not None})
        way = _choice("exchange", exchange, "all_gather", plan)
        kind, left, right, documents = _mask(mask)
        out, state, *_ = _ops.linear_attention_forward(
            q, k, v, gates, initial_state, documents, group_name,
            *layout_of(layout).arguments(), kind, left, right,
            1.0 if scale is None else _number("scale", scale), way, _path(plan),
            final_state)
        return (out, state) if final_state else out

    return _groups.call("linear_attention", group, call)


def causal_convolution(x, weight, bias=None, *, layout, group=None,
                       mask="causal", initial_state=None, final_state=False):
    """A causal depthwise convolution with a short kernel:
    y_t = bias + Σ_j weight[:, width - 1 - j] ⊙ x_{t-j}, as torch's Conv1d with a
    group for each channel and width - 1 tokens of padding on the left.

    x: (batch, tokens of this rank, channels) in float64, float32, bfloat16 or float16.
    weight: (channels, width) and bias: (channels) in float32 (float64 for
    float64), the same on all ranks; a rank's gradients of them are its part of a
    sum over ranks. mask: causal, with or without documents, whose borders nothing
    crosses. layout: contiguous runs, so not striped.
    initial_state: (batch, width - 1, channels) in x's type, the inputs before the
    first token, the same on all ranks; None: zeros. Returns the output, with
    `final_state` also the last inputs, the same on all ranks.
    """
    def call(name):
        _check_tensors(x=x, weight=weight, **{
            name: tensor for name, tensor in
            (("bias", bias), ("initial_state", initial_state))
            if tensor is not None})
        kind, left, right, documents = _mask(mask)
        out, state, *_ = _ops.convolution_forward(
            x, weight, bias, initial_state, documents, name,
            *layout_of(layout).arguments(), kind, left, right, final_state)
        return (out, state) if final_state else out

    return _groups.call("convolution", group, call)
