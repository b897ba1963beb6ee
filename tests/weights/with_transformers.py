"""Runs in an environment that has Transformers: makes models, and computes with
them.

    with_transformers.py JOBS.json

A job is {"do": "write", "folder", "config", "dtype", "shard"}, which writes a
random Llama, or {"do": "logits", "folder", "tokens", "out", "dtype"}.
"""

import json
import sys

import safetensors.torch
import torch
import transformers


def write(job):
    torch.manual_seed(job.get("seed", 0))
    dtype = getattr(torch, job["dtype"])
    config = transformers.AutoConfig.for_model(**job["config"])
    model = transformers.AutoModelForCausalLM.from_config(config).double()
    with torch.no_grad():
        for name, value in model.named_parameters():
            # Large enough that every layer matters.
            drawn = torch.randn_like(value)
            value.copy_(1 + 0.3 * drawn if value.dim() == 1 else 0.15 * drawn)
    model.to(dtype).save_pretrained(job["folder"], max_shard_size=job["shard"])


def in_double(compute):
    """The result of `compute`, in which each float32 that Transformers names is
    a float64: for norms and RoPE it knows no other type."""
    saved = torch.float, torch.float32, torch.Tensor.float
    torch.float = torch.float32 = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        return compute()
    finally:
        torch.float, torch.float32, torch.Tensor.float = saved


def logits(job):
    dtype = getattr(torch, job["dtype"])
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        job["folder"], torch_dtype=dtype, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    tokens = safetensors.torch.load_file(job["tokens"])["tokens"]

    def compute():
        rope = model.model.rotary_emb
        model.model.rotary_emb = type(rope)(model.config)  # its frequencies
        with torch.no_grad():
            return model.eval()(tokens).logits

    got = in_double(compute) if dtype == torch.float64 else compute()
    assert got.dtype == dtype, got.dtype
    safetensors.torch.save_file({"logits": got.contiguous()}, job["out"])


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    with open(sys.argv[1]) as file:
        jobs = json.load(file)
    for job in jobs:
        {"write": write, "logits": logits}[job["do"]](job)


if __name__ == "__main__":
    main()
