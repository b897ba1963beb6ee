"""`ringweave simulate --schedule` and `--save-schedules`."""

import json
import os
import tempfile
import unittest

import cli
from test_simulate import SHAPE, SimulateTest, simulate


class Schedules(SimulateTest):
    def schedule_file(self, folder, ranks, size=500):
        """Every rank sends its block to every other."""
        path = os.path.join(folder, "schedule.json")
        blocks = [[rank, 0, 0] for rank in range(ranks)]
        pairs = [(a, b) for a in range(ranks) for b in range(ranks) if a != b]
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"format": "ringweave.schedule", "version": 1,
                       "ranks": ranks, "pass": "forward", "steps": 2,
                       "blocks": [{"block": block, "size": size}
                                  for block in blocks],
                       "transfers": [
                           {"from": a, "to": b, "block": blocks[a],
                            "payload": "kv", "action": "copy", "post_step": 0,
                            "wait_step": 1, "source_slot": -1, "slot": a}
                           for a, b in pairs],
                       "tiles": [
                           {"rank": b, "step": 0 if a == b else 1,
                            "block": blocks[a], "slot": -1 if a == b else a,
                            "grad_slot": -1 if a == b else 0}
                           for a in range(ranks) for b in range(ranks)],
                       "retained": []}, file)
        return path

    def test_schedule_files(self):
        with tempfile.TemporaryDirectory() as folder:
            path = self.schedule_file(folder, 2)
            got = self.results(*simulate(
                "--topology", "mesh:ranks=2,rate=1e6", "--schedule",
                f"{path},{path}", "--seq-len", 1000, *SHAPE, "--no-compute",
                "--json"))
            for one in got["passes"]:
                self.assertAlmostEqual(one["seconds"], 4e-3, places=9)
            self.assertEqual(len(got["passes"]), 2)
            self.assert_fault(
                cli.run(*simulate("--topology", "mesh:ranks=2", "--schedule",
                                  path, "--seq-len", 1002, *SHAPE,
                                  "--no-compute")),
                "500 tokens in part 0 of strand 0 of rank 0", "501")

    def test_schedule_files_that_do_not_do_the_work(self):
        """A time of what is no attention would be worth nothing."""
        def change(entry, **fields):
            return lambda good: good[entry][0].update(fields)
        with tempfile.TemporaryDirectory() as folder:
            path = self.schedule_file(folder, 3)
            with open(path, encoding="utf-8") as file:
                text = file.read()
            for spoil, *words in (
                    (change("transfers", to=9), "two different ranks 0 … 2"),
                    (change("transfers", wait_step=99), "wait step <= 2"),
                    (change("transfers", source_slot=7), "impossible"),
                    (change("transfers", action="add"), "action add"),
                    (change("tiles", rank=9), "a rank of 0 … 2"),
                    (change("tiles", step=2), "a step of 0 … 1"),
                    (lambda good: good.update(steps=99), "got 99 steps"),
                    (lambda good: good.update(steps=10 ** 9),
                     ".steps] got 1000000000; want 1 … 1048576"),
                    (lambda good: good["transfers"].pop(), "impossible tile"),
                    (lambda good: good["tiles"].pop(1), "neither uses"),
                    (lambda good: good["tiles"].pop(0), "missing tile"),
                    (lambda good: good["transfers"].append(
                        good["transfers"][0]), "doubled"),
                    (lambda good: good["tiles"].append(good["tiles"][0]),
                     "doubled tile")):
                spoilt = json.loads(text)
                spoil(spoilt)
                with open(path, "w", encoding="utf-8") as file:
                    json.dump(spoilt, file)
                with self.subTest(words=words):
                    self.assert_fault(
                        cli.run(*simulate("--topology", "mesh:ranks=3",
                                          "--schedule", path, "--seq-len", 1500,
                                          *SHAPE, "--no-compute")),
                        path, *words)

    def test_transfers_only(self):
        with tempfile.TemporaryDirectory() as folder:
            path = self.schedule_file(folder, 3)
            with open(path, encoding="utf-8") as file:
                parts = json.load(file)
            parts["tiles"] = []
            arguments = simulate("--topology", "mesh:ranks=3", "--schedule",
                                 path, "--seq-len", 1500, *SHAPE, "--no-compute")
            with open(path, "w", encoding="utf-8") as file:
                json.dump(parts, file)
            self.assert_fault(cli.run(*arguments), "neither uses")
            got = self.results(*arguments, "--transfers-only", "--json")
            self.assertGreater(got["passes"][0]["seconds"], 0)
            kind = parts["transfers"][0]["payload"]
            parts["transfers"][0]["payload"] = "q"
            with open(path, "w", encoding="utf-8") as file:
                json.dump(parts, file)
            self.assert_fault(cli.run(*arguments, "--transfers-only"), path,
                              "transfer of q")
            parts["transfers"][0].update(to=9, payload=kind)
            with open(path, "w", encoding="utf-8") as file:
                json.dump(parts, file)
            self.assert_fault(cli.run(*arguments, "--transfers-only"),
                              "two different ranks 0 … 2")
            self.assert_fault(
                cli.run("simulate", "--topology", "mesh:ranks=3", "--strategy",
                        "ring", "--no-compute", "--transfers-only"),
                "--transfers-only without --schedule")

    def test_saved_schedules_give_the_same_times(self):
        mesh = "mesh:ranks=3,rate=1e6"
        with tempfile.TemporaryDirectory() as folder:
            prefix = os.path.join(folder, "multi")
            want = self.passes(mesh, "multi_ring", "--no-compute",
                               "--save-schedules", prefix, tokens=1000)
            self.assertEqual(sorted(os.listdir(folder)),
                             ["multi.backward.json", "multi.forward.json"])
            files = [f"{prefix}.{one}.json" for one in want]
            got = self.results(*simulate(
                "--topology", mesh, "--schedule", ",".join(files), "--seq-len",
                1000, *SHAPE, "--no-compute", "--json"))
            self.assertEqual(got["passes"], list(want.values()))
            self.assert_fault(
                cli.run(*simulate("--topology", mesh, "--schedule", files[0],
                                  "--no-compute", "--save-schedules",
                                  prefix)),
                "--save-schedules and --schedule")
            # Forward alone keeps nothing for backward.
            self.passes(mesh, "multi_ring", "--no-compute", "--forward-only",
                        "--save-schedules", f"{prefix}.alone", tokens=1000)
            retained = []
            for name in (f"{prefix}.alone.forward.json", files[0]):
                with open(name, encoding="utf-8") as file:
                    retained.append(len(json.load(file)["retained"]))
            self.assertEqual(retained[0], 0)
            self.assertGreater(retained[1], 0)

    def test_what_does_not_go_with_schedules(self):
        with tempfile.TemporaryDirectory() as folder:
            arguments = simulate("--schedule", self.schedule_file(folder, 3),
                                 "--no-compute")
            for more, *words in (
                    (("--topology", "mesh:ranks=4"), "3 ranks", "has 4"),
                    (("--topology", "mesh:ranks=3", "--backward"),
                     "--schedule and --backward")):
                with self.subTest(words=words):
                    self.assert_fault(cli.run(*arguments, *more), *words)


if __name__ == "__main__":
    unittest.main()
