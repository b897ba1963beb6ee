"""Whether a fabric's links carry what they should."""

import dataclasses

from .flood import Flood

LEAST, MOST = 0.97, 1.1


@dataclasses.dataclass
class Row:
    """One flow between two ranks, in payload bytes per second."""
    route: list[int]  # vertices
    wanted: float
    round: int  # of those that run all at once
    alone: float = 0.0
    together: float = 0.0

    @property
    def ratios(self):
        return self.alone / self.wanted, self.together / self.wanted

    @property
    def good(self):
        return all(LEAST <= ratio <= MOST for ratio in self.ratios)


def links_of(route):
    return set(zip(route, route[1:]))


def rounds(fabric):
    """The routes to measure, by round. Those of one round share no link: each
    is bound by its own narrowest link. All rounds together cross every link of the
    pairs of ranks with routes there and back. Of a mesh, one round holds all
    links."""
    ranks = range(fabric.ranks)
    routes = [fabric.route(a, b) for a in ranks for b in ranks
              if a != b and fabric.route(b, a)]
    # The shortest first, so that links have a row of their own where they can;
    # then by distance, which spreads a switch over its ports.
    routes = sorted(filter(None, routes), key=lambda route: (
        len(route), (route[-1] - route[0]) % fabric.ranks, route))
    left = {link for route in routes for link in links_of(route)}
    result = []
    while left:
        used, flows = set(), []
        # Twice: first those that cross what no round has crossed.
        for first in (True, False):
            for route in routes:
                links = links_of(route)
                if links & used or (first and not links & left):
                    continue
                used |= links
                flows.append(route)
        left -= used
        result.append(flows)
    return result


def unreachable(fabric):
    """Pairs of ranks without a route."""
    ranks = range(fabric.ranks)
    return [(a, b) for a in ranks for b in ranks
            if a != b and not fabric.route(a, b)]


def _until_good(rows, field, flood, tries):
    """Measures rows at once, again while one falls short, `tries` times at
    most."""
    flows = [(row.route[0], row.route[-1]) for row in rows]
    for _ in range(tries):
        for row, rate in zip(rows, flood.rates(flows)):
            setattr(row, field, max(rate, getattr(row, field)))
        if all(getattr(row, field) >= LEAST * row.wanted for row in rows):
            return


def measure(fabric, tries=1, progress=lambda text: None):
    """A Row per flow: first a round's all at once, then each alone. What falls
    short is measured again, `tries` times in all, and the largest counts: other
    work on the machine can only take from a link."""
    rows = {}
    with Flood(fabric) as flood:
        for number, routes in enumerate(rounds(fabric)):
            progress(f"round {number + 1}: {len(routes)} flows at once")
            together = [Row(route, fabric.rate(route), number + 1)
                        for route in routes]
            _until_good(together, "together", flood, tries)
            for row in together:
                rows.setdefault(tuple(row.route), row)
        progress(f"{len(rows)} flows one by one")
        for row in rows.values():
            _until_good([row], "alone", flood, tries)
    return list(rows.values())


def table(fabric, rows):
    names = [vertex.name for vertex in fabric.graph.vertices]
    many = len({row.round for row in rows}) > 1
    cells = [["route", "wanted", "alone", "", "together", "", ""]]
    for row in rows:
        cell = [" > ".join(names[vertex] for vertex in row.route),
                f"{row.wanted * 8e-6:.1f}"]
        for rate, ratio in zip((row.alone, row.together), row.ratios):
            cell += [f"{rate * 8e-6:.1f}", f"{ratio:.3f}"]
        notes = [f"round {row.round}"] if many else []
        if not row.good:
            notes.append("OUT OF BOUNDS")
        cells.append(cell + [", ".join(notes)])
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = []
    for row in cells:
        line = [row[0].ljust(widths[0])]
        line += [cell.rjust(width) for cell, width in
                 zip(row[1:6], widths[1:6])]
        lines.append("  ".join([*line, row[6]]).rstrip())
    return "\n".join(lines)
