"""What the package says of torch to pip: built for one minor version, that of the
Python that builds it. scikit-build-core asks (pyproject.toml)."""

import importlib.metadata
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]


def dynamic_metadata(field, settings):
    torch = re.match(r"\d+\.\d+", importlib.metadata.version("torch"))[0]
    if field == "dependencies":
        return [f"torch=={torch}.*"]
    assert field == "version", field
    project = re.search(r"project\(ringweave VERSION ([0-9.]+)",
                        (ROOT / "CMakeLists.txt").read_text())
    return f"{project[1]}+torch{torch}"
