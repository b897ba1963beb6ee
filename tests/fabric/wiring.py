"""The lines for `ip` and `tc` that make a graph.

A vertex is a namespace, a link between two a veth pair, shaped at both ends by
a token bucket. A rank has one address, on rk0, and a route to every other rank.
Switches, NICs and hosts are routers. Neighbour entries are fixed: no ARP takes
from the links.
"""

import dataclasses

from . import routes
from .errors import FabricError

RANK_DEVICE = "rk0"
MTU = 9000
# Payload of a full TCP segment (without the headers of IPv4 and of TCP with
# timestamps) over what the shaper counts for it (with that of Ethernet).
PAYLOAD_OF_LINE = (MTU - 20 - 32) / (MTU + 14)
LEAST_MBIT, MOST_MBIT = 1, 20_000
NOWHERE = "02:ff:ff:ff:ff:ff"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How links and TCP behave.

    burst: bytes that a link lets through at once after it was idle. Must exceed
    one offload frame: gso_max_size and a header.
    """
    burst: int = 72_000
    gso_max_size: int = 65_536
    tcp_retries2: int = 15

    @classmethod
    def small_messages(cls, **others):
        """Less credit after idle, so that short messages can be timed too."""
        return cls(burst=20_000, gso_max_size=17_000, **others)

    def __post_init__(self):
        if self.burst < self.gso_max_size + 2_000:
            raise FabricError(
                f"[fabric] got burst {self.burst}; want at least "
                f"{self.gso_max_size + 2_000}, since links pass offload frames "
                f"of {self.gso_max_size} bytes whole")


def namespace(vertex):
    return f"v{vertex}"


def device(peer):
    return f"to{peer}"


def address(graph, vertex):
    if vertex < graph.ranks:
        return f"10.99.0.{vertex + 1}"
    return f"10.99.1.{vertex - graph.ranks + 1}"


def _mac(vertex, peer):
    return f"02:00:00:00:{vertex:02x}:{peer:02x}"


class Wiring:
    def __init__(self, graph, settings, through_ranks=False):
        self.graph, self.settings = graph, settings
        self.hops = routes.all_hops(graph, through_ranks)
        # Also of links of one direction: what would lead back has no routes.
        self.cables = sorted({tuple(sorted(link)) for link in graph.links})
        forwarding = {at for rank, hops in enumerate(self.hops)
                      for at in hops.values() if at != rank}
        self.forwarding = forwarding | set(range(graph.ranks,
                                                 len(graph.vertices)))
        for link, rate in graph.links.items():
            mbit = rate * 8e-6
            if not LEAST_MBIT <= mbit <= MOST_MBIT:
                ends = " -> ".join(graph.vertices[end].name for end in link)
                raise FabricError(
                    f"[fabric] got {mbit:.6g} Mbit/s for link {ends}; want "
                    f"{LEAST_MBIT} to {MOST_MBIT}: scale the rates with "
                    "--link-mbit or --rate-scale")

    def make(self):
        """(program, namespace or None, lines): in this order."""
        everywhere = range(len(self.graph.vertices))
        yield "sh", None, self._names()
        yield "ip", None, [f"netns add {namespace(v)}" for v in everywhere]
        for v in everywhere:
            yield "sh", namespace(v), self._system(v)
        yield "ip", None, [
            f"link add {device(b)} netns {namespace(a)} address {_mac(a, b)} "
            f"type veth peer name {device(a)} netns {namespace(b)} "
            f"address {_mac(b, a)}" for a, b in self.cables]
        for v in everywhere:
            peers = [b if a == v else a for a, b in self.cables if v in (a, b)]
            lines = self._own_address(v)
            for peer in peers:
                lines += self.up(v, peer)
            yield "ip", namespace(v), lines
            yield "tc", namespace(v), [self.shape(v, peer) for peer in peers]

    def _names(self):
        """Lines for a shell: rank0 and so on in /etc/hosts, which the room has
        for itself. torch warns of every address without a name, and looks it
        up as one of IPv6."""
        names = [f"{form}{address(self.graph, rank)} rank{rank}"
                 for form in ("", "::ffff:")
                 for rank in range(self.graph.ranks)]
        return ["set -e", "cat > /run/hosts << end", "127.0.0.1 localhost",
                *names, "end",
                "[ ! -e /etc/hosts ] || mount --bind /run/hosts /etc/hosts"]

    def _system(self, vertex):
        """Lines for a shell: TCP in the namespace."""
        window = "4096 262144 1048576"
        ipv4 = {
            "tcp_congestion_control": "reno", "tcp_rmem": window,
            "tcp_wmem": window, "tcp_slow_start_after_idle": 0,
            "tcp_no_metrics_save": 1,
            "tcp_retries2": self.settings.tcp_retries2,
            "conf/all/rp_filter": 0, "conf/default/rp_filter": 0,
            "ip_forward": int(vertex in self.forwarding),
        }
        lines = ["set -e", "cd /proc/sys/net/ipv4"]
        lines += [f"echo {value} > {name}" for name, value in ipv4.items()]
        # So that no router solicitation takes from the links.
        return lines + ["cd ../ipv6/conf 2> /dev/null || exit 0",
                        "echo 1 > all/disable_ipv6",
                        "echo 1 > default/disable_ipv6"]

    def _own_address(self, vertex):
        own = f"{address(self.graph, vertex)}/32"
        if vertex >= self.graph.ranks:
            return ["link set lo up", f"addr add {own} dev lo"]
        return ["link set lo up",
                f"link add {RANK_DEVICE} type veth peer name {RANK_DEVICE}p",
                f"addr add {own} dev {RANK_DEVICE}",
                f"link set {RANK_DEVICE}p up", f"link set {RANK_DEVICE} up"]

    def up(self, vertex, peer):
        """The device of a link's end, its neighbour and its routes."""
        graph, name = self.graph, device(peer)
        lines = [f"link set {name} mtu {MTU} "
                 f"gso_max_size {self.settings.gso_max_size} up",
                 self.neighbour(vertex, peer)]
        for rank, hops in enumerate(self.hops):
            if hops.get(vertex) != peer:
                continue
            via = ("" if rank == peer
                   else f"via {address(graph, peer)} ")
            lines.append(f"route replace {address(graph, rank)}/32 {via}"
                         f"dev {name} {'onlink ' if via else ''}"
                         f"src {address(graph, vertex)}")
        return lines

    def neighbour(self, vertex, peer, lost=False):
        mac = NOWHERE if lost else _mac(peer, vertex)
        return (f"neigh replace {address(self.graph, peer)} lladdr {mac} "
                f"dev {device(peer)} nud permanent")

    def shape(self, vertex, peer, factor=1):
        # A cable of one direction carries nothing back: the other end's rate is
        # without effect.
        links = self.graph.links
        rate = links.get((vertex, peer)) or links[peer, vertex]
        bits = round(rate * factor * 8 / PAYLOAD_OF_LINE)
        # Senders are held back by their own queue; a router must hold a window
        # of each connection.
        limit = 1_000_000
        if vertex in self.forwarding:
            limit = 1_100_000 * max(4, self.graph.ranks)
        return (f"qdisc replace dev {device(peer)} root tbf rate {bits}bit "
                f"burst {self.settings.burst} limit {limit}")
