"""`ringweave simulate`: simulated times, which are the same everywhere. Of
schedule files: test_simulate_schedules.py."""

import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

import cli

# A shard of 1000 tokens has 1000 · 2 · 1 · 1 · 4 = 8000 bytes of K and V.
SHAPE = ("--heads", 1, "--head-dim", 1, "--dtype", "float32", "--layout",
         "contiguous", "--mask", "full")


def simulate(*arguments):
    return ("simulate", *arguments)


class SimulateTest(cli.CliTest):
    def passes(self, topology, strategy, *arguments, tokens=4000):
        done = self.results(*simulate("--topology", topology, "--strategy",
                                      strategy, "--seq-len", tokens, *SHAPE,
                                      "--json", *arguments))
        return {one["pass"]: one for one in done["passes"]}


class Simulate(SimulateTest):
    def test_closed_forms(self):
        mesh = "mesh:ranks=4,rate=1e6"
        for strategy, topology, seconds in (
                ("ring", mesh, 3 * 8e-3), ("all_gather", mesh, 8e-3),
                ("all_gather", "switch:ranks=4,rate=1e6", 3 * 8e-3)):
            got = self.passes(topology, strategy, "--no-compute",
                              "--forward-only")
            self.assertEqual(list(got), ["forward"])
            forward = got["forward"]
            self.assertAlmostEqual(forward["seconds"], seconds, places=9)
            self.assertEqual(forward["stuck"], [])
            bound = forward["transfer_bound_seconds"]
            self.assertAlmostEqual(forward["ratio"], seconds / bound, places=6)
            self.assertGreaterEqual(forward["ratio"], 1 - 1e-6)
            self.assertAlmostEqual(forward["exposed_seconds"], seconds,
                                   places=9)

    def test_compute_hides_transfers(self):
        # A tile of 1000 x 1000 pairs has 4e6 operations.
        got = self.passes("mesh:ranks=4,rate=1e6", "ring", "--flops", 4e8)
        self.assertEqual(list(got), ["forward", "backward"])
        self.assertAlmostEqual(got["forward"]["seconds"], 4 * 0.01, places=9)
        self.assertAlmostEqual(got["forward"]["compute_seconds"], 0.04,
                               places=9)
        self.assertAlmostEqual(got["backward"]["compute_seconds"], 0.1,
                               places=9)

    def test_two_nodes_say_who_wins(self):
        """Sliced hierarchical below W = B, paths at W = B, by their formulas."""
        nodes, local, tokens = 2, 4, 8960
        shard = tokens // (nodes * local) * 8
        for slower in (8, 4, 2, 1):
            topology = (f"two_level:ranks=8,nodes={nodes},rate=1e6,"
                        f"nic={1e6 / slower}")
            times = {}
            for name in ("paths", "hierarchical"):
                strategy = f"{name}:nodes={nodes}"
                got = self.passes(topology, strategy, "--no-compute",
                                  "--forward-only", tokens=tokens)["forward"]
                times[name] = got["seconds"] / (shard / 1e6)
                self.assertGreaterEqual(got["ratio"], 1 - 1e-6)
            with self.subTest(slower=slower):
                self.assertAlmostEqual(times["paths"], 7 / local * slower, 3)
                # The last of 4 slices is spread when the rail is done; at W = B
                # the links inside carry two shards and are the limit.
                self.assertAlmostEqual(
                    times["hierarchical"],
                    max((nodes - 1) * slower + 1 / 4, nodes), 3)
                self.assertEqual(min(times, key=times.get),
                                 "paths" if slower == 1 else "hierarchical")

    def test_synthesised_is_near_the_bound(self):
        """On irregular machines, within 10 % by the simulator."""
        with tempfile.TemporaryDirectory() as folder:
            dead = os.path.join(folder, "dead.json")
            ranks = [{"name": f"gpu{i}", "node": 0} for i in range(8)]
            links = [{"from": f"gpu{a}", "to": f"gpu{b}", "class": "link",
                      "bytes_per_second": 1e6, "latency_seconds": 0}
                     for a in range(8) for b in range(a) if (a, b) != (5, 2)]
            with open(dead, "w") as file:
                json.dump({"format": "ringweave.topology", "version": 1,
                           "name": "mesh with a dead link", "ranks": ranks,
                           "links": links}, file)
            for topology, tokens in ((dead, 33600), ("dgx-1", 34720),
                                     ("torus:dimensions=4x4,rate=1e6", 33600),
                                     ("torus:dimensions=2x4,rate=1e6", 33600)):
                with self.subTest(topology=topology):
                    got = self.passes(topology, "synthesised", "--no-compute",
                                      "--forward-only", tokens=tokens)
                    self.assertLess(got["forward"]["ratio"], 1.1)
                    self.assertGreater(got["forward"]["ratio"], 1 - 1e-6)

    def test_disturbances(self):
        mesh = "mesh:ranks=4,rate=1e6"
        slow = self.passes(mesh, "all_gather", "--no-compute",
                           "--forward-only", "--slow-link", "0,1=0.5")
        self.assertAlmostEqual(slow["forward"]["seconds"], 16e-3, places=9)
        late = self.passes(mesh, "ring", "--flops", 4e8, "--forward-only",
                           "--straggler", "2=2")["forward"]
        self.assertAlmostEqual(late["compute_seconds"], 0.08, places=9)

    def test_what_never_ends_has_no_figures(self):
        arguments = simulate("--topology", "mesh:ranks=4,rate=1e6",
                             "--strategy", "ring", "--seq-len", 4000, *SHAPE,
                             "--no-compute", "--fail-link",
                             "rank0,rank1@0.001")
        done = cli.run(*arguments, "--json")
        self.assertEqual((done.returncode, done.stderr),
                         (1, "ringweave: [simulate] the forward pass never "
                             "ends: 4 of 4 ranks wait for ever\n"))
        lost = json.loads(done.stdout)["passes"][0]
        for figure in ("seconds", "ratio", "compute_seconds",
                       "exposed_seconds"):
            self.assertIsNone(lost[figure], figure)
        for use in lost["link_classes"] + lost["busiest_links"]:
            self.assertIsNone(use["utilisation"])
        self.assertIsNone(lost["link_classes"][0]["busiest_utilisation"])
        self.assertGreater(lost["link_classes"][0]["bytes"], 0)
        self.assertEqual(len(lost["stuck"]), 4)
        self.assertIn("rank 1 waits in step 1 for kv block (owner 0, strand "
                      "0) from rank 0: a link on its way failed",
                      lost["stuck"])

        done = cli.run(*arguments, "--forward-only")
        self.assertEqual(done.returncode, 1)
        self.assertIn("\nforward: never ends\n", done.stdout)
        self.assertIn("  exposed communication –\n", done.stdout)
        self.assertIn("; used –, the busiest –\n", done.stdout)
        self.assertNotIn("%", done.stdout)

    def test_jitter_is_repeatable(self):
        def run(seed):
            return self.passes("mesh:ranks=4,rate=1e6", "ring", "--flops", 4e8,
                               "--jitter", 0.2, "--seed", seed)
        self.assertEqual(run(1), run(1))
        self.assertNotEqual(run(1), run(2))

    def test_device_table_and_backward_bound(self):
        mesh = "mesh:ranks=4,rate=1e6"
        got = self.passes(mesh, "direct", "--device-table",
                          "custom:rate=1e9,efficiency=0.4")
        self.assertAlmostEqual(got["forward"]["compute_seconds"], 0.04,
                               places=9)
        got = self.passes(mesh, "all_gather", "--no-compute")
        for one in got.values():
            self.assertAlmostEqual(one["transfer_bound_seconds"], 8e-3)
            self.assertGreaterEqual(one["ratio"], 1 - 1e-6)

    def test_plan(self):
        shape = ("--heads", 4, "--kv-heads", 2, "--head-dim", 16, "--layers",
                 2, "--batch", 3, "--compute", "float32")
        mask = '{"kind": "causal", "window": {"left": 99}}'
        mesh = "mesh:ranks=4,rate=1e6"
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "plan.json")
            planned = self.results(
                "plan", "--topology", mesh, *shape, "--seq-len", 1000,
                "--layout", "contiguous", "--mask", mask, "--device-table",
                "custom:rate=1e9", "--save", path, "--json")
            got = self.results(*simulate("--plan", path, "--device-table",
                                         "custom:rate=1e9", "--json"))
            chosen = planned["softmax"]["chosen"]
            self.assertEqual((got["strategy"], got["seq_len"], got["topology"]),
                             (chosen, 1000, mesh))
            want = next(one for one in planned["softmax"]["candidates"]
                        if one["name"] == chosen)
            for one in got["passes"]:
                self.assertAlmostEqual(
                    one["seconds"] / want[one["pass"]]["seconds"], 1, 1)
            # What says the same is no contradiction.
            again = self.results(*simulate(
                "--plan", path, "--device-table", "custom:rate=1e9", "--json",
                "--topology", mesh, "--heads", 4, "--seq-len", 1000, "--mask",
                mask, "--layout", "contiguous"))
            self.assertEqual(again, got)
            for more, *words in (
                    (("--heads", 8), "heads 4", "8"),
                    (("--kv-heads", 4), "kv_heads 2", "4"),
                    (("--head-dim", 8), "head_dim 16", "8"),
                    (("--batch", 1), "batch 3", "1"),
                    (("--dtype", "bfloat16"), "compute float32", "bfloat16"),
                    (("--seq-len", 1001), "seq_len 1000", "1001"),
                    (("--layout", "zigzag"), "layout contiguous", "zigzag"),
                    (("--mask", "causal"), "mask", "99"),
                    (("--topology", "mesh:ranks=4,rate=2e6"), "topology",
                     "hash")):
                with self.subTest(more=more):
                    self.assert_fault(
                        cli.run(*simulate("--plan", path, "--no-compute",
                                          *more)), path, *words)

    def test_masks(self):
        mesh = "mesh:ranks=4,rate=1e6"

        def bytes_of(mask):
            got = self.results(*simulate(
                "--topology", mesh, "--strategy", "direct", "--seq-len", 4000,
                *SHAPE[:-2], "--no-compute", "--forward-only", "--json",
                "--mask", mask))["passes"][0]
            return got["link_classes"][0]["bytes"]

        # Of 8 bytes per token. Each rank needs what lies before its shard.
        self.assertEqual(bytes_of("causal"), (1 + 2 + 3) * 8000)
        window = json.dumps({"kind": "causal", "window": {"left": 1000}})
        self.assertEqual(bytes_of(window), 3 * 8000)
        documents = {"kind": "full", "document_offsets": [0, 2000, 4000]}
        self.assertEqual(bytes_of(json.dumps(documents)), 4 * 8000)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "mask.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(documents, file)
            self.assertEqual(bytes_of(path), 4 * 8000)
            done = cli.run(*simulate(
                "--topology", mesh, "--strategy", "direct", "--seq-len", 4000,
                *SHAPE[:-2], "--flops", 1e9, "--mask", path))
        self.assertIn(" 4000 tokens, contiguous, full, 2 documents\n",
                      done.stdout)

    def test_idle_links_are_not_the_busiest(self):
        """A ring uses four of a mesh's twelve links."""
        got = self.results(*simulate(
            "--topology", "mesh:ranks=4", "--strategy", "ring", *SHAPE,
            "--no-compute", "--forward-only", "--json"))
        busiest = got["passes"][0]["busiest_links"]
        self.assertEqual(len(busiest), 4)
        self.assertTrue(all(link["bytes"] > 0 for link in busiest))

    def test_text(self):
        done = cli.run(*simulate(
            "--topology", "mesh:ranks=2,rate=1e6", "--strategy", "all_gather",
            "--seq-len", 2000, *SHAPE, "--no-compute", "--forward-only"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, """\
all_gather on mesh:ranks=2,rate=1e6: 2 ranks, 1 x 2000 tokens, contiguous, full

forward: 8 ms
  bound of transfers    8 ms
  compute, busiest rank 0 ms
  time / larger of both 1.0000
  exposed communication 8 ms, mean of the ranks
  2 links of class link: 16000 bytes, 8000 on the busiest; used 100.0 %, the \
busiest 100.0 %
  busiest links:
    rank0 -> rank1: 8000 bytes, busy 8 ms
    rank1 -> rank0: 8000 bytes, busy 8 ms
""")

    def test_long_times_are_in_seconds(self):
        done = cli.run(*simulate(
            "--topology", "mesh:ranks=2,rate=1e3", "--strategy", "all_gather",
            "--seq-len", 3862, *SHAPE, "--no-compute", "--forward-only"))
        self.assertIn("\nforward: 15.45 s\n", done.stdout)
        self.assertIn("rank0 -> rank1: 15448 bytes, busy 15.45 s\n",
                      done.stdout)

    def test_trace(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "trace.json")
            self.passes("mesh:ranks=3,rate=1e6", "ring", "--flops", 4e8,
                        "--trace", path)
            with open(path, encoding="utf-8") as file:
                events = json.load(file)["traceEvents"]
            names = {event["name"] for event in events}
            self.assertLessEqual({"block (owner 0, strand 0)", "forward",
                                  "backward", "thread_sort_index",
                                  "process_sort_index"}, names)
            rates = [event["args"]["bytes/s"] for event in events
                     if event["ph"] == "C"]
            self.assertAlmostEqual(max(rates), 1e6, places=3)
            self.passes("mesh:ranks=3,rate=1e6", "ring", "--no-compute",
                        "--trace", path)
            with open(path, encoding="utf-8") as file:
                events = json.load(file)["traceEvents"]
            self.assertGreater(
                min(event["dur"] for event in events if event["ph"] == "X"), 0)
        done = cli.run(*simulate("--topology", "mesh:ranks=2", "--strategy",
                                 "ring", "--no-compute", "--trace",
                                 os.path.join(folder, "t.json")))
        self.assert_fault(done, "--trace", "No such file")

    def test_outputs_are_tried_before_the_work(self):
        """The work would take minutes."""
        for option in ("--trace", "--save-schedules"):
            done = cli.run(*simulate(
                "--topology", "switch:ranks=2000", "--strategy", "direct:1",
                "--no-compute", option, "/nonexistent/x"))
            self.assert_fault(done, option, "/nonexistent/x", "No such file")
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(os.path.join(folder, "x.backward.json"))
            self.assert_fault(
                cli.run(*simulate("--topology", "mesh:ranks=2", "--strategy",
                                  "ring", "--no-compute", "--save-schedules",
                                  os.path.join(folder, "x"))),
                "x.backward.json", "Is a directory")
            self.assertFalse(os.path.exists(
                os.path.join(folder, "x.forward.json")))

    def test_signals_end_a_pass_under_way(self):
        with subprocess.Popen(
                [cli.BINARY, *simulate("--topology", "switch:ranks=500",
                                       "--strategy", "direct:1",
                                       "--no-compute")],
                text=True, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE) as process:
            # Signals are taken from then on; before, they end the process.
            status = f"/proc/{process.pid}/status"
            mask = 1 << (signal.SIGTERM - 1)
            while process.poll() is None:
                with open(status, encoding="utf-8") as file:
                    caught = next(line.split()[1] for line in file
                                  if line.startswith("SigCgt:"))
                if int(caught, 16) & mask:
                    break
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=cli.SECONDS)
        self.assertEqual((process.returncode, output), (143, ""), errors)
        self.assertTrue(
            errors.endswith("ringweave: stopped by signal 15\n"), errors)

    def test_bad_input(self):
        good = {"--topology": "mesh:ranks=4", "--strategy": "ring",
                "--flops": "1e9"}
        for changes, *words in (
                ({"--topology": "mash:ranks=4"}, "mash"),
                ({"--strategy": "rong"}, "rong", "ring"),
                ({"--strategy": None}, "got 0 of --strategy, --schedule"),
                ({"--plan": "plan.json"}, "got 2 of --strategy"),
                ({"--topology": None}, "neither --topology"),
                ({"--flops": None}, "got 0 of --device-table, --flops"),
                ({"--device-table": "h100"}, "got 2 of --device-table, --flops"),
                ({"--flops": None, "--device-table": "h10"}, "h10"),
                ({"--flops": "0"}, "--flops 0"),
                ({"--seq-len": "0"}, "--seq-len 0"),
                ({"--heads": "3", "--kv-heads": "2"}, "kv_heads"),
                ({"--dtype": "int8"}, "int8"),
                ({"--mask": "half"}, "--mask half", "causal, full"),
                ({"--mask": '{"kind": "some"}'}, "--mask.kind", "causal"),
                ({"--mask": '{"kind": "full", "document_offsets": [0, 9]}'},
                 "end at 9", "65536"),
                ({"--layout": "spiral"}, "spiral"),
                ({"--straggler": "0=0"}, "factor of 0"),
                ({"--straggler": "7=2"}, "straggler 7"),
                ({"--straggler": "two"}, "RANK=FACTOR"),
                ({"--straggler": ["1=2", "1=3"]},
                 "two --straggler for rank 1"),
                ({"--slow-link": ["0,1=2", "rank0,rank1=3"]},
                 "two --slow-link", "rank0,rank1"),
                ({"--heads": "0"}, "[simulate.heads]"),
                ({"--strategy": "direct:0"}, "at most 4096"),
                ({"--topology": "torus:dimensions=3x"},
                 "got dimensions=3x for torus", "4x4x2"),
                ({"--flops": "fast"}, "--flops", "operations per second"),
                ({"--slow-link": "0,1=-1"}, "factor of -1"),
                ({"--slow-link": "0,9=1"}, "got 9"),
                ({"--slow-link": "01=1"}, "a link A,B"),
                ({"--fail-link": "0,1@-1"}, "fails at -1"),
                ({"--fail-link": "0,0@1"}, "has none"),
                ({"--fail-link": ["0,1@1", "rank0,rank1@2"]},
                 "two --fail-link", "rank0,rank1"),
                ({"--seed": "5"}, "--seed without --jitter"),
                ({"--flops": None, "--no-compute": True, "--jitter": 0.1},
                 "--no-compute and --jitter"),
                ({"--flops": None, "--no-compute": True,
                  "--straggler": "0=2"}, "--no-compute and --straggler"),
                ({"--mask": '{"kind": "causal", "document_offsets": []}'},
                 "at least two"),
                ({"--mask": '{"kind": "causal", "window": {"lft": 3}}'},
                 '"lft"', '"left"'),
                ({"--layout": "zigzagg"}, "zigzag?", "striped"),
                ({"--jitter": "1"}, "jitter of 1"),
                ({"--heads": 2**63 - 1}, "[simulate.heads]", "1048576"),
                ({"--head-dim": 2**62}, "[simulate.head_dim]"),
                ({"--topology": "mesh:ranks=4,rate=5e-324"}, "5e-324"),
                ({"--topology": "mesh:ranks=4,latency=1e308"}, "1e+308"),
                ({"--flops": "1e-320"}, "--flops 1e-320", "1 …"),
                ({"--slow-link": "0,1=1e-320"}, "factor of 1e-320"),
                ({"--straggler": "0=1e300"}, "factor of 1e+300"),
                ({"--message-overhead": "inf"}, "overhead of inf"),
                ({"--message-overhead": "-1"}, "overhead of -1")):
            arguments = [item for flag, values in (good | changes).items()
                         if values is not None
                         for value in (values if isinstance(values, list)
                                       else [values])
                         for item in ((flag,) if value is True
                                      else (flag, value))]
            with self.subTest(changes=changes):
                self.assert_fault(cli.run("simulate", *arguments), *words)


if __name__ == "__main__":
    unittest.main()
