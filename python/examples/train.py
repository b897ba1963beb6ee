"""A training loop around a model whose attention is Ringweave's.

    torchrun --nproc-per-node 4 python/examples/train.py --parallel fsdp

All ranks train one model on the same sequences, each on its own tokens of them.
DDP or FSDP2 reduces the gradients, as it does when ranks have other sequences.
The losses are those of one process, whatever the number of ranks.
"""

import argparse

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.checkpoint.state_dict import (StateDictOptions,
                                                     get_model_state_dict)
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import ringweave

VOCABULARY, HIDDEN, HEADS, LAYERS = 256, 64, 4, 2
BATCH, TOKENS, IGNORED = 2, 130, -100


class Block(nn.Module):
    """A layer of a hybrid model: `linear` says which attention it has."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.norm, self.mlp_norm = nn.RMSNorm(HIDDEN), nn.RMSNorm(HIDDEN)
        self.qkv = nn.Linear(HIDDEN, 3 * HIDDEN, bias=False)
        self.gate = nn.Linear(HIDDEN, HEADS) if linear else None
        self.out = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.mlp = nn.Sequential(nn.Linear(HIDDEN, 4 * HIDDEN), nn.SiLU(),
                                 nn.Linear(4 * HIDDEN, HIDDEN))

    def forward(self, x, angles, layout, mask):
        h = self.norm(x)
        q, k, v = self.qkv(h).unflatten(-1, (3, HEADS, -1)).unbind(2)
        if self.linear:
            mixed = ringweave.linear_attention(
                q, k, v, layout=layout, mask=mask, scale=q.shape[-1] ** -0.5,
                gates=F.logsigmoid(self.gate(h)).float())
        else:
            mixed = ringweave.attention(rotate(q, angles), rotate(k, angles), v,
                                        layout=layout, mask=mask)
        x = x + self.out(mixed.flatten(2))
        return x + self.mlp(self.mlp_norm(x))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, HIDDEN)
        self.blocks = nn.ModuleList(Block(linear=i % 2 == 1)
                                    for i in range(LAYERS))
        self.norm = nn.RMSNorm(HIDDEN)
        self.head = nn.Linear(HIDDEN, VOCABULARY, bias=False)

    def forward(self, tokens, layout, mask):
        x = self.embedding(tokens)
        # Where this rank's tokens stand in the whole sequence.
        angles = rope_angles(ringweave.positions(layout))
        for block in self.blocks:
            x = checkpoint(block, x, angles, layout, mask, use_reentrant=False)
        return self.head(self.norm(x))


def rope_angles(positions):
    """(tokens, head_dim / 2)"""
    pairs = HIDDEN // HEADS // 2
    return positions[:, None] * 10_000.0 ** (-torch.arange(pairs) / pairs)


def rotate(x, angles):
    """RoPE of (batch, tokens, heads, head_dim)."""
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def batch_of(step):
    """Token ids and labels of whole sequences, the same on every rank; labels
    of some tokens are not counted."""
    generator = torch.Generator().manual_seed(step)
    start = torch.randint(VOCABULARY, (BATCH, 1), generator=generator)
    ids = (start + 7 * torch.arange(TOKENS)) % VOCABULARY
    # Shifted while they are whole: the next token may be on another rank.
    tokens, labels = ids[:, :-1], ids[:, 1:].clone()
    labels[:, :20] = IGNORED  # a prompt: ranks have different numbers of labels
    return tokens, labels


def wrapped(model, parallel):
    if parallel == "ddp":
        return DistributedDataParallel(model)
    for block in model.blocks:
        fully_shard(block)
    return fully_shard(model)


def loss_of(model, step):
    """To be backpropagated, and the mean over all labels to be printed."""
    tokens, labels = batch_of(step)
    layout = ringweave.layout("zigzag", tokens.shape[1], dist.get_world_size())
    mask = {"kind": "causal",
            "document_offsets": [0, 50, tokens.shape[1]]}  # packed documents
    mine = ringweave.shard(labels, layout)
    logits = model(ringweave.shard(tokens, layout), layout, mask)
    # A rank's own mean would weight its labels by how few they are.
    total = F.cross_entropy(logits.float().flatten(0, 1), mine.flatten(),
                            ignore_index=IGNORED, reduction="sum")
    sums = torch.stack([total.detach(), (mine != IGNORED).sum().float()])
    dist.all_reduce(sums)
    # DDP and FSDP2 take the mean over ranks; the loss is the sum over them.
    return total * dist.get_world_size() / sums[1], (sums[0] / sums[1]).item()


def save(model, parallel, path):
    """One file with the names and shapes of Model, by all ranks together."""
    if parallel == "ddp":
        state = model.module.state_dict()
    else:
        state = get_model_state_dict(model, options=StateDictOptions(
            full_state_dict=True, cpu_offload=True))
    if dist.get_rank() == 0:
        torch.save(state, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parallel", choices=("ddp", "fsdp"), default="ddp")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--save", help="file for the trained weights")
    flags = parser.parse_args()
    dist.init_process_group("gloo")
    torch.manual_seed(0)  # the same weights on every rank
    model = wrapped(Model(), flags.parallel)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(flags.steps):
        optimizer.zero_grad()
        loss, mean = loss_of(model, step)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if dist.get_rank() == 0:
            print(f"step {step + 1}: loss {mean:.4f}")
    if flags.save:
        save(model, flags.parallel, flags.save)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
