"""Folders of Hugging Face weights, written and read by hand, as bytes."""

import json
import random
import struct

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
NAMES = {"F64": "float64", "F32": "float32", "F16": "float16",
         "BF16": "bfloat16"}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 32}


def config(style=4, dtype="F32", **changes):
    """A config.json as that version of Transformers writes it."""
    rope = changes.pop("rope", {})
    theta = changes.pop("theta", 10000.0)
    fields = {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False,
        "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
        "head_dim": 8, "hidden_act": "silu", "hidden_size": 32,
        "initializer_range": 0.02, "intermediate_size": 48,
        "max_position_embeddings": 128, "mlp_bias": False,
        "model_type": "llama", "num_attention_heads": 4,
        "num_hidden_layers": 4, "num_key_value_heads": 2, "pretraining_tp": 1,
        "rms_norm_eps": 1e-06, "tie_word_embeddings": False,
        "use_cache": True, "vocab_size": 256}
    if style == 4:
        fields |= {"rope_theta": theta, "rope_scaling": rope or None,
                   "torch_dtype": NAMES[dtype],
                   "transformers_version": "4.57.6"}
    else:
        fields |= {"rope_parameters": {"rope_type": "default", **rope,
                                       "rope_theta": theta},
                   "dtype": NAMES[dtype], "transformers_version": "5.24.0"}
    return fields | changes


def shapes(fields):
    """Name -> shape of each tensor of a Llama."""
    hidden, inner = fields["hidden_size"], fields["intermediate_size"]
    queries = fields["num_attention_heads"] * fields["head_dim"]
    keys = fields["num_key_value_heads"] * fields["head_dim"]
    found = {"model.embed_tokens.weight": [fields["vocab_size"], hidden],
             "model.norm.weight": [hidden]}
    if not fields["tie_word_embeddings"]:
        found["lm_head.weight"] = [fields["vocab_size"], hidden]
    for layer in range(fields["num_hidden_layers"]):
        for name, shape in (
                ("input_layernorm", [hidden]),
                ("post_attention_layernorm", [hidden]),
                ("self_attn.q_proj", [queries, hidden]),
                ("self_attn.k_proj", [keys, hidden]),
                ("self_attn.v_proj", [keys, hidden]),
                ("self_attn.o_proj", [hidden, queries]),
                ("mlp.gate_proj", [inner, hidden]),
                ("mlp.up_proj", [inner, hidden]),
                ("mlp.down_proj", [hidden, inner])):
            found[f"model.layers.{layer}.{name}.weight"] = shape
    return found


def numbers(dtype, count, centre, source):
    """Bytes of random numbers, all bits of which are used."""
    values = [source.gauss(centre, 0.2) for _ in range(count)]
    if dtype == "BF16":  # the upper half of an fp32 number
        packed = struct.pack(f"<{count}f", *values)
        return b"".join(packed[i + 2:i + 4] for i in range(0, 4 * count, 4))
    letter = {"F64": "d", "F32": "f", "F16": "e"}[dtype]
    return struct.pack(f"<{count}{letter}", *values)


def size(shape):
    count = 1
    for length in shape:
        count *= length
    return count


def tensors(fields, dtype="F32", seed=1):
    """Name -> (type, shape, bytes)."""
    source = random.Random(seed)
    return {name: (dtype, shape,
                   numbers(dtype, size(shape), float(len(shape) == 1), source))
            for name, shape in shapes(fields).items()}


def write_file(path, some):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in some.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text +
                     b"".join(data for _, _, data in some.values()))


def read_file(path):
    """Name -> (type, shape, bytes)."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    body = data[8 + length:]
    return {name: (tensor["dtype"], tensor["shape"],
                   body[slice(*tensor["data_offsets"])])
            for name, tensor in header.items()}


def read(folder):
    """The tensors of a folder, whatever its files."""
    found = {}
    for path in folder.glob("*.safetensors"):
        found |= read_file(path)
    return found


def write(folder, fields, some, files=1):
    """The folder, with its tensors in that many files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields, indent=2))
    if files == 1:
        write_file(folder / "model.safetensors", some)
        return folder
    weight_map = {}
    for i in range(files):
        name = f"model-{i + 1:05}-of-{files:05}.safetensors"
        part = dict(list(some.items())[i::files])
        write_file(folder / name, part)
        weight_map |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps(
        {"metadata": {"total_size": sum(len(data) for _, _, data in
                                        some.values())},
         "weight_map": weight_map}))
    return folder
