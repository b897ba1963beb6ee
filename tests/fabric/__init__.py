"""Makes a machine of a topology file out of network namespaces.

    from fabric import Fabric, load

    with Fabric(load("mesh.json"), link_mbit=400) as fabric:
        outcomes = fabric.run([sys.executable, "program.py"], seconds=60)

One namespace per rank and switch, one shaped veth pair per link. The README
here says what lies where; docs/fabric.md says what it is for.
"""

from . import check
from .errors import FabricError, Refused
from .namespaces import PIPE, Fabric, refusal
from .flood import Flood
from .topology import load
from .wiring import Settings

__all__ = ["Fabric", "FabricError", "Flood", "PIPE", "Refused", "Settings",
           "check", "load", "refusal"]
