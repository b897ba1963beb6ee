"""Exact sequence parallelism for hybrid models, in any PyTorch program.

    layout = ringweave.layout("zigzag", tokens, dist.get_world_size())
    q, k, v = (ringweave.shard(x, layout) for x in (q, k, v))
    out = ringweave.attention(q, k, v, layout=layout)   # autograd works

python/examples/attention.py is a whole program. Tensors are (batch, tokens,
heads, head_dim), the local shard of each rank. A layout is of layout(), a mask a
word; each may be a dict, or the JSON text of one.
`group` is a process group, its name, or a DeviceMesh of one dimension; None is
the default group. Every rank of it must make the same calls in the same order,
backward too; ranks whose calls differ, or are refused, all get the same error
before data moves (set_agreement). A peer that makes no call within the time-out
that the group had in its first call (init_process_group(timeout=...)) is an
error, too, and the group can't be used after it. Nothing here copies a tensor's
tokens to other ranks but `unshard`.
"""

# What follows loads torch and the op library in the first use of an operation:
# the commands of ringweave/commands need neither.
_OPERATIONS = ["Layout", "Session", "attention", "causal_convolution", "layout",
               "linear_attention", "positions", "set_agreement", "shard",
               "unshard"]
_CONTEXT = ["context_parallel", "context_parallel_unshard"]
__all__ = sorted(_OPERATIONS + _CONTEXT)


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ringweave import _context, _operations
    # All at once: from now on they are plain functions of this module.
    globals().update({each: getattr(_operations, each) for each in _OPERATIONS})
    globals().update({each: getattr(_context, each) for each in _CONTEXT})
    return globals()[name]


def __dir__():
    return sorted({*globals(), *__all__})
