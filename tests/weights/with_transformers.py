"""Runs in an environment that has Transformers: makes models, and computes with
them.

    with_transformers.py JOBS.json

A job is {"do": "write", "folder", "config", "dtype", "shard"}, which writes a
random Llama, or {"do": "logits", "folder", "tokens", "out", "dtype"}.
"""

import contextlib
import json
import pathlib
import sys

import safetensors.torch
import torch
import transformers

sys.path.append(str(pathlib.Path(__file__).parents[1]))  # tests/

from in_double import in_double  # noqa: E402


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


def logits(job):
    dtype = getattr(torch, job["dtype"])
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        job["folder"], torch_dtype=dtype, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    tokens = safetensors.torch.load_file(job["tokens"])["tokens"]

    with (in_double() if dtype == torch.float64 else contextlib.nullcontext(),
          torch.no_grad()):
        rope = model.model.rotary_emb
        model.model.rotary_emb = type(rope)(model.config)  # its frequencies
        got = model.eval()(tokens).logits
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
