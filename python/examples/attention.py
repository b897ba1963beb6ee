"""Attention over a sequence that is split over processes, against torch's.

    torchrun --nproc-per-node 2 python/examples/attention.py

Output and gradients of ringweave.attention are compared with those of torch's
scaled_dot_product_attention on the whole sequence.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F

import ringweave

BATCH, TOKENS, HEADS, KV_HEADS, HEAD_DIM = 2, 301, 4, 2, 16


def make_inputs():
    """q, k, v and a gradient of the output, whole, the same on every rank."""
    torch.manual_seed(0)
    return [torch.randn(BATCH, TOKENS, heads, HEAD_DIM, dtype=torch.float64)
            for heads in (HEADS, KV_HEADS, KV_HEADS, HEADS)]


def on_one_device(q, k, v, out_grad):
    """Output and gradients by torch, whose op wants heads before tokens."""
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    out = F.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in leaves), is_causal=True,
        enable_gqa=True).transpose(1, 2)
    out.backward(out_grad)
    return [out.detach(), *(x.grad for x in leaves)]


def split_over_ranks(q, k, v, out_grad):
    """The same by all ranks together, put together again on each."""
    layout = ringweave.layout("zigzag", TOKENS, dist.get_world_size())
    # Each rank needs its own tokens only; a model would make them there, with
    # ringweave.positions(layout) for RoPE.
    parts = [ringweave.shard(x, layout).requires_grad_() for x in (q, k, v)]
    out = ringweave.attention(*parts, layout=layout, mask="causal")
    out.backward(ringweave.shard(out_grad, layout))
    return [ringweave.unshard(x, layout)
            for x in (out, *(part.grad for part in parts))]


def main():
    dist.init_process_group("gloo")
    inputs = make_inputs()
    for name, got, want in zip(("output", "q's gradient", "k's gradient",
                                "v's gradient"),
                               split_over_ranks(*inputs),
                               on_one_device(*inputs)):
        difference = (got - want).abs().max().item()
        if dist.get_rank() == 0:
            print(f"{name}: largest difference {difference:.1e}")
        assert difference < 1e-10
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
