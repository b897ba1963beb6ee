"""Topology files (docs/topologies.md) as graphs that a fabric can be made of."""

import dataclasses
import json
import math
import os
import pathlib
import shutil
import subprocess

from .errors import FabricError

ROOT = pathlib.Path(__file__).resolve().parents[2]
MOST_RANKS = 64
MOST_VERTICES = 250


@dataclasses.dataclass(frozen=True)
class Vertex:
    name: str
    kind: str  # "rank", "switch", "nic" or "host"
    node: int


@dataclasses.dataclass(frozen=True)
class Graph:
    """Ranks come first among the vertices; links are directed."""
    name: str
    vertices: tuple[Vertex, ...]
    links: dict[tuple[int, int], float]  # payload bytes per second
    ranks_forward: bool = False
    # What a regular file says under "fabric", without latencies: with it the
    # planner keeps its closed forms.
    regular: dict | None = None

    @property
    def ranks(self):
        return sum(vertex.kind == "rank" for vertex in self.vertices)

    @property
    def fastest(self):
        return max(self.links.values())

    def index(self, vertex):
        """The index of a vertex that is given by its rank or name."""
        for index, known in enumerate(self.vertices):
            if known.name == vertex:
                return index
        try:
            index = int(vertex)
        except ValueError:
            index = -1
        if not 0 <= index < self.ranks:
            raise FabricError(f"[fabric] got vertex {vertex}; want a name of "
                              f"{self.name} or a rank below {self.ranks}")
        return index

    def cable(self, a, b):
        """The indices of two vertices that a link joins."""
        cable = self.index(a), self.index(b)
        if cable not in self.links and cable[::-1] not in self.links:
            raise FabricError(f"[fabric] got link {a}-{b}; want two vertices "
                              f"of {self.name} that a link joins")
        return cable

    def at(self, link_mbit=None, rate_scale=1.0):
        """With `link_mbit` as the payload of the fastest link, in Mbit/s, or
        all rates times `rate_scale`."""
        if link_mbit is not None:
            rate_scale = link_mbit * 1e6 / 8 / self.fastest
        if not rate_scale > 0:
            raise FabricError(f"[fabric] got rates times {rate_scale:g}; want "
                              "more than 0")
        return self.scaled(rate_scale)

    def scaled(self, factor):
        regular = self.regular and {
            field: value * (factor if "bytes_per_second" in field else 1)
            for field, value in self.regular.items()}
        return dataclasses.replace(self, regular=regular, links={
            link: rate * factor for link, rate in self.links.items()})

    def with_slow(self, a, b, factor):
        """Both directions of a link at `factor` times their rates."""
        cable = self.cable(a, b)
        if not 0 < factor <= 1:
            raise FabricError(f"[fabric] got {factor} times the rate of link "
                              f"{a}-{b}; want more than 0 and at most 1")
        return dataclasses.replace(self, regular=None, links={
            link: rate * factor if link in (cable, cable[::-1]) else rate
            for link, rate in self.links.items()})

    def without(self, a, b):
        cable = self.cable(a, b)
        links = {link: rate for link, rate in self.links.items()
                 if link not in (cable, cable[::-1])}
        if not links:
            raise FabricError(f"[fabric] got {self.name} without {a}-{b}; "
                              "want at least one link")
        return dataclasses.replace(self, regular=None, links=links)

    def to_json(self):
        """A topology file of these rates."""
        head = {"format": "ringweave.topology", "version": 1, "name": self.name}
        if self.regular:
            return {**head, "fabric": self.regular}
        names = [vertex.name for vertex in self.vertices]
        return {
            **head, "ranks_forward": self.ranks_forward,
            "ranks": [{"name": v.name, "node": v.node}
                      for v in self.vertices if v.kind == "rank"],
            "switches": [{"name": v.name, "node": v.node, "kind": v.kind}
                         for v in self.vertices if v.kind != "rank"],
            "links": [{"from": names[a], "to": names[b], "duplex": "simplex",
                       "bytes_per_second": rate}
                      for (a, b), rate in self.links.items()],
        }


def load(topology, keep_latency=True):
    """The graph of a file, or of a built-in name, which the built program
    knows. A latency is an error unless `keep_latency` is False: then it is
    left out."""
    path = pathlib.Path(topology)
    if path.exists() and not path.is_dir():
        text = path.read_text(errors="replace")
    else:
        text = _built_in(str(topology))
    try:
        return parse(json.loads(text), keep_latency)
    except json.JSONDecodeError as error:
        raise FabricError(
            f"[fabric] {topology} is not JSON ({error}); want what `ringweave "
            "topology show NAME --json` prints") from None
    except FabricError as error:
        raise FabricError(f"{error} (in {topology})") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError,
            ValueError) as error:
        raise FabricError(
            f"[fabric] {topology}: {type(error).__name__}: {error}; want a "
            "file that `ringweave topology show FILE` accepts") from None


def _built_in(name):
    program = _program()
    if not program:
        raise FabricError(
            f"[fabric] {name} is no file, and the program that knows built-in "
            "names is not built; want a file, or RINGWEAVE_BINARY")
    done = subprocess.run([program, "topology", "show", name, "--json"],
                          text=True, capture_output=True)
    if done.returncode:
        said = done.stderr.strip().removeprefix("ringweave: ")
        raise FabricError(f"[fabric] {name} is neither a file nor built in: "
                          f"{said}")
    return done.stdout


def _program():
    if os.environ.get("RINGWEAVE_BINARY"):
        return os.environ["RINGWEAVE_BINARY"]
    for preset in ("release", "dev", "core"):
        program = ROOT / "build" / preset / "ringweave" / "cli" / "ringweave"
        if program.is_file():
            return program
    return shutil.which("ringweave")


def parse(json_file, keep_latency=True):
    """The graph of a parsed topology file. The program checks such files in
    full; here stands what would make a wrong fabric."""
    if json_file.get("format") != "ringweave.topology":
        raise FabricError(f"[fabric] got format {json_file.get('format')}; "
                          "want ringweave.topology")
    if json_file.get("version") != 1:
        raise FabricError(f"[fabric] got version {json_file.get('version')}; "
                          "want 1")
    name = json_file["name"]
    if "fabric" in json_file:
        graph = _expanded(name, json_file["fabric"], keep_latency)
    else:
        graph = _listed(name, json_file, keep_latency)
    if not 2 <= graph.ranks <= MOST_RANKS:
        raise FabricError(f"[fabric] got {graph.ranks} ranks; want 2 to "
                          f"{MOST_RANKS}")
    if len(graph.vertices) > MOST_VERTICES:
        raise FabricError(f"[fabric] got {len(graph.vertices)} ranks and "
                          f"switches; want at most {MOST_VERTICES}")
    return graph


def _check_rate(rate, where):
    if not (isinstance(rate, (int, float)) and 0 < rate < math.inf):
        raise FabricError(f"[fabric] {where}: got {rate}; want bytes per "
                          "second")
    return float(rate)


def _check_latency(seconds, where, keep):
    if keep and seconds:
        raise FabricError(
            f"[fabric] {where}: got a latency of {seconds} s, which can't be "
            "made here; want 0, or --without-latency to leave it out")


def _listed(name, json_file, keep_latency):
    vertices = [Vertex(v["name"], "rank", v.get("node", 0))
                for v in json_file["ranks"]]
    vertices += [Vertex(v["name"], v.get("kind", "switch"), v.get("node", 0))
                 for v in json_file.get("switches", [])]
    index = {vertex.name: i for i, vertex in enumerate(vertices)}
    if len(index) != len(vertices):
        raise FabricError("[fabric] got a name twice; want unique names")
    links = {}

    def add(source, target, rate, where):
        if source == target or (source, target) in links:
            raise FabricError(f"[fabric] {where}: want one link at most, "
                              "between two vertices")
        links[source, target] = rate

    for number, link in enumerate(json_file["links"]):
        where = f"links[{number}]"
        for end in ("from", "to"):
            if link[end] not in index:
                raise FabricError(f"[fabric] {where}.{end}: got {link[end]}; "
                                  "want a rank or switch")
        ends = index[link["from"]], index[link["to"]]
        rate = _check_rate(link["bytes_per_second"], where)
        _check_latency(link.get("latency_seconds", 0), where, keep_latency)
        duplex = link.get("duplex", "full")
        if duplex not in ("full", "simplex"):
            raise FabricError(f"[fabric] {where}: got duplex {duplex}, which "
                              "can't be made here; want full or simplex")
        add(*ends, rate, where)
        if duplex == "full":
            add(*ends[::-1], rate, where)
    if not links:
        raise FabricError("[fabric] got no link; want at least one")
    return Graph(name, tuple(vertices), links,
                 bool(json_file.get("ranks_forward", False)))


def _expanded(name, fabric, keep_latency):
    """As ringweave/topology/expand.cpp does, with the same names."""
    kind, ranks = fabric["kind"], fabric["ranks"]
    rate = _check_rate(fabric["link_bytes_per_second"], "fabric")
    for field in ("link_latency_seconds", "nic_latency_seconds"):
        _check_latency(fabric.get(field, 0), f"fabric.{field}", keep_latency)
    if not isinstance(ranks, int) or not 2 <= ranks <= MOST_RANKS:
        raise FabricError(f"[fabric] got {ranks} ranks; want 2 to {MOST_RANKS}")
    nodes = fabric["nodes"] if kind == "two_level" else 1
    if not isinstance(nodes, int) or nodes < 1 or ranks % nodes:
        raise FabricError(f"[fabric] got {ranks} ranks on {nodes} nodes; want "
                          "as many on each")
    size = ranks // nodes
    vertices = [Vertex(f"rank{rank}", "rank", rank // size)
                for rank in range(ranks)]
    links = {}

    def cable(a, b, rate):
        links[a, b] = links[b, a] = rate

    def add(kind, name, node):
        vertices.append(Vertex(name, kind, node))
        return len(vertices) - 1

    inside = fabric["inside"] if kind == "two_level" else kind
    if inside == "mesh":
        for a in range(ranks):
            for b in range(a + 1, (a // size + 1) * size):
                cable(a, b, rate)
    elif inside == "switch":
        for node in range(nodes):
            hub = add("switch", f"switch{node}", node)
            for rank in range(node * size, (node + 1) * size):
                cable(rank, hub, rate)
    elif inside in ("ring", "torus"):
        sides = fabric["dimensions"] if inside == "torus" else [ranks]
        if math.prod(sides) != ranks:
            raise FabricError(f"[fabric] got {ranks} ranks in a torus of "
                              f"{sides}; want the product of its sides")
        _torus(sides, lambda a, b: cable(a, b, rate))
    else:
        raise FabricError(f"[fabric] got kind {inside}; want mesh, switch, "
                          "ring, torus or two_level")
    if kind == "two_level":
        nic_rate = _check_rate(fabric["nic_bytes_per_second"], "fabric")
        nics = fabric.get("nics_per_node", size)
        if not isinstance(nics, int) or nics < 1 or size % nics:
            raise FabricError(f"[fabric] got {nics} NICs for {size} ranks; "
                              "want as many ranks on each")
        spine = add("switch", "spine", -1)
        sharing = size // nics
        for first in range(0, ranks, sharing):
            nic = add("nic", f"nic{first // sharing}", first // size)
            for rank in range(first, first + sharing):
                cable(rank, nic, nic_rate)
            cable(nic, spine, nic_rate)
    regular = {field: value for field, value in fabric.items()
               if not field.endswith("latency_seconds")}
    return Graph(name, tuple(vertices), links, inside in ("ring", "torus"),
                 regular)


def _torus(sides, cable):
    """Ranks are numbered with the last dimension fastest."""
    for rank in range(math.prod(sides)):
        stride = 1
        for side in reversed(sides):
            place = rank // stride % side
            if side > 2 or (side == 2 and place == 0):
                cable(rank, rank + ((place + 1) % side - place) * stride)
            stride *= side
