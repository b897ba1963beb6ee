"""Calls with the names and arguments of flash-linear-attention's operators, for
sequences that are split.

    from ringweave.fla import chunk_gla
    o, state = chunk_gla(q, k, v, g, output_final_state=True, layout=layout)

Tensors are this rank's shards, (batch, tokens, heads, size). `layout` and `group`
are those of ringweave.linear_attention(); all else means what it does there
(fla-core 0.6.0). `cu_seqlens` are those of the whole sequence, the same on all
ranks, and want a batch of 1. States are whole on every rank. Where there are
several documents none can enter or leave: a split sequence has one.
"""

import math

import torch

import ringweave
from ringweave._features import (
    divided, precise, retention_decays, square_features, taylor_features, with_one)

__all__ = ["chunk_gla", "chunk_lightning_attn", "chunk_linear_attn",
           "chunk_retention", "chunk_simple_gla", "parallel_based",
           "parallel_rebased"]


def _offsets(name, q, cu_seqlens, states):
    """Document offsets, or None. `states`: whether one enters or leaves."""
    if cu_seqlens is None:
        return None
    offsets = torch.as_tensor(cu_seqlens).tolist()
    if q.shape[0] != 1:
        raise ValueError(f"[{name}] got cu_seqlens and a batch of {q.shape[0]}; "
                         "want a batch of 1, whose documents they are")
    if states and len(offsets) > 2:
        raise ValueError(f"[{name}] got a state that enters or leaves "
                         f"{len(offsets) - 1} documents; want one document, as a "
                         "split sequence has one state")
    # Documents without tokens see and are seen by nothing.
    return [offset for i, offset in enumerate(offsets)
            if i == 0 or offset > offsets[i - 1]]


def _refuse_others(name, others):
    for key, value in others.items():
        if value not in (None, False):
            raise TypeError(f"[{name}] got {key}={value!r}, which is not known "
                            "here; want none")


def _swapped(state, wanted):
    return state.transpose(-1, -2) if wanted and state is not None else state


def _attend(name, q, k, v, gates, scale, initial_state, output_final_state,
            cu_seqlens, layout, group, exchange, state_v_first=False):
    scale = k.shape[-1] ** -0.5 if scale is None else scale
    offsets = _offsets(name, q, cu_seqlens,
                       initial_state is not None or output_final_state)
    mask = ("causal" if offsets is None else
            {"kind": "causal", "document_offsets": offsets})
    dtype = precise(q.dtype)
    gates, initial_state = (
        None if x is None else x.to(dtype)
        for x in (gates, _swapped(initial_state, state_v_first)))
    result = ringweave.linear_attention(
        q, k, v, gates=gates, mask=mask, scale=scale,
        initial_state=initial_state, final_state=output_final_state,
        exchange=exchange, layout=layout, group=group)
    if not output_final_state:
        return result, None
    return result[0], _swapped(result[1], state_v_first)


def chunk_gla(q, k, v, g, scale=None, initial_state=None,
              output_final_state=False, state_v_first=False, cu_seqlens=None,
              cu_seqlens_cpu=None, *, layout, group=None, exchange=None):
    """g: log decays of (batch, tokens, heads, key size). Returns the output, and
    the final state or None."""
    cu_seqlens = cu_seqlens if cu_seqlens_cpu is None else cu_seqlens_cpu
    return _attend("chunk_gla", q, k, v, g, scale, initial_state,
                   output_final_state, cu_seqlens, layout, group, exchange,
                   state_v_first)


def chunk_simple_gla(q, k, v, g=None, g_gamma=None, scale=None,
                     initial_state=None, output_final_state=False,
                     state_v_first=False, cu_seqlens=None, cu_seqlens_cpu=None,
                     *, layout, group=None, exchange=None, **others):
    """g: log decays of (batch, tokens, heads); or g_gamma: of (heads)."""
    _refuse_others("chunk_simple_gla", others)
    if g is not None and g_gamma is not None:
        raise ValueError("[chunk_simple_gla] got g and g_gamma; want one of them")
    cu_seqlens = cu_seqlens if cu_seqlens_cpu is None else cu_seqlens_cpu
    return _attend("chunk_simple_gla", q, k, v, g_gamma if g is None else g,
                   scale, initial_state, output_final_state, cu_seqlens, layout,
                   group, exchange, state_v_first)


def chunk_retention(q, k, v, scale=None, initial_state=None,
                    output_final_state=False, cu_seqlens=None, *, layout,
                    group=None, exchange=None, **others):
    """The decay of head h is 1 - 2^(-5-h)."""
    _refuse_others("chunk_retention", others)
    return _attend("chunk_retention", q, k, v,
                   retention_decays(q.shape[2], q.device), scale, initial_state,
                   output_final_state, cu_seqlens, layout, group, exchange)


def chunk_lightning_attn(q, k, v, layer_idx, num_layers, scale=None,
                         initial_state=None, output_final_state=False,
                         cu_seqlens=None, *, layout, group=None, exchange=None,
                         **others):
    """The log decay of head h is -8 h / heads · (1 - layer_idx / num_layers):
    fla's, where ringweave.nn.Lightning has those of TransNormer."""
    _refuse_others("chunk_lightning_attn", others)
    heads = q.shape[2]
    slopes = torch.arange(heads, dtype=torch.float64, device=q.device)
    gates = -8 / heads * (1 - layer_idx / num_layers) * slopes
    return _attend("chunk_lightning_attn", q, k, v, gates, scale, initial_state,
                   output_final_state, cu_seqlens, layout, group, exchange)


def chunk_linear_attn(q, k, v, scale=None, initial_state=None,
                      output_final_state=False, normalize=True, cu_seqlens=None,
                      *, layout, group=None, exchange=None):
    """normalize: divided by scale · q · (the sum of keys so far) + 1e-10. States
    are then pairs, of which the second is that sum, (batch, 1, heads, key size).
    """
    name = "chunk_linear_attn"
    options = cu_seqlens, layout, group, exchange
    if not normalize:
        return _attend(name, q, k, v, None, scale, initial_state,
                       output_final_state, *options)
    # The sum of keys is the state of one more value, which is 1.
    if initial_state is not None:
        state, keys = (initial_state if isinstance(initial_state, tuple) else
                       (initial_state, None))
        keys = (torch.zeros_like(state[..., 0]) if keys is None else
                keys.squeeze(1))
        initial_state = torch.cat([state, keys.unsqueeze(-1)], -1)
    out, state = _attend(name, q, k, with_one(v), None, scale, initial_state,
                         output_final_state, *options)
    out = divided(out, 1e-10)
    if not output_final_state:
        return out, None
    return out, (state[..., :-1], state[..., -1].unsqueeze(1))


def _divided(name, features, q, k, v, eps, layout, group, exchange):
    """Σ (φq·φk) v, and beside it the sum of φq·φk, which divides it if there is
    an eps."""
    dtype = precise(q.dtype)
    sums, _ = _attend(name, features(q.to(dtype)), features(k.to(dtype)),
                      with_one(v.to(dtype)), None, 1.0, None, False, None, layout,
                      group, exchange)
    out = sums[..., :-1] if eps is None else divided(sums, eps)
    return out.to(q.dtype), sums[..., -1]


def parallel_based(q, k, v, scale=None, use_norm=True, *, layout, group=None,
                   exchange=None):
    """1 + s + s²/2 in place of exp(s), s = scale · q·k."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale

    return _divided(
        "parallel_based", lambda x: taylor_features(x * math.sqrt(scale)), q, k, v,
        1e-6 if use_norm else None, layout, group, exchange)[0]


def parallel_rebased(q, k, v, eps=1e-5, use_scale=True, use_normalize=True,
                     return_both=False, *, layout, group=None, exchange=None):
    """(scale · q·k)² in place of exp, scale = 1 / √(key size) or 1. return_both:
    the output before it is divided, heads first, and what divides it."""
    scale = q.shape[-1] ** -0.5 if use_scale else 1.0
    out, sums = _divided(
        "parallel_rebased", lambda x: square_features(x * math.sqrt(scale)), q, k, v,
        eps if use_normalize and not return_both else None, layout, group,
        exchange)
    return (out.transpose(1, 2), sums.transpose(1, 2)) if return_both else out
