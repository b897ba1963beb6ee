"""Ringweave's attention and its peers', called in one way on a rank's shards.

A method is what `methods()` names. Its call takes q, k, v and the gradient of the
output as (batch, tokens of this rank, heads, head_dim) in the method's own order
of dimensions, and gives the output, or (output, gradients of q, k and v).
"""

import dataclasses
import os

import torch
import torch.distributed as dist
import torch.nn.functional as F

# DeepSpeed would look for a compiler of kernels, and say what it finds.
os.environ.setdefault("DS_ACCELERATOR", "cpu")


class Refused(Exception):
    """Our word for a call that can't be written: there is no argument for it."""


@dataclasses.dataclass(frozen=True)
class Mask:
    """Causal or full; keys from `window` tokens before the query on; documents
    that begin at these tokens, the last one being the number of tokens."""
    kind: str
    window: int | None = None
    documents: tuple | None = None

    def plain(self):
        if self.window is not None or self.documents is not None:
            raise Refused("no argument for windows or documents")
        return self.kind == "causal"

    def seen(self, tokens):
        """A table of queries × keys, for a reference."""
        at = torch.arange(tokens)
        behind = at[:, None] - at[None, :]
        seen = torch.ones(tokens, tokens, dtype=torch.bool)
        if self.kind == "causal":
            seen &= behind >= 0
        if self.window is not None:
            seen &= behind <= self.window
        if self.documents is not None:
            document = torch.bucketize(at, torch.tensor(self.documents), right=True)
            seen &= document[:, None] == document[None, :]
        return seen


class Method:
    """By autograd; `layout` is which rank has which tokens, in Ringweave's words."""
    name = layout = ""
    modules = ()  # that it imports
    masks = ("causal", "full")
    heads_first = False  # (batch, heads, tokens, head_dim)

    def forward(self, q, k, v, mask, tokens):
        raise NotImplementedError

    def order(self, x):
        """Between (batch, tokens, heads, head_dim) and the method's own order."""
        return x.transpose(1, 2).contiguous() if self.heads_first else x

    def output(self, q, k, v, mask, tokens):
        with torch.no_grad():
            return self.forward(q, k, v, mask, tokens)

    def gradients(self, q, k, v, out_grad, mask, tokens):
        q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
        out = self.forward(q, k, v, mask, tokens)
        return out.detach(), torch.autograd.grad(out, (q, k, v), out_grad)


class Ringweave(Method):
    def __init__(self, layout):
        self.name = f"ringweave, {layout}"
        self.layout = layout

    def forward(self, q, k, v, mask, tokens):
        import ringweave
        layout = ringweave.layout(self.layout, tokens, dist.get_world_size())
        asked = {"kind": mask.kind}
        if mask.window is not None:
            asked["window"] = {"left": mask.window}
        if mask.documents is not None:
            asked["document_offsets"] = list(mask.documents)
        return ringweave.attention(q, k, v, layout=layout, mask=asked)


class TorchTemplates(Method):
    """With the operation of CPUs in place of that of GPUs. `balanced`: its zigzag."""
    modules = ("torch.distributed.tensor.experimental._context_parallel._attention",)
    heads_first = True

    def __init__(self, balanced, rotation="ALL_GATHER"):
        self.balanced = balanced
        self.rotation = rotation
        self.layout = "zigzag" if balanced else "contiguous"
        self.name = "torch, " + ("balanced" if balanced else "not balanced") + (
            "" if rotation == "ALL_GATHER" else ", all_to_all")
        if balanced:
            self.masks = ("causal",)

    def module(self):
        from torch.distributed.tensor.experimental._context_parallel import (
            _attention)
        _attention._cp_options.enable_load_balance = self.balanced
        _attention._cp_options.rotate_method = _attention._RotateMethod[self.rotation]
        return _attention

    def pair(self, q, k, v, mask):
        out, lse = self.module()._templated_ring_attention(
            dist.group.WORLD, 2,
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
            query=q, key=k, value=v, is_causal=mask.plain(), dropout_p=0.0)
        return out, lse

    def output(self, q, k, v, mask, tokens):
        with torch.no_grad():
            return self.pair(q, k, v, mask)[0]

    def gradients(self, q, k, v, out_grad, mask, tokens):
        backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        with torch.no_grad():
            out, lse = self.pair(q, k, v, mask)
            found = self.module()._templated_ring_attention_backward(
                dist.group.WORLD, 2, backward.default, grad_out=out_grad,
                grad_out_name="grad_out", query=q, key=k, value=v, out=out,
                logsumexp=lse, is_causal=mask.plain(), dropout_p=0.0)
        return out, found[:3]


class RingAttentionPytorch(Method):
    modules = ("ring_attention_pytorch",)

    def __init__(self, striped):
        self.striped = striped
        self.layout = "striped" if striped else "contiguous"
        self.name = f"ring-attention-pytorch, {self.layout}"
        if striped:
            self.masks = ("causal",)

    def forward(self, q, k, v, mask, tokens):
        from ring_attention_pytorch import ring_flash_attn
        if mask.documents is not None:
            raise Refused("no argument for documents")
        # Head i of q goes with head i % kv_heads there.
        groups = q.shape[2] // k.shape[2]
        q = q.unflatten(2, (-1, groups)).transpose(2, 3).flatten(2, 3)
        # Its stripes are those of ranks if a rank has one bucket alone.
        bucket = q.shape[1] if self.striped else 1024
        out = ring_flash_attn(
            q, k, v, causal=mask.kind == "causal", bucket_size=bucket,
            ring_reduce_col=True, striped_ring_attn=self.striped,
            max_lookback_seq_len=mask.window)
        return out.unflatten(2, (groups, -1)).transpose(2, 3).flatten(2, 3)


class Ringmaster(Method):
    """With the blocks that it has for CPUs, plain softmax in float32."""
    modules = ("ringmaster.ring.distflash", "ringmaster.ring.zigzag")
    heads_first = True

    def __init__(self, way):
        self.way = way
        self.layout = "zigzag" if way == "zigzag" else "contiguous"
        self.name = f"Ringmaster, {way}"
        if way != "ring":
            self.masks = ("causal",)

    def forward(self, q, k, v, mask, tokens):
        from ringmaster.config import RotateMethod
        from ringmaster.ring import distflash, loop, zigzag
        group, scale = dist.group.WORLD, q.shape[-1] ** -0.5
        offsets = None
        if mask.documents is not None:
            offsets = torch.tensor(mask.documents, dtype=torch.int32)
        if self.way != "ring":
            if mask.window is not None:
                raise Refused("no argument for windows")
            if mask.kind != "causal":
                raise Refused("no argument for masks that are not causal")
            if self.way == "zigzag":
                out = zigzag.zigzag_ring_attention(
                    q, k, v, group=group, scaling=scale, cu_seqlens=offsets)
            else:
                out = distflash.distflash_attention(
                    q, k, v, group=group, scaling=scale, cu_seqlens=offsets,
                    attn_implementation="math")
        elif offsets is not None:
            out = loop.varlen_ring_attention(
                q, k, v, group=group, scaling=scale, cu_seqlens=offsets,
                causal=mask.kind == "causal")
        else:
            # Windows are of its way by all-gather alone.
            window = None if mask.window is None else (mask.window, 0)
            rotation = RotateMethod.ALLTOALL if window is None else (
                RotateMethod.ALLGATHER)
            out = loop.ring_attention(
                q, k, v, group=group, causal=mask.kind == "causal", scaling=scale,
                dropout=0.0, provider="math", rotate_method=rotation,
                attn_implementation="math", window=window)
        # It takes heads first and gives tokens first.
        return out.transpose(1, 2)


class Ulysses(Method):
    """DeepSpeed's exchange of heads, about torch's own attention, which takes any
    mask as a table."""
    modules = ("deepspeed.sequence.layer",)
    name = "DeepSpeed Ulysses"
    layout = "contiguous"

    def forward(self, q, k, v, mask, tokens):
        import deepspeed.comm
        from deepspeed.sequence.layer import DistributedAttention
        if deepspeed.comm.comm.cdb is None:
            deepspeed.comm.init_distributed(dist_backend="gloo", verbose=False)

        def local(q, k, v):
            how = {"is_causal": mask.kind == "causal"}
            if mask.window is not None or mask.documents is not None:
                how = {"attn_mask": mask.seen(tokens)}
            out = F.scaled_dot_product_attention(
                *(x.transpose(1, 2) for x in (q, k, v)),
                enable_gqa=q.shape[2] != k.shape[2], **how)
            return out.transpose(1, 2).contiguous()

        exchange = DistributedAttention(local, dist.group.WORLD, scatter_idx=2,
                                        gather_idx=1)
        return exchange(q, k, v, 0)


def methods():
    return [Ringweave("zigzag"), Ringweave("contiguous"),
            TorchTemplates(True), TorchTemplates(False),
            TorchTemplates(True, "ALL_TO_ALL"),
            RingAttentionPytorch(False), RingAttentionPytorch(True),
            Ringmaster("ring"), Ringmaster("zigzag"), Ringmaster("distflash"),
            Ulysses()]
