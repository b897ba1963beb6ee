"""What layers and operators of linear attention compute around the exchange."""

import math

import torch


def precise(dtype):
    """The type of sums, norms and decays of tensors of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def square_features(x):
    """Features whose products are the squares of x's products. A product of two
    different numbers stands for both of its orders."""
    first, second = torch.triu_indices(x.shape[-1], x.shape[-1],
                                       device=x.device)
    weights = x.new_ones(first.shape).masked_fill(first != second, math.sqrt(2))
    return x[..., first] * x[..., second] * weights
