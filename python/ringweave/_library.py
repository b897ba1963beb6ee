"""The op library: whether it fits the torch that is here, and where it is."""

import contextlib
import importlib.metadata
import os
import pathlib
import re

import torch

# The minor versions of torch that the sources build against. No two have the same
# C++ interface, so an op library is for one of them. CMake reads them here.
TORCH = ("2.11", "2.13", "2.14")

NAME = "libringweave_ops-torch{}.so"  # the minor version it was built for
PRESETS = ("release", "dev")  # of a source tree, the first that is built


def minor(version):
    return ".".join(version.split(".")[:2])


def built_for(library):
    """The minor version of torch that the library's name tells."""
    told = re.search(r"-torch(\d+\.\d+)\.so$", str(library))
    if told is None:
        raise ImportError(f"[ringweave] got the library {library}; want one whose name "
                          "ends in -torchX.Y.so, as a build names it")
    return told[1]


def check_torch(library):
    """Raises ImportError unless torch is of the minor version that the library was
    built for."""
    wanted = built_for(library)
    versions = [torch.__version__]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        versions.append(importlib.metadata.version("torch"))
    for version in versions:
        if minor(version) != wanted:
            raise ImportError(f"[ringweave] got torch {version}; want {wanted}.x, "
                              "which this was built for")


def path():
    """Where RINGWEAVE_LIBRARY points, else the installed package's own, else that
    of a source tree's presets; one for this torch before one for another."""
    named = os.environ.get("RINGWEAVE_LIBRARY")
    if named:
        return named
    package = pathlib.Path(__file__).resolve().parent
    builds = package.parents[1] / "build"
    places = [package, *(builds / preset / "python" for preset in PRESETS)]
    found = [file for place in places for file in sorted(place.glob(NAME.format("*")))]
    if not found:
        raise ImportError(
            f"[ringweave] got no {NAME.format(minor(torch.__version__))} in "
            f"{', '.join(map(str, places))}; want it there, by the target "
            "ringweave_ops, or RINGWEAVE_LIBRARY to say where it is")
    fitting = (file for file in found if built_for(file) == minor(torch.__version__))
    return str(next(fitting, found[0]))


def load():
    """Makes the operators known to torch."""
    library = path()
    check_torch(library)
    torch.ops.load_library(library)
