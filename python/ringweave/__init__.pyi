# The types of what the docstrings of _operations.py and _context.py describe.
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh

_Group = ProcessGroup | DeviceMesh | str | None
_Json = Mapping[str, Any] | str
_Path = str | os.PathLike[str]
_Tokens = Sequence[int] | torch.Tensor

__all__ = ["Layout", "Session", "attention", "causal_convolution",
           "context_parallel", "context_parallel_unshard", "layout",
           "linear_attention", "positions", "set_agreement", "shard", "unshard"]

@dataclass(frozen=True)
class Layout:
    kind: str
    tokens: int
    ranks: int
    runs: tuple[tuple[tuple[int, int, int], ...], ...] | None = None

    def runs_of(self, rank: int) -> tuple[tuple[int, int, int], ...]: ...

_Layout = Layout | _Json

def layout(
    kind: _Layout, tokens: int | None = None, ranks: int | None = None
) -> Layout: ...
def positions(
    layout: _Layout, rank: int | None = None, *, group: _Group = None
) -> torch.Tensor: ...
def shard(
    whole: torch.Tensor, layout: _Layout, *, group: _Group = None, dim: int = 1
) -> torch.Tensor: ...
def unshard(
    part: torch.Tensor, layout: _Layout, *, group: _Group = None, dim: int = 1
) -> torch.Tensor: ...
def set_agreement(
    mode: Literal["every", "first_use", "off"], *, group: _Group = None
) -> None: ...
def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, layout: _Layout,
    group: _Group = None, mask: _Json = "causal", scale: float | None = None,
    strategy: str | None = None, plan: _Path | None = None
) -> torch.Tensor: ...
@overload
def linear_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, layout: _Layout,
    group: _Group = None, gates: torch.Tensor | None = None,
    mask: _Json = "causal", scale: float = 1.0,
    initial_state: torch.Tensor | None = None,
    final_state: Literal[False] = False, exchange: str | None = None,
    plan: _Path | None = None
) -> torch.Tensor: ...
@overload
def linear_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, layout: _Layout,
    final_state: Literal[True], group: _Group = None,
    gates: torch.Tensor | None = None, mask: _Json = "causal",
    scale: float = 1.0, initial_state: torch.Tensor | None = None,
    exchange: str | None = None, plan: _Path | None = None
) -> tuple[torch.Tensor, torch.Tensor]: ...
@overload
def causal_convolution(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *,
    layout: _Layout, group: _Group = None, mask: _Json = "causal",
    initial_state: torch.Tensor | None = None,
    final_state: Literal[False] = False
) -> torch.Tensor: ...
@overload
def causal_convolution(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *,
    layout: _Layout, final_state: Literal[True], group: _Group = None,
    mask: _Json = "causal", initial_state: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]: ...
def context_parallel(
    mesh: _Group = None, *, buffers: Sequence[torch.Tensor] | None = None,
    buffer_seq_dims: Sequence[int] | None = None,
    no_restore_buffers: Sequence[torch.Tensor] | set[torch.Tensor] | None = None,
    layout: str = "zigzag", strategy: str | None = None
) -> AbstractContextManager[None]: ...
def context_parallel_unshard(
    mesh: _Group, buffers: Sequence[torch.Tensor], seq_dims: Sequence[int], *,
    layout: str = "zigzag"
) -> list[torch.Tensor]: ...

class Session:
    def __init__(
        self, checkpoint: _Path, *, sequences: int = 1, chunk: int = 0,
        layout: str | None = None, softmax: str | None = None,
        linear: str | None = None, compute: str | None = None,
        group: _Group = None
    ) -> None: ...
    @property
    def tokens(self) -> list[int]: ...
    @property
    def end_tokens(self) -> list[int]: ...
    def prefill(self, sequence: int, tokens: _Tokens) -> torch.Tensor: ...
    def decode(self, sequences: _Tokens, tokens: _Tokens) -> torch.Tensor: ...
    def save(self, folder: _Path) -> None: ...
    def load(self, folder: _Path) -> None: ...
