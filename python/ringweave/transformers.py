"""Models of Hugging Face's Transformers with their sequences split over ranks.

    import ringweave.transformers
    ringweave.transformers.register()
    model = AutoModelForCausalLM.from_pretrained(
        ..., attn_implementation="ringweave")

    batch = ringweave.transformers.shard_batch(batch)      # this rank's tokens
    logits = model(**batch, use_cache=False).logits
    loss = ringweave.transformers.loss(logits, batch)      # of the whole batch
    loss.backward()

The model is not changed. It must be a causal one of TRIED: in these, everything but
attention works token by token.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist

import ringweave
from ringweave import _groups

NAME = "ringweave"
IGNORED_LABEL = -100  # Transformers' own: such labels do not count

# Types of config whose losses and gradients were compared with those of the unsplit
# model (tests/multirank/with_transformers.py).
TRIED = ("apertus", "arcee", "cohere", "ernie4_5", "exaone4", "gemma", "glm", "glm4",
         "gpt_neox", "granite", "llama", "ministral", "mistral", "mixtral", "olmo",
         "olmo2", "olmo3", "phi3", "qwen2", "qwen3", "qwen3_moe", "seed_oss",
         "smollm3", "starcoder2")
# The others' frequencies depend on the longest position, which differs by rank.
_ROPE_TYPES = {"default", "linear", "llama3", "yarn"}
_LAYER_TYPES = {"full_attention", "sliding_attention"}
# Ranks that are seeded alike would drop the same places of other tokens.
_DROPOUTS = ("attention_dropout", "hidden_dropout", "residual_dropout",
             "resid_pdrop", "embd_pdrop", "embedding_dropout", "attn_pdrop")

# What models hand to attention that says nothing about it, or that
# shard_batch() has taken into account.
_KNOWN = {"position_ids", "position_embeddings", "cache_position",
          "num_items_in_batch", "shift_labels", "labels"}
# Masks that need no matrix: causality and windows are the operation's own, and
# packing is what shard_batch() knows of. Local positions of a split sequence look
# packed to Transformers.
_PLAIN_MASKS = {"causal_mask_function", "sliding_window_overlay",
                "packed_sequence_mask_function"}
_COMBINATIONS = {"and_masks", "remap_positions_for_packed_sequence",
                 "add_offsets_to_mask_function"}
_NO_GENERATION = "; ringweave.Session generates, model.generate() does not"


def __getattr__(name):
    if name != "Trainer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ringweave._trainer import Trainer
    return Trainer


@dataclasses.dataclass(frozen=True)
class Sequence:
    """How the sequences of a batch are split: what the model hands to attention.

    layout: of ringweave.layout(). document_offsets: where packed documents
    begin, and the number of tokens; None: one document. group, strategy: as in
    ringweave.attention(). untried: models that are not of TRIED, too.
    """
    layout: "ringweave.Layout"
    document_offsets: tuple | None = None
    group: object = None
    strategy: str | None = None
    untried: bool = False
    # Of the configs that attention has seen with it, and whether in training. Empty
    # behind models that have attention of their own.
    checked: set = dataclasses.field(default_factory=set, compare=False, repr=False)


def register() -> None:
    """Makes attn_implementation="ringweave" known to Transformers."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, _mask)


def check(config: Any, *, training: bool = True, untried: bool = False) -> None:
    """Raises ValueError unless a model of this config works with split sequences.
    Attention calls it; before training, call it with model.config yourself: a model
    whose layers never come to attention would not."""
    kind = getattr(config, "model_type", None)
    if not untried and kind not in TRIED:
        raise ValueError(
            f"[ringweave] got a model of type {kind}; want one that was tried "
            f"({', '.join(TRIED)}), or untried=True if all but its attention works "
            "token by token")
    for layer in getattr(config, "layer_types", None) or ():
        if layer not in _LAYER_TYPES:
            raise ValueError(f"[ringweave] got layers of type {layer}; want "
                             f"{' or '.join(sorted(_LAYER_TYPES))}")
    for rope in _rope_types(config):
        if rope not in _ROPE_TYPES:
            raise ValueError(
                f"[ringweave] got rope_type {rope}, whose frequencies depend on the "
                f"longest position; want {', '.join(sorted(_ROPE_TYPES))}")
    if not getattr(config, "is_causal", True):
        raise ValueError("[ringweave] got is_causal False; want a causal model")
    if getattr(config, "output_router_logits", False):
        raise ValueError("[ringweave] got output_router_logits; want False: the "
                         "router's loss is not the mean of its ranks'")
    for dropout in _DROPOUTS:
        if training and (getattr(config, dropout, 0) or 0) > 0:
            raise ValueError(f"[ringweave] got {dropout} "
                             f"{getattr(config, dropout)}; want 0 in training")


def _rope_types(config):
    for name in ("rope_parameters", "rope_scaling"):
        found = getattr(config, name, None) or {}
        # Of the model, or of each type of layer.
        for each in [found, *found.values()]:
            if isinstance(each, dict) and ("rope_type" in each or "type" in each):
                yield each.get("rope_type", each.get("type"))


def attention(module, query, key, value, attention_mask, *, scaling=None,
              dropout=0.0, sliding_window=None, is_causal=None, use_cache=None,
              sequence=None, **others):
    """As Transformers calls it: tensors are (batch, heads, tokens of this rank,
    head_dim). Returns (batch, tokens, heads, head_dim), and no weights."""
    def refuse(got, want):
        raise ValueError(f"[ringweave] got {got}; want {want}")

    # Once per batch: every layer comes here.
    config = id(module.config), module.training
    if sequence is None or config not in sequence.checked:
        check(module.config, training=module.training,
              untried=sequence is not None and sequence.untried)
    if sequence is None:
        refuse("attention without sequence=",
               f"the batch of shard_batch(){_NO_GENERATION}")
    sequence.checked.add(config)
    _check_no_mask(attention_mask)
    if use_cache or query.shape[2] != key.shape[2]:
        refuse("use_cache=True, or keys of a cache",
               f"use_cache=False{_NO_GENERATION}")
    if dropout:
        refuse(f"attention dropout {dropout}", "0")
    for name, given in others.items():
        if name not in _KNOWN and _says_something(given):
            refuse(f"{name}= from the model, which attention of ringweave does not "
                   "know", "a model without it")
    if is_causal is False or not getattr(module, "is_causal", True):
        refuse("attention that is not causal", "a causal model")
    mask = {"kind": "causal"}
    if sliding_window is not None:
        # Transformers counts the query itself.
        mask["window"] = {"left": sliding_window - 1}
    if sequence.document_offsets is not None:
        mask["document_offsets"] = list(sequence.document_offsets)
    out = ringweave.attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2),
        layout=sequence.layout, group=sequence.group, mask=mask, scale=scaling,
        strategy=sequence.strategy)
    return out, None


def _check_no_mask(attention_mask):
    if attention_mask is not None:
        raise ValueError(
            f"[ringweave] got an attention mask of shape "
            f"{tuple(attention_mask.shape)}, yours or the model's own; want none: "
            f"shard_batch() takes yours{_NO_GENERATION}")


def _says_something(value):
    return value is not None and (isinstance(value, torch.Tensor) or bool(value))


def _mask(*arguments, mask_function=None, attention_mask=None, **others):
    """In place of the matrix that Transformers would make."""
    _check_no_mask(attention_mask)
    for part in _parts(mask_function):
        name = part.__qualname__.split(".")[0]
        if name not in _PLAIN_MASKS:
            raise ValueError(f"[ringweave] got the mask {name}; want a causal one, "
                             "with or without a sliding window")
    return None


def _parts(function):
    """The mask functions that a combination of such is made of."""
    if function is None:
        return
    name = function.__qualname__.split(".")[0]
    if name not in _COMBINATIONS:
        yield function
        return
    for cell in function.__closure__ or ():
        inside = cell.cell_contents
        for each in inside if isinstance(inside, (tuple, list)) else [inside]:
            if callable(each):
                yield from _parts(each)


def shard_batch(batch: Mapping[str, Any], group: Any = None, *,
                layout: Any = "zigzag", strategy: str | None = None,
                untried: bool = False) -> dict[str, Any]:
    """This rank's tokens of a batch that is whole, and the same, on every rank of
    `group`. All ranks of it call this; they compare their batches.

    batch: a dict of `input_ids` or `inputs_embeds`, (batch, tokens, …), and if there
    are any `labels`, `position_ids`, `attention_mask`, and the `cu_seq_lens_q`
    of packed rows; all without the shift of Transformers' own losses. At least a
    token per rank. layout: "zigzag", "contiguous", "striped", or one as of
    ringweave.layout(). strategy: as of ringweave.attention(). untried: for a model
    that is not of TRIED.

    Documents begin where position ids do not go up by one, at cu_seq_lens_q, and
    where attention_mask has another number than 0 and 1 and that changes. A mask
    of 0 and 1 says where padding is: behind all of a row's tokens, or before them,
    then as much in all rows. All rows have the same documents, else ValueError.

    Returns the arguments of the model: `input_ids` or `inputs_embeds`,
    `position_ids` (of the whole sequence, or of its documents), `shift_labels` if
    there are labels (each token's is the next one's, which may be another rank's),
    and `sequence`.
    """
    group = _groups.process_group(group)
    parts, offsets, layout = _groups.same_on_all(
        "shard_batch", group, lambda: _split(dict(batch), group, layout))
    result = {name: ringweave.shard(part, layout, group=group)
              for name, part in parts.items()}
    result["sequence"] = Sequence(layout, offsets, group, strategy, untried)
    return result


def _refuse(got, want):
    raise ValueError(f"[shard_batch] got {got}; want {want}")


def _split(batch, group, layout):
    """What is to be sharded, by name, whole; offsets of documents; the layout."""
    names = [name for name in ("input_ids", "inputs_embeds") if
             batch.get(name) is not None]
    if len(names) != 1:
        _refuse(" and ".join(names) or "no tokens", "input_ids or inputs_embeds")
    tokens = batch.pop(names[0])
    rows, length = tokens.shape[:2]
    labels, positions, mask, cu_seq_lens = (
        batch.pop(name, None) for name in
        ("labels", "position_ids", "attention_mask", "cu_seq_lens_q"))
    for name in ("cu_seq_lens_k", "max_length_q", "max_length_k"):
        batch.pop(name, None)  # say the same, for kernels
    for name, value in batch.items():
        if value is not None:
            _refuse(f"{name}, which it does not know how to split", "none")
    for name, value in (("labels", labels), ("position_ids", positions),
                        ("attention_mask", mask)):
        shapes = [(rows, length)] + [(1, length)] * (name == "position_ids")
        if value is not None and tuple(value.shape) not in shapes:
            _refuse(f"{name} of shape {tuple(value.shape)}", f"{(rows, length)}")
    begins, padding = _documents(length, positions, mask, cu_seq_lens)
    if positions is None:
        # As Transformers counts: on through padding, anew in documents.
        positions = torch.arange(length, device=tokens.device)[None]
        for begin in sorted(begins):
            positions[0, begin:] = torch.arange(length - begin)
    offsets = sorted(begins | padding)
    offsets = (0, *offsets, length) if offsets else None
    parts = {names[0]: tokens, "position_ids": positions.expand(rows, length)}
    if labels is not None:
        parts["shift_labels"] = torch.nn.functional.pad(
            labels[:, 1:], (0, 1), value=IGNORED_LABEL)
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    kind = isinstance(layout, str) and not layout.lstrip().startswith("{")
    try:
        layout = ringweave.layout(*((layout, length, ranks) if kind else
                                    (layout,)))
    except RuntimeError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    if len(ringweave.positions(layout, rank)) == 0:
        _refuse(f"{length} tokens, of which rank {rank} of {ranks} has none",
                "one at least: models can't do without")
    return parts, offsets, layout


def _documents(length, positions, mask, cu_seq_lens):
    """(where documents begin, where padding ends), but for token 0."""
    begins, padding = set(), set()
    if positions is not None:
        steps = positions[:, 1:] - positions[:, :-1]
        begins |= _begins("position_ids", steps != 1)
    if mask is not None and bool(((mask == 0) | (mask == 1)).all()):
        padding = _padding(mask != 0)
    elif mask is not None:
        begins |= _begins("attention_mask", mask[:, 1:] != mask[:, :-1])
    if cu_seq_lens is not None:
        offsets = cu_seq_lens.flatten().tolist()
        if (offsets[:1] != [0] or offsets[-1] != length
                or any(a >= b for a, b in itertools.pairwise(offsets))):
            _refuse(f"cu_seq_lens_q {offsets}",
                    f"ascending offsets from 0 to {length}")
        begins |= set(offsets) - {0, length}
    return begins, padding


def _begins(name, changes):
    """The tokens at which all rows begin a document."""
    if not bool((changes == changes[:1]).all()):
        _refuse(f"{name} with other documents in some rows", "the same in all rows")
    return {token + 1 for token in changes[0].nonzero().flatten().tolist()}


def _padding(real):
    """Where padding before the tokens ends. No token sees what is behind it, so
    padding there may differ from row to row."""
    if not bool(real.any(1).all()):
        _refuse("attention_mask with a row of padding alone", "a token in each row")
    ends = real[:, 1:].int() - real[:, :-1].int()
    first = real.int().argmax(1)
    if bool(((ends != 0).sum(1) > (first > 0).int() + (~real[:, -1]).int()).any()):
        _refuse("attention_mask with padding between tokens",
                "padding at the ends of rows alone")
    if not bool((first == first[0]).all()):
        _refuse("attention_mask with padding before the tokens that differs by row",
                "as much in all rows, or padding behind the tokens")
    return {first[0].item()} - {0}


def loss(logits: torch.Tensor, batch: Mapping[str, Any], *, over: Any = None,
         averaged: bool = False, num_items: float | None = None) -> torch.Tensor:
    """The mean cross entropy over all labels of all ranks, the same on each.

    logits: of this rank's tokens. batch: what shard_batch() gave. over: the process
    group whose ranks have different tokens, those of other batches too; default:
    the default group. Labels are counted over it, however they fall on its ranks;
    without any the loss is 0. num_items: their number where it is not that of this
    batch, as with accumulation: labels after the shift, of all ranks of `over`.

    The sum of all ranks' gradients is the gradient. averaged: DDP or FSDP2
    averages gradients over the ranks of `over`: gradients are so many times larger.
    """
    labels, sequence = batch.get("shift_labels"), batch["sequence"]
    if labels is None:
        raise ValueError("[loss] got a batch without shift_labels; want labels in "
                         "what shard_batch() took")
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"[loss] got logits of shape {tuple(logits.shape)} and "
                         f"labels of shape {tuple(labels.shape)}; want a label "
                         "for each")
    if not sequence.checked:
        raise ValueError("[loss] got a batch that attention of ringweave has not "
                         'seen; want a model made with attn_implementation='
                         f'"{NAME}", whose layers use it')
    group = _groups.process_group(over)
    if logits.dtype != torch.float64:
        logits = logits.float()  # as Transformers does
    own = torch.nn.functional.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED_LABEL,
        reduction="sum")
    total = torch.stack([own.detach().double(),
                         (labels != IGNORED_LABEL).sum().double()])
    dist.all_reduce(total, group=group)
    count = total[1].item() if num_items is None else float(num_items)
    count = max(count, 1.0)
    own = own * ((dist.get_world_size(group) if averaged else 1) / count)
    # The value of all ranks, the gradient of this one.
    return own + ((total[0] / count).to(own.dtype) - own.detach())
