"""Plans in use: `train` and `bench` with --plan, "auto", device tables."""

import json
import os
import tempfile
import unittest

import cli

CONFIG = {"format": "ringweave.config", "version": 1,
          "model": {"hidden": 32, "heads": 4, "kv_heads": 2, "layers": 2,
                    "intermediate": 48, "pattern": "LN"},
          "data": {"seq_len": 37, "batch": 2, "validation_fraction": 0},
          "steps": 2, "parallel": {"ranks": 3}}
TOPOLOGY = "mesh:ranks=3,rate=1e9"
SHAPE = ("--seq-len", 37, "--batch", 2, "--heads", 4, "--head-dim", 8,
         "--repeat", 1)


class PlanUsed(cli.CliTest):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        config = json.loads(json.dumps(CONFIG))
        config["data"]["files"] = [self.path("text.txt")]
        with open(self.path("text.txt"), "w", encoding="utf-8") as file:
            file.write("one two three four five. " * 40)
        with open(self.path("config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        done = cli.run("plan", "--topology", TOPOLOGY, "--model",
                       self.path("config.json"), "--seq-len", 37, "--save",
                       self.path("plan.json"))
        self.assertEqual(done.returncode, 0, done.stderr)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def edit_plan(self, **fields):
        with open(self.path("plan.json"), encoding="utf-8") as file:
            plan = json.load(file)
        plan.update(fields)
        with open(self.path("plan.json"), "w", encoding="utf-8") as file:
            json.dump(plan, file)

    def train(self, *options):
        return cli.run("train", "--config", self.path("config.json"), "--json",
                       *options)

    def test_train_runs_what_the_plan_says(self):
        self.edit_plan(softmax={"name": "direct:2"},
                       linear={"exchange": "chain"})
        done = self.train("--plan", self.path("plan.json"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("softmax direct:2, linear chain", done.stderr)
        plain = self.train("--set", "parallel.softmax=direct:2", "--set",
                           "parallel.linear=chain")
        self.assertEqual(json.loads(done.stdout)["losses"],
                         json.loads(plain.stdout)["losses"])

    def test_train_plans_at_start(self):
        done = self.train("--set", "parallel.softmax=auto", "--set",
                          "parallel.linear=auto", "--set",
                          f"parallel.topology={TOPOLOGY}")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(json.loads(done.stdout)["losses"]), 2)

    def test_train_plans_within_limits(self):
        auto = ("--set", "parallel.softmax=auto", "--set",
                f"parallel.topology={TOPOLOGY}")
        limit = ("--set", "parallel.memory_limit_bytes=1")
        self.assert_fault(self.train(*auto, *limit), "memory limit")
        self.assert_fault(self.train(*limit), "parallel.memory_limit_bytes")
        self.assert_fault(
            self.train(*auto, "--set", "parallel.message_overhead_seconds=-1"),
            "message_overhead_seconds", "-1")
        done = self.train(*auto, "--set", "parallel.memory_limit_bytes=1e9",
                          "--set", "parallel.message_overhead_seconds=1e-5",
                          "--dry-run")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_plan_for_something_else_is_one_error(self):
        plan = ("--plan", self.path("plan.json"))
        self.assert_fault(self.train(*plan, "--ranks", 2), "ranks 3", "2")
        self.assert_fault(self.train(*plan, "--set", "data.seq_len=38"),
                          "seq_len 37", "38")
        self.assert_fault(self.train(*plan, "--set", "model.layers=4"),
                          "layers 2", "4")
        self.assert_fault(
            self.train(*plan, "--set", "parallel.topology=mesh:ranks=3,rate=2e9"),
            "topology")
        self.assert_fault(self.train("--plan", self.path("absent.json")),
                          "absent.json")
        self.assert_fault(self.train("--set", "parallel.softmax=auto"),
                          "parallel.topology")
        self.assert_fault(
            self.train("--set", "parallel.softmax=auto", "--set",
                       "parallel.topology=mesh:ranks=4"), "4 ranks", "3")
        self.assert_fault(
            cli.run("bench", "attention", "--plan", self.path("plan.json"),
                    "--ranks", 3, *SHAPE), "kv_heads 2")

    def test_bench_runs_what_the_plan_says(self):
        self.edit_plan(softmax={"name": "direct:2"},
                       linear={"exchange": "all_gather:ring"})
        plan = ("--plan", self.path("plan.json"), "--ranks", 3, "--json")
        got = self.results("bench", "attention", *plan, *SHAPE, "--kv-heads", 2)
        self.assertEqual([case["name"] for case in got["cases"]], ["direct:2"])
        got = self.results("bench", "linear", *plan, *SHAPE)
        self.assertEqual([case["name"] for case in got["cases"]],
                         ["all_gather:ring"])

    def test_a_device_table_that_plan_takes(self):
        table = self.path("device_table.json")
        done = cli.run("bench", "attention", "--save-device-table", table,
                       "--seq-len", 128, "--heads", 2, "--head-dim", 8,
                       "--repeat", 1)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(table, encoding="utf-8") as file:
            got = json.load(file)
        self.assertEqual([point["area"] for point in got["points"]],
                         [2 * 64 * 64, 2 * 128 * 128])
        self.assertEqual(len(got["backward"]), 2)
        planned = self.results("plan", "--topology", TOPOLOGY, "--heads", 2,
                               "--head-dim", 8, "--seq-len", 300,
                               "--device-table", table, "--compute", "float32",
                               "--json")
        self.assertEqual(planned["device_table"], got["device"])
        self.assert_fault(
            cli.run("plan", "--topology", TOPOLOGY, "--heads", 2, "--head-dim",
                    8, "--seq-len", 300, "--device-table", table),
            "measured with float32", "computes in bfloat16")
        self.assert_fault(
            cli.run("bench", "attention", "--save-device-table", table,
                    "--seq-len", 63), "--seq-len 63")
        for other in (("--json",), ("--strategy", "ring"),
                      ("--save-schedules", self.path("schedules"))):
            self.assert_fault(
                cli.run("bench", "attention", "--save-device-table", table,
                        *other), "--save-device-table", other[0])
        self.assert_fault(
            cli.run("bench", "attention", "--save-device-table",
                    "/nonexistent/x"),
            "--save-device-table", "/nonexistent/x", "No such file")


if __name__ == "__main__":
    unittest.main()
