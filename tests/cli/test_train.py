"""`ringweave train` with ranks as threads: results, files, bad input."""

import json
import pathlib
import resource
import signal
import subprocess
import tempfile
import time
import unittest

import cli
from run_lines import lines_of

TEXT = "All work and no play makes a dull loss curve; some of each, less so. "


def tiny_config(**changes):
    """A config that trains in a moment. `changes`: dotted paths -> values."""
    config = {
        "format": "ringweave.config",
        "version": 1,
        "model": {"hidden": 32, "intermediate": 48, "layers": 4, "heads": 4,
                  "kv_heads": 2, "head_dim": 8, "pattern": "LLLN",
                  "linear": {"kind": "lightning"}},
        "data": {"files": [], "validation_fraction": 0.2, "seq_len": 61,
                 "batch": 2},
        "optimizer": {"learning_rate": 0.003, "warmup_steps": 2},
        "steps": 4,
        "seed": 7,
        "compute": "float64",
        "parallel": {"ranks": 2, "layout": "zigzag", "softmax": "multi_ring",
                     "linear": "all_gather"},
        "validation": {"every": 2, "batches": 2},
        "time_outs": {"start_seconds": 30, "step_seconds": 10},
        "threads": 1,
    }
    for path, value in changes.items():
        *parents, key = path.split(".")
        at = config
        for parent in parents:
            at = at[parent]
        at[key] = value
    return config


@unittest.skipUnless(cli.built_with_torch(), "built without torch")
class TrainTest(cli.CliTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.text = self.folder / "text.txt"
        self.text.write_text(TEXT * 40)

    def config(self, **changes):
        path = self.folder / "config.json"
        path.write_text(json.dumps(tiny_config(**changes)))
        return path

    def arguments(self, *more, **changes):
        return ["train", "--config", self.config(**changes), "--data",
                self.text, *more]

    def train(self, *more, **changes):
        return self.results(*self.arguments("--json", *more, **changes))


class Results(TrainTest):
    def test_shape_of_the_json(self):
        got = self.train()
        self.assertEqual(
            set(got),
            {"parameters", "train_tokens", "validation_tokens", "steps",
             "losses", "first_loss", "last_loss", "validation_loss", "seconds",
             "tokens_per_second", "bytes_sent"} |
            {f"{part}_share_{of}" for of in ("mean", "max")
             for part in ("waiting", "softmax_waiting", "linear_waiting",
                          "gradient_waiting", "optimizer")})
        self.assertEqual(got["steps"], 4)
        self.assertEqual(len(got["losses"]), 4)
        self.assertEqual((got["first_loss"], got["last_loss"]),
                         (got["losses"][0], got["losses"][-1]))
        self.assertGreater(got["bytes_sent"], 0)

    def test_more_ranks_give_the_same_losses(self):
        one = self.train("--ranks", 1)
        self.assertEqual(one["bytes_sent"], 0)
        for ranks in (3, 4):
            many = self.train("--ranks", ranks)
            for a, b in zip(one["losses"] + [one["validation_loss"]],
                            many["losses"] + [many["validation_loss"]]):
                self.assertAlmostEqual(a, b, delta=1e-9)

    def test_a_run_repeats_bit_by_bit(self):
        self.assertEqual(self.train()["losses"], self.train()["losses"])

    def test_it_learns(self):
        got = self.train(steps=30, compute="float32")
        self.assertLess(got["last_loss"], got["first_loss"] - 0.5)

    def test_an_encoder(self):
        encoder = {"model.causal": False, "model.vocab_size": 258,
                   "model.linear": {"kind": "basic"}}
        one = self.train("--ranks", 1, **encoder)
        run = self.folder / "run"
        three = self.train("--ranks", 3, "--run-dir", run, **encoder)
        for a, b in zip(one["losses"] + [one["validation_loss"]],
                        three["losses"] + [three["validation_loss"]]):
            self.assertAlmostEqual(a, b, delta=1e-9)
        self.assert_fault(
            cli.run("generate", "--checkpoint", run, "--prompt", "All"),
            "[generate] got an encoder", "causal")
        self.assert_fault(
            cli.run("export", run, "--out", self.folder / "x"),
            "[export] got an encoder", "causal")

    def test_text_output(self):
        done = cli.run(*self.arguments())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("4 steps on 2 ranks", done.stdout)
        self.assertIn("validation loss", done.stdout)
        self.assertIn("step 4/4  loss", done.stderr)
        self.assertIn("tokens/s", done.stderr)
        self.assertNotIn("\r", done.stderr)

    def test_run_folder(self):
        run = self.folder / "run"
        got = self.train("--run-dir", run)
        self.assertEqual([line["loss"] for line in lines_of(run, "step")],
                         got["losses"])
        self.assertEqual([line["step"] for line in lines_of(run, "validation")],
                         [2, 4])
        resolved = json.loads((run / "config.json").read_text())
        self.assertEqual(resolved["data"]["files"], [str(self.text)])
        self.assertEqual(json.loads((run / "run.json").read_text())["seed"], 7)
        again = self.results("train", "--config", run / "config.json", "--json")
        self.assertEqual(again["losses"], got["losses"])
        self.assert_fault(cli.run(*self.arguments("--run-dir", run)), str(run),
                          "new or empty")

    def test_run_folder_holds_from_any_folder(self):
        (self.folder / "machine.json").write_text(
            cli.run("topology", "show", "mesh:ranks=2", "--json").stdout)
        self.config(**{"data.files": ["text.txt"],
                       "data.validation_files": ["./text.txt"],
                       "parallel.softmax": "auto",
                       "parallel.topology": "machine.json"})
        done = cli.run("plan", "--topology", "machine.json", "--model",
                       "config.json", "--seq-len", 61, "--save", "plan.json",
                       cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        for run, more in (("auto", ()), ("planned", ("--plan", "plan.json"))):
            got = self.results("train", "--config", "config.json", "--json",
                               "--run-dir", run, *more, cwd=self.folder)
            again = self.results("train", "--config",
                                 self.folder / run / "config.json", "--json")
            self.assertEqual(again["losses"], got["losses"])

    def test_flags_override_the_config(self):
        done = self.results(*self.arguments(
            "--dry-run", "--ranks", 3, "--steps", 9, "--set",
            "model.pattern=LN", "--set", "optimizer.learning_rate=1e-4"))
        self.assertEqual(done["parallel"]["ranks"], 3)
        self.assertEqual(done["steps"], 9)
        self.assertEqual(done["model"]["pattern"], "LN")
        self.assertEqual(done["optimizer"]["learning_rate"], 1e-4)

    def test_interrupt_ends_cleanly(self):
        process = subprocess.Popen(
            [cli.BINARY, *map(str, self.arguments("--steps", 100000))],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stderr.readline()  # it has started
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=cli.SECONDS)
        self.assertEqual(process.returncode, 128 + signal.SIGINT, err)
        self.assertIn("stopped by signal 2", err)

    def long_step(self, **more):
        """Of many layers: a minute and more."""
        self.text.write_text(TEXT * 2000)
        return self.arguments(**{
            "model.layers": 200, "data.seq_len": 8000, "data.batch": 4,
            "compute": "float32", "steps": 3, **more})

    def start_long_step(self):
        """A process that is in its first step."""
        process = subprocess.Popen(
            [cli.BINARY, *map(str, self.long_step())],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        while "parameters" not in process.stderr.readline():
            self.assertIsNone(process.poll())
        return process

    def test_an_interrupt_in_a_long_step(self):
        """Said at once, and obeyed before the step is over."""
        for how in (signal.SIGINT, signal.SIGTERM):
            process = self.start_long_step()
            time.sleep(1)
            process.send_signal(how)
            sent = time.monotonic()
            lines = iter(process.stderr.readline, "")
            self.assertIn("ringweave: stopping", "".join(
                [next(lines), next(lines)]))
            said = time.monotonic() - sent
            _, err = process.communicate(timeout=cli.SECONDS)
            self.assertEqual(process.returncode, 128 + how, err)
            self.assertNotIn("step 1/", err)
            self.assertIn(f"stopped by signal {int(how)}", err)
            self.assertLess(said, 5)

    def test_a_second_signal_ends_at_once(self):
        process = self.start_long_step()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=cli.SECONDS)
        self.assertIn(process.returncode, (-signal.SIGINT, 128 + signal.SIGINT))

    def test_out_of_memory_names_the_rank_and_the_fields(self):
        """More than a process may have, and less than the machine has."""
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))

        done = subprocess.run(
            [cli.BINARY, *map(str, self.long_step(**{"parallel.ranks": 1}))],
            text=True, capture_output=True, timeout=cli.SECONDS,
            preexec_fn=limit)
        self.assertEqual(done.returncode, 1, done.stderr)
        last = done.stderr.splitlines()[-1]
        for word in ("rank 0", "out of memory", "data.batch", "data.seq_len"):
            self.assertIn(word, last)


class Configs(unittest.TestCase):
    def test_they_name_the_text_that_setup_makes(self):
        root = pathlib.Path(__file__).resolve().parents[2]
        setup = (root / "tools/setup").read_text()
        for path in (root / "configs").glob("*.json"):
            for file in json.loads(path.read_text())["data"]["files"]:
                self.assertIn(f"text={file}\n", setup, path)


class BadInput(TrainTest):
    def check(self, *words, more=(), **changes):
        self.assert_fault(cli.run(*self.arguments(*more, **changes)), *words)

    def test_unknown_key_names_the_nearest(self):
        self.check("heds", "heads", **{"model.heds": 4})
        self.check("layrs", "layers", more=["--set", "model.layrs=2"])

    def test_wrong_type(self):
        self.check("model.heads", **{"model.heads": "four"})

    def test_heads_that_do_not_divide(self):
        self.check("kv_heads", "3", **{"model.kv_heads": 3})

    def test_pattern_with_an_unknown_letter(self):
        self.check("pattern", "LLXN", **{"model.pattern": "LLXN"})

    def test_unknown_names(self):
        self.check("zigzag", **{"parallel.layout": "zigzg"})
        self.check("multi_ring", **{"parallel.softmax": "multiring"})
        self.check("float32", **{"compute": "float23"})

    def test_ranks_below_one(self):
        self.check("ranks", "0", more=["--ranks", 0])
        self.check("ranks", "-2", **{"parallel.ranks": -2})

    def test_numbers_that_no_machine_can_hold(self):
        self.check("ranks", "256", more=["--ranks", 2**31 - 1])
        self.check("threads", more=["--threads", 2**31 - 1])
        for field in ("model.layers", "model.hidden", "data.batch"):
            self.check("memory", **{field: 2**40, "model.head_dim": 8})

    def test_fields_that_nothing_would_keep_to(self):
        for field, value in (("topology", "mesh:ranks=2"),
                             ("device_table", "h100"),
                             ("memory_limit_bytes", 1e9)):
            self.check(field, "auto", **{f"parallel.{field}": value})

    def test_a_dry_run_checks_the_run_folder(self):
        self.check(str(self.folder), "new or empty",
                   more=["--dry-run", "--run-dir", self.folder])

    def test_striped_layout_with_linear_layers(self):
        self.check("striped", **{"parallel.layout": "striped"})

    def test_text(self):
        self.text.write_text("")
        self.check(str(self.text), "empty")
        self.text.write_text("too short")
        self.check("7 tokens", "want at least 62")
        self.text.unlink()
        self.check(str(self.text))
        self.text.mkdir()
        self.check(str(self.text))

    def test_no_text(self):
        self.assert_fault(cli.run("train", "--config", self.config()),
                          "data.files")

    def test_config_that_is_no_json(self):
        path = self.folder / "broken.json"
        path.write_text('{"steps": 3,\n oops}')
        self.assert_fault(cli.run("train", "--config", path), str(path), "2")
        self.assert_fault(cli.run("train", "--config", self.folder / "none"),
                          "none")
        self.assert_fault(cli.run("train"), "--config")

    def test_set_without_a_value(self):
        self.check("PATH=VALUE", more=["--set", "steps"])


if __name__ == "__main__":
    unittest.main()
