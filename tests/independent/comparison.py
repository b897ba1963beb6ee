"""What both comparisons share: types, their tolerances, and the measure."""

import contextlib
import pathlib
import sys
import unittest

import torch

sys.path.append(str(pathlib.Path(__file__).parents[1]))  # tests/

from in_double import in_double  # noqa: E402

BATCH = 2
TOKENS = 37
TYPES = {"float32": torch.float32, "float64": torch.float64}
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
# In fp32 the features of rebased cancel where q·k is near 0, and its gradients
# have larger rounding errors for it.
GRADIENT_TOLERANCE = TOLERANCE | {"float32": 1e-4}


def computing(compute):
    """A context in which the independent code computes in that type."""
    return in_double() if compute == "float64" else contextlib.nullcontext()


def heads_first(operator, *inputs):
    """Of an operator whose tensors are (batch, heads, tokens, size)."""
    return operator(*(x.transpose(1, 2) for x in inputs)).transpose(1, 2)


class Comparison(unittest.TestCase):
    def assert_equal(self, got, want, compute, case):
        """Both are dicts of tensors. The measure is max|a - b| / max|b|."""
        self.assertEqual(set(got), set(want))
        errors = {}
        for name, right in want.items():
            largest = right.abs().max()
            self.assertGreater(largest, 1e-3, name)  # otherwise it says little
            errors[name] = ((got[name] - right).abs().max() / largest).item()
        worst = max(errors, key=errors.get)
        print(f"    {case}, {compute}: output {errors['output']:.1e}, "
              f"largest {errors[worst]:.1e} ({worst})", file=sys.stderr)
        for name, error in errors.items():
            tolerance = (GRADIENT_TOLERANCE if name.startswith("gradient")
                         else TOLERANCE)
            self.assertLessEqual(error, tolerance[compute], (case, name))
