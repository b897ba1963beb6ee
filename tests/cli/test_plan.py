"""`ringweave plan`: its figures, its file, and what it refuses."""

import json
import os
import re
import tempfile
import time
import unittest

import cli

MODEL = ("--heads", 16, "--kv-heads", 4, "--head-dim", 64, "--layers", 4,
         "--pattern", "LLLN", "--compute", "float32")
MESH = "mesh:ranks=8,rate=1e9"


class PlanTest(cli.CliTest):
    def plan(self, topology, *options, seq_len=8192):
        return self.results("plan", "--topology", topology, "--seq-len", seq_len,
                            "--json", *options)

    def named(self, layers, name):
        found = [c for c in layers["candidates"] if c["name"] == name]
        self.assertEqual(len(found), 1, name)
        return found[0]


class Figures(PlanTest):
    """Worked out by hand: transfers alone, as computing is far too fast."""

    def setUp(self):
        got = self.plan(MESH, *MODEL, "--mask", "full", "--device-table",
                        "custom:rate=1e24,efficiency=1", seq_len=8960)
        self.softmax, self.linear = got["softmax"], got["linear"]
        # Keys and values of 1120 tokens, 4 heads of 64 numbers of 4 bytes.
        self.shard = 2 * 1120 * 4 * 64 * 4 / 1e9

    def seconds(self, name, part="forward"):
        return self.named(self.softmax, name)[part]["seconds"]

    def test_strategies_on_a_mesh(self):
        self.assertAlmostEqual(self.seconds("ring"), 7 * self.shard)
        self.assertAlmostEqual(self.seconds("multi_ring"), self.shard)
        self.assertAlmostEqual(self.seconds("direct:1"), self.shard)
        self.assertAlmostEqual(self.seconds("all_gather"), self.shard)
        self.assertAlmostEqual(self.seconds("ring", "backward"),
                               13 * self.shard)
        self.assertAlmostEqual(self.seconds("all_gather", "backward"),
                               self.shard)

    def test_bound_ratio_and_choice(self):
        bound = self.softmax["bound"]
        self.assertAlmostEqual(bound["forward_seconds"], self.shard)
        self.assertAlmostEqual(bound["backward_seconds"], self.shard)
        self.assertEqual(self.softmax["chosen"], "all_gather")
        self.assertAlmostEqual(self.softmax["ratio"], 1)

    def test_bytes_and_memory(self):
        ring = self.named(self.softmax, "multi_ring")
        self.assertEqual(set(ring["forward"]["link_bytes"]), {"link"})
        self.assertAlmostEqual(
            ring["forward"]["link_bytes"]["link"]["total"],
            56 * self.shard * 1e9)
        self.assertAlmostEqual(
            ring["forward"]["link_bytes"]["link"]["busiest"], self.shard * 1e9)
        # Own keys, values and gradients; a shard that forward keeps; backward's
        # slots hold five shards.
        self.assertAlmostEqual(ring["memory_bytes"], 8 * self.shard * 1e9,
                               delta=0.02 * 8 * self.shard * 1e9)

    def test_exchanges(self):
        # Two segments of 16 heads' states of 64 x 64 numbers of 4 bytes; of the
        # last rank they are one. Under a full mask the chain's sum then goes
        # from its end to all, each over a link of its own.
        state = 16 * 64 * 64 * 4 / 1e9
        self.assertAlmostEqual(
            self.named(self.linear, "chain")["forward"]["seconds"],
            (14 + 1) * state)
        causal = self.plan(MESH, *MODEL, "--device-table",
                           "custom:rate=1e24,efficiency=1", seq_len=8960)
        self.assertAlmostEqual(
            self.named(causal["linear"], "chain")["forward"]["seconds"],
            14 * state)
        self.assertAlmostEqual(
            self.named(self.linear, "all_gather")["forward"]["seconds"],
            2 * state)
        self.assertAlmostEqual(
            self.named(self.linear, "all_gather:ring")["forward"]["seconds"],
            7 * 2 * state)
        self.assertEqual(self.linear["layers"], 3)

    def test_what_can_not_run_yet_is_marked(self):
        for name in ("ulysses", "pass_q"):
            found = self.named(self.softmax, name)
            self.assertEqual(found["verdict"], "not executable")
            self.assertIn("not executable yet", found["reason"])
            self.assertNotEqual(self.softmax["chosen"], name)
        for found in self.linear["candidates"]:
            self.assertNotEqual(found["verdict"], "not executable")


class Table(PlanTest):
    def test_names_everything_once_and_the_choice(self):
        done = cli.run("plan", "--topology", "dgx-h100:nodes=2", *MODEL,
                       "--seq-len", 65536)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for name in ("multi_ring", "direct:4", "paths:nodes=2",
                     "hierarchical:nodes=2,slices=4", "ulysses", "chain",
                     "sharded_scan"):
            self.assertRegex(done.stdout, rf"(?m)^{re.escape(name)}[ *]")
        self.assertNotIn("stays C/B", done.stdout)  # which is true of meshes
        self.assertRegex(done.stdout, r"(?m)^softmax: .* times the bound of ")
        self.assertRegex(done.stdout, r"(?m)^attention of a step: ")

    def test_bytes_do_not_bound_a_mesh(self):
        done = cli.run("plan", "--topology", MESH, *MODEL, "--seq-len", 8192)
        self.assertIn("stays C/B", done.stdout)

    def test_long_times_have_no_exponent(self):
        done = cli.run("plan", "--topology", "mesh:ranks=2,rate=1e6", *MODEL,
                       "--seq-len", 1 << 20)
        self.assertRegex(done.stdout, r"(?m)^softmax: .* forward \d+\.?\d* s ")
        self.assertRegex(done.stdout, r"(?m)^attention of a step: \d+\.?\d* s$")
        self.assertNotRegex(done.stdout, r"\de\+")

    def test_is_the_same_every_time(self):
        command = ("plan", "--topology", "dgx-1", *MODEL, "--seq-len", 1000)
        self.assertEqual(cli.run(*command).stdout, cli.run(*command).stdout)


class File(PlanTest):
    def test_saves_what_it_chose(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "plan.json")
            got = self.plan(MESH, *MODEL, "--save", path)
            with open(path, encoding="utf-8") as file:
                plan = json.load(file)
        self.assertEqual((plan["format"], plan["version"]),
                         ("ringweave.plan", 1))
        self.assertEqual(plan["topology"]["ranks"], 8)
        self.assertEqual(plan["softmax"]["name"], got["softmax"]["chosen"])
        self.assertEqual(plan["linear"]["exchange"], got["linear"]["chosen"])
        self.assertEqual(plan["predicted"]["step_seconds"], got["step_seconds"])

    def test_is_tried_before_the_work(self):
        self.assert_fault(
            cli.run("plan", "--topology", MESH, *MODEL, "--seq-len", 1000,
                    "--save", "/nonexistent/plan.json"),
            "--save", "/nonexistent/plan.json", "No such file")

    def test_reads_a_config(self):
        config = {"format": "ringweave.config", "version": 1,
                  "compute": "bfloat16", "data": {"batch": 2},
                  "model": {"hidden": 64, "heads": 4, "layers": 2,
                            "pattern": "LN", "linear": {"kind": "gla"}}}
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "config.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(config, file)
            got = self.plan(MESH, "--model", path, "--batch", 3)
        self.assertEqual(got["model"], {
            "layers": 2, "pattern": "LN", "heads": 4, "kv_heads": 4,
            "head_dim": 16, "linear": "gla",
            "state": {"heads": 4, "key_dim": 16, "value_dim": 16, "decays": 16},
            "compute": "bfloat16", "batch": 3})

    def test_knows_every_family_of_linear_layers(self):
        """The program without torch is tested with this, too."""
        states = {"basic": (33, 0), "lightning": (32, 0), "gla": (32, 32)}
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.json")
            for kind, (columns, decays) in states.items():
                with open(path, "w", encoding="utf-8") as file:
                    json.dump({"linear": {"kind": kind}}, file)
                got = self.plan(MESH, "--model", path)
                self.assertEqual(got["model"]["linear"], kind)
                self.assertEqual(got["model"]["state"],
                                 {"heads": 4, "key_dim": 32,
                                  "value_dim": columns, "decays": decays})
                self.assertEqual(
                    got["model"],
                    self.plan(MESH, "--heads", 4, "--head-dim", 32, "--layers",
                              4, "--pattern", "LLLN", "--linear",
                              kind)["model"])
                sent = self.named(got["linear"], "chain")["forward"]
                # 15 segments pass a state of fp32 on to the next.
                self.assertAlmostEqual(sent["link_bytes"]["link"]["total"],
                                       14 * 4 * 32 * columns * 4)
            with open(path, "w", encoding="utf-8") as file:
                json.dump({"linear": {"kind": "glaa"}}, file)
            self.assert_fault(
                cli.run("plan", "--topology", MESH, "--seq-len", 100, "--model",
                        path), "linear.kind", "glaa", "gla")

    def test_takes_the_run_from_a_config(self):
        config = {"format": "ringweave.config", "version": 1,
                  "data": {"seq_len": 5000},
                  "model": {"heads": 4, "layers": 2, "pattern": "LN"},
                  "parallel": {"layout": "contiguous", "topology": MESH,
                               "device_table": "a100",
                               "memory_limit_bytes": 1e9,
                               "message_overhead_seconds": 1e-5}}
        flags = ("--topology", MESH, "--seq-len", 5000, "--layout",
                 "contiguous", "--device-table", "a100", "--memory-limit",
                 1e9, "--message-overhead", 1e-5)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "config.json")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(config, file)
            alone = cli.run("plan", "--model", path)
            self.assertEqual(alone.returncode, 0, alone.stderr)
            self.assertEqual(alone.stdout,
                             cli.run("plan", "--model", path, *flags).stdout)
            self.assertIn("4 x 5000 tokens, causal, contiguous, device table a100",
                          alone.stdout.splitlines()[0])
            for flag, value in (("--topology", "ring:ranks=3"),
                                ("--seq-len", 6000), ("--layout", "zigzag"),
                                ("--device-table", "h100"),
                                ("--memory-limit", 100),
                                ("--message-overhead", 0)):
                other = cli.run("plan", "--model", path, flag, value)
                self.assertNotEqual(other.stdout, alone.stdout, flag)

    def test_reads_a_config_as_train_does(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "config.json")
            for parallel, *words in (({"devise_table": "cpu"}, "devise_table",
                                      'want "device_table"?'),
                                     ({"device": "cpu"}, '"device"',
                                      'want "device_table"?'),
                                     ({"layout": "zigzagg"},
                                      "parallel.layout", "zigzag"),
                                     ({"topology": MESH, "ranks": 3},
                                      "parallel.ranks", "got 3", "want 8")):
                with open(path, "w", encoding="utf-8") as file:
                    json.dump({"format": "ringweave.config", "version": 1,
                               "data": {"seq_len": 5000},
                               "parallel": parallel}, file)
                topology = () if "topology" in parallel else (
                    "--topology", MESH)
                self.assert_fault(cli.run("plan", "--model", path, *topology),
                                  *words)

    def test_names_what_neither_flags_nor_config_tell(self):
        self.assert_fault(cli.run("plan", *MODEL, "--seq-len", 100),
                          "--topology", "parallel.topology")
        self.assert_fault(cli.run("plan", *MODEL, "--topology", MESH),
                          "--seq-len", "data.seq_len")


class Large(PlanTest):
    """Of many ranks. The time is printed; it never decides."""

    def timed(self, topology, **options):
        begin = time.monotonic()
        got = self.plan(topology, *MODEL, seq_len=1 << 20, **options)
        print(f"plan of {topology}: {time.monotonic() - begin:.2f} s")
        return got

    def test_64_ranks(self):
        for topology in ("mesh:ranks=64,rate=5e10", "dgx-h100:nodes=8"):
            got = self.timed(topology)
            self.assertGreaterEqual(len(got["softmax"]["candidates"]), 14)
            self.assertGreaterEqual(got["softmax"]["ratio"], 1 - 1e-9)

    def test_1024_ranks_by_formula(self):
        got = self.timed("dgx-h100:nodes=128")
        possible = [c for c in got["softmax"]["candidates"]
                    if c["verdict"] != "impossible"]
        self.assertTrue(all(c["by_formula"] for c in possible))
        self.assertGreaterEqual(len(possible), 12)

    def test_32768_ranks_by_formula(self):
        """Without tables that are quadratic in the ranks."""
        got = self.timed("torus:dimensions=32x32x32")
        named = self.named(got["softmax"], "time_varying_multi_ring")
        self.assertEqual(named["verdict"], "impossible")
        self.assertIn("at most 4096", named["reason"])

    def test_an_irregular_machine_that_is_too_large(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "chain.json")
            names = [f"r{i}" for i in range(513)]
            with open(path, "w", encoding="utf-8") as file:
                json.dump({"format": "ringweave.topology", "version": 1,
                           "name": "chain", "ranks_forward": True,
                           "ranks": [{"name": name} for name in names],
                           "links": [{"from": a, "to": b,
                                      "bytes_per_second": 1e9}
                                     for a, b in zip(names, names[1:])]},
                          file)
            self.assert_fault(
                cli.run("plan", "--topology", path, *MODEL, "--seq-len", 9999),
                "513 ranks", path, "at most 512")


class BadInput(PlanTest):
    def refused(self, *options, words, topology=MESH, seq_len=1000):
        self.assert_fault(cli.run("plan", "--topology", topology, "--seq-len",
                                  seq_len, *options), *words)

    def test_each_has_one_clear_error(self):
        self.refused(words=["--model", "--heads"])
        self.refused(*MODEL, topology="mish:ranks=8", words=["mish", "mesh"])
        self.refused(*MODEL, topology="absent.json", words=["absent.json"])
        self.refused(*MODEL, "--ranks", 4, words=["--ranks 4", "8"])
        self.refused(*MODEL, seq_len=0, words=["--seq-len 0"])
        self.refused("--heads", 16, "--kv-heads", 3,
                     words=["16 heads", "3 kv_heads"])
        self.refused("--heads", 16, "--pattern", "LX", words=["LX"])
        self.refused(*MODEL, "--mask", "diagonal", words=["diagonal"])
        self.refused(*MODEL, "--layout", "striped", words=["striped"])
        self.refused(*MODEL, "--device-table", "h10", words=["h10", "h100"])
        self.refused(*MODEL, "--device-table", "h100:efficiency=2",
                     words=["at most 1"])
        self.refused(*MODEL, "--memory-limit", -1, words=["memory limit"])
        self.refused(*MODEL, "--message-overhead", -1,
                     words=["--message-overhead -1"])
        self.refused(*MODEL, "--memory-limit", "inf", words=["memory limit"])
        self.refused(*MODEL, "--message-overhead", "inf", words=["overhead"])
        self.refused(*MODEL, "--device-table", "custom:rate=1e-310",
                     words=["FLOP/s"])
        self.refused("--heads", 4, "--head-dim", 2**62, words=["head_dim"])
        self.refused("--heads", 2**63 - 1, words=["plan.heads", "1048576"])
        self.refused("--heads", 4, "--batch", 2**63 - 1, words=["plan.batch"])
        self.refused("--heads", 4, "--layers", 10**9, words=["plan.layers"])
        self.refused("--model", "absent.json", words=["absent.json"])
        self.refused(*MODEL, "--layout", "contiguous",
                     topology="dgx-h100:nodes=128", words=["zigzag"])

    def test_a_memory_limit_that_nothing_meets(self):
        self.refused(*MODEL, "--memory-limit", 1, words=["memory limit", "MB"])


if __name__ == "__main__":
    unittest.main()
