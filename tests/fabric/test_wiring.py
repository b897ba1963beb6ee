"""Topology files, routes and lines, without any namespace."""

import copy
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # tests/
from fabric import Fabric, FabricError, Settings, check, load
from fabric.topology import parse

PAIR = {"format": "ringweave.topology", "version": 1, "name": "pair",
        "ranks": [{"name": "a"}, {"name": "b"}],
        "links": [{"from": "a", "to": "b", "bytes_per_second": 1e6}]}


def mesh(ranks, rate=1e6):
    return regular("mesh", ranks, rate)


def regular(kind, ranks, rate=1e6, **fields):
    return {"format": "ringweave.topology", "version": 1, "name": kind,
            "fabric": {"kind": kind, "ranks": ranks,
                       "link_bytes_per_second": rate, **fields}}


def two_level(**fields):
    return regular("two_level", fields.pop("ranks", 4), **{
        "nodes": 2, "inside": "mesh", "nic_bytes_per_second": 25e4, **fields})


class Files(unittest.TestCase):
    def error(self, topology, *words):
        with self.assertRaises(FabricError) as caught:
            parse(topology)
        for word in words:
            self.assertIn(word, str(caught.exception))

    def changed(self, **fields):
        pair = copy.deepcopy(PAIR)
        pair["links"][0].update(fields)
        return pair

    def test_both_directions_of_a_link(self):
        self.assertEqual(parse(PAIR).links, {(0, 1): 1e6, (1, 0): 1e6})
        one = parse(self.changed(duplex="simplex"))
        self.assertEqual(one.links, {(0, 1): 1e6})

    def test_what_can_not_be_made(self):
        self.error(self.changed(latency_seconds=1e-6), "links[0]", "1e-06",
                   "--without-latency")
        self.error(self.changed(duplex="half"), "links[0]", "half")
        self.error(self.changed(bytes_per_second=0), "links[0]", "0")
        self.error(self.changed(to="c"), "links[0].to", "c")
        self.error(self.changed(to="a"), "links[0]")
        self.error({**PAIR, "links": []}, "no link")
        self.error({**PAIR, "links": PAIR["links"] * 2}, "links[1]")
        self.error({**PAIR, "ranks": [{"name": "a"}] * 2}, "twice")
        self.error({**PAIR, "version": 2}, "version 2")
        self.error({"name": "x"}, "format")
        self.error(mesh(1), "1 ranks")
        self.error(mesh(1000), "1000 ranks")
        self.error(regular("torus of", 4), "torus of")
        self.error(two_level(ranks=5), "5 ranks on 2 nodes")
        self.error(two_level(nics_per_node=3), "3 NICs")
        self.error(two_level(nics_per_node=0), "0 NICs")
        self.error(two_level(nodes=0), "0 nodes")
        self.error(regular("torus", 4, dimensions=[3, 2]), "[3, 2]")

    def test_files_that_are_none(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "x.json")
            for text in ("GPU0 GPU1", "[]", "{}", '{"format": 1}',
                         json.dumps({**PAIR, "ranks": 3})):
                path.write_text(text)
                with self.assertRaises(FabricError) as caught:
                    load(path)
                self.assertIn(str(path), str(caught.exception))
            path.write_text(json.dumps(self.changed(latency_seconds=1)))
            self.assertEqual(load(path, keep_latency=False).ranks, 2)

    def test_rates_that_no_link_here_has(self):
        for mbit in (0.5, 50_000):
            with self.assertRaises(FabricError) as caught:
                Fabric(parse(mesh(3)), link_mbit=mbit)
            self.assertIn("Mbit/s for link rank0 -> rank1",
                          str(caught.exception))
        with self.assertRaises(FabricError):
            Fabric(parse(mesh(3)), rate_scale=-1)
        with self.assertRaises(FabricError):
            Settings(burst=36_000)
        Settings.small_messages()

    def test_slow_and_missing_links(self):
        graph = parse(mesh(3))
        self.assertEqual(graph.with_slow(0, "rank1", 0.5).links[1, 0], 5e5)
        self.assertNotIn((0, 1), graph.without(1, 0).links)
        for a, b in ((0, 3), (0, 0), ("x", 1), (-1, 0)):
            with self.assertRaises(FabricError):
                graph.without(a, b)
        with self.assertRaises(FabricError):
            graph.with_slow(0, 1, 0)

    def test_written_as_it_was_read(self):
        for file in (PAIR, mesh(4), two_level(), regular("ring", 5),
                     two_level(nics_per_node=1)):
            graph = parse(file)
            self.assertEqual(parse(graph.to_json()), graph)
            changed = graph.scaled(2).with_slow(0, 1, 0.5)
            self.assertEqual(parse(changed.to_json()), changed)


class Routes(unittest.TestCase):
    def routes(self, file, through_ranks=False, **options):
        graph = parse(file)
        for link in options.get("without", []):
            graph = graph.without(*link)
        fabric = Fabric(graph, link_mbit=100, through_ranks=through_ranks)
        names = [vertex.name for vertex in graph.vertices]
        return {(a, b): [names[v] for v in fabric.route(a, b)]
                for a in range(graph.ranks) for b in range(graph.ranks)
                if a != b}, fabric

    def test_mesh(self):
        routes, fabric = self.routes(mesh(4))
        self.assertTrue(all(len(route) == 2 for route in routes.values()))
        self.assertEqual(len(fabric.wiring.cables), 6)
        self.assertEqual(fabric.wiring.forwarding, set())
        (only,) = check.rounds(fabric)
        self.assertEqual(len(only), 12)

    def test_switch(self):
        routes, fabric = self.routes(regular("switch", 3))
        self.assertEqual(routes[2, 0], ["rank2", "switch0", "rank0"])
        (only,) = check.rounds(fabric)
        self.assertEqual(len(only), 3)  # every port in both directions

    def test_nodes(self):
        routes, fabric = self.routes(two_level())
        self.assertEqual(routes[0, 1], ["rank0", "rank1"])
        self.assertEqual(routes[1, 2],
                         ["rank1", "nic1", "spine", "nic2", "rank2"])
        self.assertEqual(fabric.rate(fabric.route(1, 2)) * 8e-6, 25)
        routes, _ = self.routes(two_level(nics_per_node=1, inside="switch"))
        self.assertEqual(routes[2, 3], ["rank2", "switch1", "rank3"])
        self.assertEqual(routes[3, 0],
                         ["rank3", "nic1", "spine", "nic0", "rank0"])

    def test_ranks_pass_on_in_a_ring_and_a_torus(self):
        routes, fabric = self.routes(regular("ring", 5))
        self.assertEqual(routes[0, 2], ["rank0", "rank1", "rank2"])
        self.assertEqual(fabric.wiring.forwarding, set(range(5)))
        routes, fabric = self.routes(regular("torus", 6, dimensions=[3, 2]))
        self.assertEqual(len(fabric.wiring.cables), 9)
        self.assertEqual(len(routes[0, 3]), 3)

    def test_a_missing_link(self):
        routes, fabric = self.routes(mesh(3), without=[(0, 1)])
        self.assertEqual(routes[0, 1], [])
        self.assertEqual(check.unreachable(fabric), [(0, 1), (1, 0)])
        routes, fabric = self.routes(mesh(3), without=[(0, 1)],
                                     through_ranks=True)
        self.assertEqual(routes[0, 1], ["rank0", "rank2", "rank1"])
        self.assertEqual(routes[0, 2], ["rank0", "rank2"])
        self.assertEqual(check.unreachable(fabric), [])

    def test_the_wider_of_two_ways(self):
        file = copy.deepcopy(PAIR)
        file["switches"] = [{"name": "s"}, {"name": "t"}]
        file["links"] = [
            {"from": a, "to": b, "bytes_per_second": rate} for a, b, rate in
            (("a", "s", 3e6), ("s", "b", 1e6),
             ("a", "t", 2e6), ("t", "b", 2e6))]
        routes, fabric = self.routes(file)
        self.assertEqual(routes[0, 1], ["a", "t", "b"])
        covered = {link for flows in check.rounds(fabric) for route in flows
                   for link in check.links_of(route)}
        self.assertEqual(len(covered), 4)

    def test_a_link_of_one_direction(self):
        file = copy.deepcopy(PAIR)
        file["links"][0]["duplex"] = "simplex"
        routes, _ = self.routes(file)
        self.assertEqual((routes[0, 1], routes[1, 0]), (["a", "b"], []))

    def test_local_ranks_count_within_the_node(self):
        fabric = Fabric(parse(two_level()), link_mbit=100)
        locals_ = [fabric.rank_environment(r)["LOCAL_RANK"] for r in range(4)]
        self.assertEqual(locals_, ["0", "1", "0", "1"])


if __name__ == "__main__":
    unittest.main()
