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


def taylor_features(x):
    """Features whose products are 1 + s + s²/2 of x's products s."""
    one = x.new_ones(x.shape[:-1] + (1,))
    return torch.cat([one, x, square_features(x) / math.sqrt(2)], -1)


def with_one(v):
    """Values, and one more that is 1: its sum is that of what weighs them."""
    return torch.cat([v, v.new_ones(v.shape[:-1] + (1,))], -1)


def divided(sums, eps):
    """What attention to with_one(v) gives, by the last of its values."""
    return sums[..., :-1] / (sums[..., -1:] + eps)


def retention_decays(heads, device):
    """Logarithms of 1 - 2^(-5-h), in float64."""
    return torch.log1p(-torch.exp2(-5.0 - torch.arange(
        heads, dtype=torch.float64, device=device)))
