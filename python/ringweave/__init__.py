"""Exact sequence parallelism for hybrid models, in any PyTorch program.

    layout = ringweave.layout("zigzag", tokens, dist.get_world_size())
    q, k, v = (ringweave.shard(x, layout) for x in (q, k, v))
    out = ringweave.attention(q, k, v, layout=layout)   # autograd works

Tensors are (batch, tokens, heads, head_dim), the local shard of each rank.
`group` is a process group or its name; None is the default group. Every rank of
it must make the same calls in the same order. A peer that does not answer within
the group's time-out (init_process_group(timeout=...)) is an error. Nothing here
copies a tensor's tokens to other ranks but `unshard`.
"""

import json
import os
import pathlib

import torch
import torch.distributed

__all__ = ["attention", "layout", "linear_attention", "positions", "shard",
           "unshard"]


def _library():
    """The op library: RINGWEAVE_LIBRARY, or the one that was built last."""
    named = os.environ.get("RINGWEAVE_LIBRARY")
    if named:
        return named
    package = pathlib.Path(__file__).resolve().parent
    builds = package.parent.parent / "build"
    found = [*package.glob("libringweave_ops.so"),
             *builds.glob("*/python/libringweave_ops.so")]
    if not found:
        raise ImportError(
            "no libringweave_ops.so: build the target ringweave_ops, or set "
            "RINGWEAVE_LIBRARY to where it is")
    return str(max(found, key=lambda path: path.stat().st_mtime))


torch.ops.load_library(_library())
_ops = torch.ops.ringweave


def _group_name(group):
    if isinstance(group, str):
        return group
    if not torch.distributed.is_initialized():
        raise RuntimeError("no process group: call "
                           "torch.distributed.init_process_group() first")
    return (group or torch.distributed.group.WORLD).group_name


def _group_rank(group):
    if isinstance(group, str):
        group = torch.distributed.distributed_c10d._resolve_process_group(group)
    return torch.distributed.get_rank(group)


def _mask_json(mask):
    return json.dumps({"kind": mask} if isinstance(mask, str) else mask)


def layout(kind, tokens, ranks):
    """Which rank holds which tokens: "contiguous", "zigzag" or "striped".

    Returns JSON text, which the other functions take. Uneven shards: write
    {"kind": "explicit", "tokens": …, "runs": [[[begin, length, stride], …], …]}
    yourself.
    """
    return _ops.layout(kind, tokens, ranks)


def positions(layout, rank=None, *, group=None):
    """Positions in the sequence of a rank's tokens; of this rank's by default."""
    return _ops.positions(layout, _group_rank(group) if rank is None else rank)


def shard(whole, layout, *, group=None, dim=1):
    """This rank's tokens of a tensor that is whole on every rank."""
    return whole.index_select(dim, positions(layout, group=group))


def unshard(part, layout, *, group=None, dim=1):
    """The whole tensor, on every rank, from all ranks' shards. No gradient."""
    return _ops.unshard(part, _group_name(group), layout, dim)


def attention(q, k, v, *, layout, group=None, mask="causal", scale=None,
              strategy="multi_ring"):
    """Softmax attention over the sequence of all ranks' shards.

    mask: "causal", "full", or {"kind": …, "window": {"left": …, "right": …},
    "document_offsets": […]}. scale: default 1 / sqrt(head_dim). strategy: how
    keys and values travel: ring, ring_reverse, multi_ring,
    time_varying_multi_ring, direct, direct:K, all_gather.
    """
    return _ops.attention(q, k, v, _group_name(group), layout, _mask_json(mask),
                          scale, strategy)


def linear_attention(q, k, v, *, layout, group=None, gates=None, mask="causal",
                     scale=1.0, initial_state=None, final_state=False,
                     transport="all_gather"):
    """Linear attention S_t = diag(exp(g_t)) S_{t-1} + k_t v_tᵀ, o_t = S_tᵀ q_t.

    gates: log decays <= 0 of shape (heads), (batch, tokens, heads) or (batch,
    tokens, heads, key_dim), in fp32 (fp64 for fp64); None: no decay.
    initial_state: the same on all ranks; a rank's gradient of it, and of a
    constant decay, is its part of a sum over ranks. Returns the output, with
    `final_state` also the state after the last token.
    """
    out, state = _ops.linear_attention(
        q, k, v, gates, initial_state, _group_name(group), layout,
        _mask_json(mask), scale, transport, final_state)
    return (out, state) if final_state else out
