"""The context manager of torch's own context parallelism, by Ringweave's engine."""

import contextlib
import functools
import inspect

import torch
import torch.distributed as dist
import torch.nn.functional as F
import torch.utils.checkpoint

from ringweave import _groups, _operations

_active = False  # the attribute that is replaced is one for all threads


class _Mark(torch.autograd.Function):
    """Saves a tensor that torch's own attention does not: so a checkpoint that is
    recomputed by that, outside of the context, is an error in any case."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.new_empty(0, 7))
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        ctx.saved_tensors  # this is when a checkpoint recomputes
        return grad


@contextlib.contextmanager
def context_parallel(mesh=None, *, buffers=None, buffer_seq_dims=None,
                     no_restore_buffers=None, layout="zigzag", strategy=None):
    """Splits sequences within it, as torch.distributed.tensor.experimental's.

        with ringweave.context_parallel(mesh, buffers=[ids, labels, angles],
                                        buffer_seq_dims=[1, 1, 0]):
            loss(model(ids, angles), labels).backward()

    Each buffer becomes this rank's tokens, in place, and is whole again
    afterwards, also after an exception, unless it is among no_restore_buffers.
    torch.nn.functional.scaled_dot_product_attention, looked up by that name, sees
    the tokens of all ranks: causal or full, grouped heads, scale. What depends on
    a token's position must be among the buffers: positions, RoPE's angles.
    Backward belongs inside.

    mesh: a DeviceMesh of one dimension, or another group as of attention();
    None: the default group. Any number of tokens, the same in all buffers.
    layout, strategy: as of layout() and attention().

    Raises ValueError, on all ranks, for buffers that differ by rank, and for one
    that requires a gradient, is a view, is given twice, or has another number of
    tokens; for a context in another; and for attention with a mask or dropout.
    """
    global _active
    buffers, dims = list(buffers or ()), list(buffer_seq_dims or ())
    kept = list(no_restore_buffers or ())
    group = _groups.process_group(mesh)

    def checked():
        _check_buffers(buffers, dims, kept)
        if _active:
            raise ValueError("[context_parallel] got a context in another; want one")
        return {f"buffer {index}": buffer
                for index, buffer in enumerate(buffers)}, None

    _groups.same_on_all("context_parallel", group, checked)
    tokens = buffers[0].shape[dims[0]]
    spread = _operations.layout(layout, tokens, dist.get_world_size(group))
    parts = [_operations.shard(buffer, spread, group=group, dim=dim)
             for buffer, dim in zip(buffers, dims)]
    wholes = [None if _is_among(buffer, kept) else buffer.clone()
              for buffer in buffers]
    torchs_own = F.scaled_dot_product_attention, F.multi_head_attention_forward
    fast_path = torch.backends.mha.get_fastpath_enabled()
    _active = True
    try:
        _fill(buffers, parts)
        F.scaled_dot_product_attention = _attention(spread, group, strategy)
        F.multi_head_attention_forward = _without_weights(torchs_own[1])
        # It would keep attention to itself, in evaluation alone.
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        F.scaled_dot_product_attention, F.multi_head_attention_forward = torchs_own
        torch.backends.mha.set_fastpath_enabled(fast_path)
        _active = False
        _fill(buffers, wholes)


def context_parallel_unshard(mesh, buffers, seq_dims, *, layout="zigzag"):
    """The whole tensors, on every rank, of what context_parallel() split with
    this mesh and layout, or of what was computed from that. Without gradients."""
    if len(buffers) != len(seq_dims):
        raise ValueError(f"[context_parallel_unshard] got {len(buffers)} buffers and "
                         f"{len(seq_dims)} seq_dims; want as many")
    group = _groups.process_group(mesh)
    result = []
    with torch.no_grad():
        for buffer, dim in zip(buffers, seq_dims):
            tokens = torch.tensor(buffer.shape[dim])
            dist.all_reduce(tokens, group=group)
            spread = _operations.layout(layout, tokens.item(),
                                        dist.get_world_size(group))
            result.append(_operations.unshard(buffer.detach(), spread, group=group,
                                              dim=dim))
    return result


@torch.no_grad()
def _fill(buffers, values):
    for buffer, value in zip(buffers, values):
        if value is not None:
            buffer.resize_(value.shape).copy_(value)


def _is_among(buffer, buffers):
    return any(buffer is other for other in buffers)


def _check_buffers(buffers, dims, kept):
    def refuse(got, want):
        raise ValueError(f"[context_parallel] got {got}; want {want}")

    if not buffers or len(buffers) != len(dims):
        refuse(f"{len(buffers)} buffers and {len(dims)} buffer_seq_dims",
               "as many of both, at least one: the tokens of a sequence are theirs")
    for buffer in kept:
        if not _is_among(buffer, buffers):
            refuse("one of no_restore_buffers that is not among buffers", "it there")
    tokens = None
    for index, (buffer, dim) in enumerate(zip(buffers, dims)):
        name = f"buffer {index} of shape {tuple(buffer.shape)}"
        if not -buffer.dim() <= dim < buffer.dim():
            refuse(f"{name} with buffer_seq_dim {dim}", "one of its dimensions")
        if buffer.is_inference():
            refuse(f"{name}, made in inference mode", "it made outside of that")
        if buffer.requires_grad:
            refuse(f"{name}, which requires a gradient", "inputs of the model")
        size = buffer.numel() * buffer.element_size()
        if (buffer._is_view() or not buffer.is_contiguous()
                or buffer.untyped_storage().nbytes() != size):
            refuse(f"{name}, which is a view of a tensor", "a clone() of it")
        if _is_among(buffer, buffers[:index]):
            refuse(f"{name} twice", "it once")
        if tokens is None:
            tokens = buffer.shape[dim]
        if buffer.shape[dim] != tokens:
            refuse(f"{name} with {buffer.shape[dim]} tokens in dimension {dim}",
                   f"{tokens}, as in buffer 0")


def _attention(layout, group, strategy):
    """In place of torch.nn.functional.scaled_dot_product_attention."""

    def scaled_dot_product_attention(query, key, value, attn_mask=None,
                                     dropout_p=0.0, is_causal=False, scale=None,
                                     enable_gqa=False):
        def refuse(got, want):
            raise ValueError(f"[scaled_dot_product_attention] got {got} in "
                             f"context_parallel; want {want}")

        if attn_mask is not None:
            refuse("an attn_mask", "none: is_causal, or neither")
        if dropout_p:
            refuse(f"dropout_p {dropout_p}", "0")
        if query.dim() != 4:
            refuse(f"a query of shape {tuple(query.shape)}",
                   "(batch, heads, tokens, head_dim)")
        if not enable_gqa and query.shape[1] != key.shape[1]:
            refuse(f"{query.shape[1]} heads of queries, {key.shape[1]} of keys",
                   "enable_gqa=True, or as many")
        if not torch.is_grad_enabled() and _in_reentrant_checkpoint():
            refuse("a checkpoint with use_reentrant=True",
                   "use_reentrant=False: it tells a recomputation outside")
        out = _operations.attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2),
            layout=layout, group=group, mask="causal" if is_causal else "full",
            scale=scale, strategy=strategy)
        return _Mark.apply(out.transpose(1, 2))

    return scaled_dot_product_attention


def _without_weights(torchs_own):
    """nn.MultiheadAttention's function: with weights it would be attention to the
    tokens of this rank."""

    @functools.wraps(torchs_own)
    def multi_head_attention_forward(*arguments, need_weights=True, **keywords):
        if need_weights:
            raise ValueError("[multi_head_attention_forward] got need_weights=True "
                             "in context_parallel; want False, for which there is "
                             "an attention without them")
        return torchs_own(*arguments, need_weights=False, **keywords)

    return multi_head_attention_forward


def _in_reentrant_checkpoint():
    code = torch.utils.checkpoint.CheckpointFunction.forward.__code__
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False
