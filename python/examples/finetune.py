"""Trains an unchanged model of Transformers whose sequences are split over ranks.

    torchrun --nproc-per-node 4 python/examples/finetune.py

It wants `transformers` beside torch. The model is tiny and random: put
AutoModelForCausalLM.from_pretrained(...) in its place. The losses are those of one
process, whatever the number of ranks.
"""

import torch
import torch.distributed as dist
import transformers
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
    dist.init_process_group("gloo")
    ringweave.transformers.register()
    model = DistributedDataParallel(make_model())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids = torch.randint(VOCABULARY, (ROWS, TOKENS))  # the same on all ranks
    for step in range(1, STEPS + 1):
        batch = ringweave.transformers.shard_batch(
            {"input_ids": ids, "labels": ids})
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
