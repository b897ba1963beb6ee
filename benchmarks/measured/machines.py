"""Where ranks run, and `ringweave bench` there."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

from lab import ROOT

RELEASE = ROOT / "build/release"


class Threads:
    """Ranks as threads of one process."""

    def __init__(self, ranks):
        self.ranks = ranks
        self.title = f"{ranks} threads"

    def command(self, binary, words):
        return [binary, *words, "--ranks", self.ranks]


class Processes:
    """Ranks as processes, which talk by loopback."""

    def __init__(self, ranks):
        self.ranks = ranks
        self.title = f"{ranks} processes"

    def command(self, binary, words):
        return [sys.executable, "-m", "torch.distributed.run", "--standalone",
                "--nproc-per-node", self.ranks, "-m", "ringweave", *words]


class Fabric:
    """Ranks on links that tools/fabric makes: their name in the tables, the topology,
    and the tool's options. `small`: for messages of less than a megabyte, of which a
    link that was idle lets a part through at once.
    """

    def __init__(self, title, topology, ranks, link_mbit, *options, small=False):
        self.title = title
        self.topology = topology
        self.ranks = ranks
        self.link_mbit = link_mbit
        self.links = options
        self.options = ["--link-mbit", str(link_mbit), *options]
        self.room = ["--small-messages"] if small else []
        self.bytes_per_second = link_mbit * 1e6 / 8

    def command(self, binary, words):
        return [sys.executable, ROOT / "tools/fabric", "run", self.topology,
                *self.options, *self.room, "--",
                sys.executable, "-m", "ringweave", *words]

    def for_small_messages(self):
        return Fabric(self.title, self.topology, self.ranks, self.link_mbit,
                      *self.links, small=True)


MESH_4 = Fabric("mesh of 4, 400 Mbit/s", "mesh:ranks=4", 4, 400)


def op_library():
    """What RINGWEAVE_LIBRARY says, else the release preset's library of operations."""
    if "RINGWEAVE_LIBRARY" in os.environ:
        return os.environ["RINGWEAVE_LIBRARY"]
    name = "libringweave_ops-torch*.so"
    found = sorted((RELEASE / "python").glob(name))
    if not found:
        raise SystemExit(f"got no {name} in {RELEASE / 'python'}; want the release "
                         "preset built, or RINGWEAVE_LIBRARY to name another")
    return str(found[0])


class Bench:
    """Runs commands; keeps what they print, in a folder."""

    def __init__(self, folder, repeat, binary):
        self.binary = binary
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.repeat = repeat
        self.environment = dict(os.environ, RINGWEAVE_BINARY=binary)
        self.environment["RINGWEAVE_LIBRARY"] = op_library()
        self.environment["PYTHONPATH"] = str(ROOT / "python")

    def _json(self, *command):
        done = subprocess.run(list(map(str, command)), text=True,
                              stdout=subprocess.PIPE, env=self.environment)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(map(str, command))}: exit code "
                             f"{done.returncode}")
        return json.loads(done.stdout)

    def topology(self, machine):
        """The path of the file that says what the fabric is."""
        made = self._json(sys.executable, ROOT / "tools/fabric", "topology",
                          machine.topology, *machine.options)
        path = self.folder / f"{_hash(made)}.topology.json"
        path.write_text(json.dumps(made))
        return path

    def bench(self, machine, *arguments, topology=True):
        """`ringweave bench arguments…` there; `topology`: with its file."""
        words = ["bench", *arguments, "--repeat", self.repeat, "--json"]
        if topology:
            words += ["--topology", self.topology(machine)]
        command = list(map(str, machine.command(self.binary, words)))
        path = self.folder / f"{_hash(command)}.json"
        if not path.exists():
            print("measuring:", machine.title, *map(str, words), file=sys.stderr)
            path.write_text(json.dumps(self._json(*command)))
        return json.loads(path.read_text())

    def plan(self, machine, *arguments):
        return self._json(self.binary, "plan", "--json", "--topology",
                          self.topology(machine), *arguments)


def _hash(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def ms(spread):
    return f"{1e3 * spread['median']:.0f}"
