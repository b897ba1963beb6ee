"""Where each vertex sends what is for a rank."""

import heapq


def next_hops(graph, target, through_ranks=False):
    """{vertex: next vertex} on the way to the rank `target`: fewest links, then
    the widest, as Topology::route() takes it.

    Ranks pass traffic on if the topology says so. With `through_ranks` they do
    so too where there is no other route.
    """
    into = {}
    for (source, at), rate in graph.links.items():
        into.setdefault(at, []).append((source, rate))
    hops, done = {}, set()
    # (ranks that pass it on, links, -narrowest, vertex, next vertex)
    heap = [(0, 0, -float("inf"), target, None)]
    while heap:
        passed, length, width, at, after = heapq.heappop(heap)
        if at in done:
            continue
        done.add(at)
        if after is not None:
            hops[at] = after
        if at < graph.ranks and at != target and not graph.ranks_forward:
            if not through_ranks:
                continue
            passed += 1
        for source, rate in into.get(at, []):
            if source not in done:
                heapq.heappush(heap, (passed, length + 1, max(width, -rate),
                                      source, at))
    return hops


def all_hops(graph, through_ranks=False):
    """next_hops() to each rank."""
    return [next_hops(graph, rank, through_ranks)
            for rank in range(graph.ranks)]


def route(hops, source, target):
    """The vertices from one rank to another; [] if there is no route."""
    vertices = [source]
    while vertices[-1] != target:
        if vertices[-1] not in hops[target]:
            return []
        vertices.append(hops[target][vertices[-1]])
    return vertices
