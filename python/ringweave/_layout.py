"""Which rank holds which tokens."""

import dataclasses
import functools
import json

import torch

from ringweave import _groups


@dataclasses.dataclass(frozen=True)
class Layout:
    """What layout() makes; equal ones hash alike.

    kind: "contiguous", "zigzag", "striped" or "explicit". tokens: of the whole
    sequence. runs: of an explicit layout, for each rank its (begin, length,
    stride).
    """
    kind: str
    tokens: int
    ranks: int
    runs: tuple | None = None
    # JSON of an explicit one.
    _text: str | None = dataclasses.field(default=None, compare=False,
                                          repr=False)

    def runs_of(self, rank):
        """(begin, length, stride) of each of a rank's runs, in the order of its
        tokens."""
        if not 0 <= rank < self.ranks:
            raise ValueError(f"[layout] got rank {rank}; want 0 … "
                             f"{self.ranks - 1}")
        if self.runs is not None:
            return self.runs[rank]
        tokens, ranks = self.tokens, self.ranks
        if self.kind == "striped":
            return ((rank, (tokens - rank + ranks - 1) // ranks, ranks),)
        if self.kind == "contiguous":
            return (_piece(tokens, rank, ranks),)
        if self.kind == "zigzag":
            return (_piece(tokens, rank, 2 * ranks),
                    _piece(tokens, 2 * ranks - 1 - rank, 2 * ranks))
        raise ValueError(f'[layout] got "{self.kind}"; want contiguous, '
                         "zigzag, striped")

    def arguments(self):
        """(kind or JSON of it all, tokens, ranks), as operators take it."""
        return self._text or self.kind, self.tokens, self.ranks


def _piece(tokens, index, pieces):
    begin, end = (tokens * i // pieces for i in (index, index + 1))
    return begin, end - begin, 1


def layout(kind, tokens=None, ranks=None):
    """Which rank holds which tokens: "contiguous", "zigzag" or "striped".

    Other layouts are a dict, or the JSON text of one, in place of `kind` alone:

        ringweave.layout(
            {"kind": "explicit", "tokens": 10,
             "runs": [[[0, 3, 1], [8, 2, 1]], [[3, 5, 1]]]})

    a list per rank of runs [begin, length, stride], in ascending order of their
    begins. Every position from 0 to tokens - 1 is in one run; a rank may have
    none. The other functions take such a dict or text, too.
    """
    if tokens is None and ranks is None:
        return layout_of(kind)
    if torch.compiler.is_compiling():
        return Layout(kind, tokens, ranks)  # what is none, operators refuse
    return layout_of({"kind": kind, "tokens": tokens, "ranks": ranks})


def layout_of(value):
    """A Layout of what a program may give as one."""
    if isinstance(value, Layout):
        return value
    return _read(value)


def _read(value):
    return _parsed(json_of(value))


# A compiled graph breaks here.
_read._torchdynamo_disable = True
_read._torchdynamo_disable_msg = (
    "a layout as text or dict: make it by ringweave.layout(), outside")


@functools.lru_cache
def _parsed(text):
    whole = torch.ops.ringweave.layout(text)
    fields = json.loads(whole)
    if fields["kind"] != "explicit":
        return Layout(fields["kind"], fields["tokens"], fields["ranks"])
    runs = tuple(tuple(map(tuple, of_rank)) for of_rank in fields["runs"])
    return Layout("explicit", fields["tokens"], len(runs), runs, whole)


def json_of(value):
    """The text of what is given as text, or as dicts, lists and numbers."""
    if isinstance(value, str):
        return value
    return json.dumps(value, default=_values)


def _values(value):
    """Numbers come as tensors and arrays, too."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"got {value!r} in a layout or mask; want numbers, lists "
                    "and dicts")


def positions(layout, rank=None, *, group=None):
    """Positions in the sequence of a rank's tokens; of this rank's by default."""
    rank = _groups.rank(group) if rank is None else rank
    runs = layout_of(layout).runs_of(rank)
    parts = [torch.arange(begin, begin + length * stride, stride)
             for begin, length, stride in runs]
    return parts[0] if len(parts) == 1 else torch.cat([torch.arange(0), *parts])


def shard(whole, layout, *, group=None, dim=1):
    """This rank's tokens of a tensor that is whole on every rank."""
    layout = layout_of(layout)
    mine = positions(layout, group=group)
    if (not -whole.dim() <= dim < whole.dim()
            or whole.shape[dim] != layout.tokens):
        raise ValueError(f"[shard] got a tensor of shape {tuple(whole.shape)} "
                         f"with tokens in dim {dim}; want {layout.tokens} of "
                         "them, the layout's")
    return whole.index_select(dim, mine.to(whole.device))
