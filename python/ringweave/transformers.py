"""Models of Hugging Face's Transformers with their sequences split over ranks.

    import ringweave.transformers
    ringweave.transformers.register()
    model = AutoModelForCausalLM.from_pretrained(
        ..., attn_implementation="ringweave")

    batch = ringweave.transformers.shard_batch(batch)      # this rank's tokens
    logits = model(**batch, use_cache=False).logits
    loss = ringweave.transformers.loss(logits, batch)      # of the whole batch
    loss.backward()

The model is not changed: everything but attention works token by token. Batches are
whole on every rank of the group.
"""

import dataclasses

import torch
import torch.distributed as dist

import ringweave
from ringweave import _groups

NAME = "ringweave"
IGNORED_LABEL = -100  # Transformers' own: such labels do not count

# What models hand to attention that says nothing about it, or that
# shard_batch() has taken into account.
_KNOWN = {"position_ids", "position_embeddings", "cache_position",
          "num_items_in_batch", "shift_labels", "labels"}
# Masks that need no matrix: causality and windows are the operation's own, and
# packing is what shard_batch() knows of. Local positions of a split sequence look
# packed to Transformers.
_PLAIN_MASKS = {"causal_mask_function", "bidirectional_mask_function",
                "sliding_window_overlay", "sliding_window_bidirectional_overlay",
                "packed_sequence_mask_function"}
_COMBINATIONS = {"and_masks", "or_masks", "remap_positions_for_packed_sequence",
                 "add_offsets_to_mask_function"}

_NO_GENERATION = "; ringweave.Session generates, model.generate() does not"


@dataclasses.dataclass(frozen=True)
class Sequence:
    """How the sequences of a batch are split: what attention needs to know.

    document_offsets: where packed documents begin, and the number of tokens;
    None: one document. group: as in ringweave.attention().
    """
    layout: str
    document_offsets: tuple | None = None
    group: object = None
    strategy: str | None = None


def register():
    """Makes attn_implementation="ringweave" known to Transformers."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, _mask)


def attention(module, query, key, value, attention_mask, *, scaling=None,
              dropout=0.0, sliding_window=None, is_causal=None,
              sequence=None, **others):
    """As Transformers calls it: tensors are (batch, heads, tokens of this rank,
    head_dim). Returns (batch, tokens, heads, head_dim), and no weights."""
    if sequence is None:
        raise ValueError("[ringweave] got attention without sequence=; want the "
                         f"batch of shard_batch(){_NO_GENERATION}")
    _check_no_mask(attention_mask)
    if dropout:
        raise ValueError(f"[ringweave] got attention dropout {dropout}; want 0")
    for name, given in others.items():
        if name not in _KNOWN and _says_something(given):
            raise ValueError(f"[ringweave] got {name}= from the model; attention "
                             "of ringweave does not know it")
    if query.shape[2] != key.shape[2]:
        raise ValueError(f"[ringweave] got {query.shape[2]} queries and "
                         f"{key.shape[2]} keys; want as many: use_cache=False")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    mask = {"kind": "causal" if is_causal else "full"}
    if sliding_window is not None:
        # Transformers counts the query itself.
        mask["window"] = {"left": sliding_window - 1}
        if not is_causal:
            mask["window"]["right"] = sliding_window - 1
    if sequence.document_offsets is not None:
        mask["document_offsets"] = list(sequence.document_offsets)
    out = ringweave.attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2),
        layout=sequence.layout, group=sequence.group, mask=mask, scale=scaling,
        strategy=sequence.strategy)
    return out, None


def _check_no_mask(attention_mask):
    if attention_mask is not None:
        raise ValueError("[ringweave] got an attention mask of shape "
                         f"{tuple(attention_mask.shape)}; want none: "
                         f"shard_batch() takes it{_NO_GENERATION}")


def _says_something(value):
    return value is not None and (isinstance(value, torch.Tensor) or bool(value))


def _mask(*arguments, mask_function=None, attention_mask=None, **others):
    """In place of the matrix that Transformers would make."""
    _check_no_mask(attention_mask)
    for part in _parts(mask_function):
        name = part.__qualname__.split(".")[0]
        if name not in _PLAIN_MASKS:
            raise ValueError(f"[ringweave] got the mask {name}; want causal or "
                             "full, with or without a sliding window")
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


def shard_batch(batch, group=None, *, layout="zigzag", strategy=None):
    """This rank's tokens of a batch that is whole on every rank of `group`.

    batch: a dict of `input_ids` or `inputs_embeds`, (batch, tokens, …), and if there
    are any `labels`, `position_ids`, `attention_mask`, and the `cu_seq_lens_q`
    of packed rows; all without the shift of Transformers' own losses. Any number
    of tokens on any number of ranks. layout: "zigzag", "contiguous", "striped",
    or one as of ringweave.layout(). strategy: as of ringweave.attention().

    Documents begin where position ids do not go up by one, at cu_seq_lens_q, and
    where attention_mask changes along a row: so padding is a document of its own.
    All rows have the same documents, else ValueError.

    Returns the arguments of the model: `input_ids` or `inputs_embeds`,
    `position_ids` (of the whole sequence, or of its documents), `shift_labels` if
    there are labels (each token's is the next one's, which may be another rank's),
    and `sequence`.
    """
    batch = dict(batch)
    names = [name for name in ("input_ids", "inputs_embeds") if
             batch.get(name) is not None]
    if len(names) != 1:
        raise ValueError(f"[shard_batch] got {' and '.join(names) or 'no tokens'}; "
                         "want input_ids or inputs_embeds")
    tokens = batch[names[0]]
    rows, length = tokens.shape[:2]
    parts = {names[0]: tokens}
    batch.pop(names[0])
    labels, positions, mask, cu_seq_lens = (
        batch.pop(name, None) for name in
        ("labels", "position_ids", "attention_mask", "cu_seq_lens_q"))
    for name in ("cu_seq_lens_k", "max_length_q", "max_length_k"):
        batch.pop(name, None)  # say the same, for kernels
    for name, value in batch.items():
        if value is not None:
            raise ValueError(f"[shard_batch] got {name}, which it does not know "
                             "how to split")
    for name, value in (("labels", labels), ("position_ids", positions),
                        ("attention_mask", mask)):
        if value is not None and (
                value.dim() != 2 or value.shape[1] != length or
                value.shape[0] not in {rows, 1 if name == "position_ids" else rows}):
            raise ValueError(f"[shard_batch] got {name} of shape "
                             f"{tuple(value.shape)}; want {(rows, length)}")
    offsets = _documents(length, positions, mask, cu_seq_lens)
    if positions is None:
        positions = _positions(length, offsets, tokens.device)
    parts["position_ids"] = positions.expand(rows, length)
    if labels is not None:
        parts["shift_labels"] = torch.nn.functional.pad(
            labels[:, 1:], (0, 1), value=IGNORED_LABEL)
    process_group = _groups.process_group(group)
    if isinstance(layout, str) and not layout.lstrip().startswith("{"):
        layout = ringweave.layout(layout, length,
                                  dist.get_world_size(process_group))
    result = {name: ringweave.shard(part, layout, group=process_group)
              for name, part in parts.items()}
    result["sequence"] = Sequence(layout, offsets, group, strategy)
    return result


def _documents(length, positions, mask, cu_seq_lens):
    """Offsets of documents, of all that says where they are; None: there is one."""
    begins = set()
    if positions is not None:
        steps = positions[:, 1:] - positions[:, :-1]
        begins |= _begins("position_ids", steps != 1)
    if mask is not None:
        begins |= _begins("attention_mask", mask[:, 1:] != mask[:, :-1])
    if cu_seq_lens is not None:
        offsets = cu_seq_lens.flatten().tolist()
        if offsets[:1] != [0] or offsets[-1] != length or offsets != sorted(offsets):
            raise ValueError(f"[shard_batch] got cu_seq_lens_q {offsets}; want "
                             f"ascending offsets from 0 to {length}")
        begins |= set(offsets) - {0, length}
    return (0, *sorted(begins), length) if begins else None


def _begins(name, changes):
    """The tokens at which all rows begin a document."""
    if not bool((changes == changes[:1]).all()):
        raise ValueError(f"[shard_batch] got {name} with other documents, or other "
                         "padding, in some rows; want the same in all rows")
    return {token + 1 for token in changes[0].nonzero().flatten().tolist()}


def _positions(length, offsets, device):
    """Of tokens in their documents."""
    positions = torch.arange(length, device=device)
    for begin in (offsets or [0, length])[1:-1]:
        positions[begin:] = torch.arange(length - begin, device=device)
    return positions[None]


def loss(logits, batch, *, over=None, averaged=False, num_items=None):
    """The mean cross entropy over all labels of all ranks, the same on each.

    logits: of this rank's tokens. batch: what shard_batch() gave, or its
    shift_labels. over: the group whose ranks have different tokens, those of
    other batches too; default: the default group. Labels are counted over it,
    however they fall on its ranks; without any the loss is 0. num_items: their
    number, where it is known, as over several steps of accumulation.

    The sum of all ranks' gradients is the gradient. averaged: DDP or FSDP2
    averages gradients over the ranks of `over`: gradients are so many times larger.
    """
    labels = batch["shift_labels"] if isinstance(batch, dict) else batch
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"[loss] got logits of shape {tuple(logits.shape)} and "
                         f"labels of shape {tuple(labels.shape)}; want a label "
                         "for each")
    group = _groups.process_group(over)
    if logits.dtype != torch.float64:
        logits = logits.float()  # as Transformers does
    own = torch.nn.functional.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED_LABEL,
        reduction="sum")
    total = torch.stack([own.detach().double(),
                         (labels != IGNORED_LABEL).sum().double()])
    dist.all_reduce(total, group=group)
    count = float(total[1]) if num_items is None else float(num_items)
    count = max(count, 1.0)
    own = own * ((dist.get_world_size(group) if averaged else 1) / count)
    # The value of all ranks, the gradient of this one.
    return own + ((total[0] / count).to(own.dtype) - own.detach())
