"""Trains an unchanged model of Transformers whose sequences are split over ranks.

    torchrun --nproc-per-node 4 python/examples/finetune.py
    torchrun --nproc-per-node 4 python/examples/finetune.py --sequence-ranks 2

It wants `transformers` beside torch. The model is tiny and random: put
AutoModelForCausalLM.from_pretrained(...) in its place. Groups of --sequence-ranks
ranks, by default one of all, have other rows. The losses are those of one process,
whatever the number of ranks.
"""

import argparse

import torch
import torch.distributed as dist
import transformers
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

import ringweave.transformers

VOCABULARY, ROWS, TOKENS, STEPS = 256, 2, 515, 5


def make_model():
    torch.manual_seed(0)  # the same weights on all ranks
    return transformers.AutoModelForCausalLM.from_config(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128,
            num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2),
        attn_implementation="ringweave")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequence-ranks", type=int, metavar="N")
    arguments = parser.parse_args()
    dist.init_process_group("gloo")
    ranks = dist.get_world_size()
    sequence_ranks = arguments.sequence_ranks or ranks
    mesh = init_device_mesh("cpu", (ranks // sequence_ranks, sequence_ranks),
                            mesh_dim_names=("data", "sequence"))
    ringweave.transformers.register()
    model = DistributedDataParallel(make_model())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids = torch.randint(VOCABULARY, (ROWS, TOKENS))  # the same on all ranks
    own = ids.chunk(mesh["data"].size())[mesh["data"].get_local_rank()]
    for step in range(1, STEPS + 1):
        batch = ringweave.transformers.shard_batch(
            {"input_ids": own, "labels": own}, mesh["sequence"])
        logits = model(**batch, use_cache=False).logits
        loss = ringweave.transformers.loss(logits, batch, averaged=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if dist.get_rank() == 0:
            print(f"step {step}: loss {loss.item():.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
