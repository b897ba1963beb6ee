"""The op library: whether it fits the torch that is here, and where it is."""

import contextlib
import importlib.metadata
import os
import pathlib

import torch

# The minor version of torch that the op library is built for, whose C++ interface
# no other has. CMake reads it here.
TORCH = "2.13"

NAME = "libringweave_ops.so"
PRESETS = ("release", "dev")  # of a source tree, the first that is built


def check_torch():
    """Raises ImportError unless torch is of that minor version."""
    versions = [torch.__version__]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        versions.append(importlib.metadata.version("torch"))
    for version in versions:
        if version.split(".")[:2] != TORCH.split("."):
            raise ImportError(f"[ringweave] got torch {version}; want {TORCH}.x, "
                              "which this was built for")


def path():
    """Where RINGWEAVE_LIBRARY points, else the installed package's own, else that
    of a source tree's presets."""
    named = os.environ.get("RINGWEAVE_LIBRARY")
    if named:
        return named
    package = pathlib.Path(__file__).resolve().parent
    builds = package.parents[1] / "build"
    places = [package, *(builds / preset / "python" for preset in PRESETS)]
    for place in places:
        if (place / NAME).is_file():
            return str(place / NAME)
    raise ImportError(f"[ringweave] got no {NAME} in {', '.join(map(str, places))}; "
                      "want it there, by the target ringweave_ops, or "
                      "RINGWEAVE_LIBRARY to say where it is")


def load():
    """Makes the operators known to torch."""
    check_torch()
    torch.ops.load_library(path())
