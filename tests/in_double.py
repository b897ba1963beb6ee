"""Other people's code in fp64."""

import contextlib

import torch


@contextlib.contextmanager
def in_double():
    """Within it each float32 that code names is a float64: for norms, RoPE and
    states such code often knows no other type."""
    saved = torch.float, torch.float32, torch.Tensor.float
    torch.float = torch.float32 = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float, torch.float32, torch.Tensor.float = saved
        torch.set_default_dtype(torch.float32)
