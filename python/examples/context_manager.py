"""Training with torch's attention, its sequence split by a context manager.

    torchrun --nproc-per-node 2 python/examples/context_manager.py

The script is written as for torch.distributed.tensor.experimental.context_parallel;
its import alone is Ringweave's. The losses are those of one process.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.device_mesh import init_device_mesh

from ringweave import context_parallel

VOCABULARY, TOKENS, HIDDEN, HEADS, STEPS = 64, 301, 32, 4, 3


class Model(torch.nn.Module):
    """An embedding, causal attention, and the next token's logits."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, HIDDEN)
        self.qkv = torch.nn.Linear(HIDDEN, 3 * HIDDEN)
        self.out = torch.nn.Linear(HIDDEN, VOCABULARY)

    def forward(self, ids, places):
        x = self.embedding(ids) + places
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
                   for part in self.qkv(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(x + y.transpose(1, 2).flatten(2))


def main():
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    torch.manual_seed(0)  # the same weights and tokens on all ranks
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    text = torch.randint(VOCABULARY, (1, TOKENS + 1))
    ids, labels = text[:, :-1].clone(), text[:, 1:].clone()
    places = torch.randn(TOKENS, HIDDEN)  # what depends on a position is a buffer
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        with context_parallel(mesh, buffers=[ids, labels, places],
                              buffer_seq_dims=[1, 1, 0]):
            logits = model(ids, places)
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(),
                                   reduction="sum") / TOKENS
            loss.backward()
        # Each rank has the part of its tokens.
        loss = loss.detach()
        for part in (loss, *(value.grad for value in model.parameters())):
            dist.all_reduce(part)
        optimizer.step()
        if dist.get_rank() == 0:
            print(f"step {step}: loss {loss.item():.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
