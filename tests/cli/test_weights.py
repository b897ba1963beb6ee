"""`ringweave train --init-from` and `ringweave export`: weights of Hugging
Face's form in and out. Files are written by hand; test_transformers.py has those
of Transformers."""

import json
import shutil
import unittest

import cli
import hf_folder
import test_train


class WeightsTest(test_train.TrainTest):
    def folder_of(self, fields, dtype="F32", files=1, name="llama", seed=1):
        """A folder and its tensors."""
        some = hf_folder.tensors(fields, dtype, seed)
        return hf_folder.write(self.folder / name, fields, some, files), some

    def arguments(self, *more, **changes):
        """Of a run whose config says nothing of the model."""
        return super().arguments(*more, **{"model": {}, **changes})

    def begun(self, folder, *more, run="run", **changes):
        """The checkpoint of a run of no steps: what it begins with."""
        done = cli.run(*self.arguments(
            "--init-from", folder, "--run-dir", self.folder / run, "--steps",
            0, *more, **changes))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.log = done.stderr
        return self.folder / run / "checkpoints" / "step-00000000"

    def export(self, source, *more, out="out"):
        got = self.results("export", source, "--out", self.folder / out,
                           "--json", *more)
        return got, self.folder / out

    def fields(self, folder):
        return json.loads((folder / "config.json").read_text())


class RoundTrip(WeightsTest):
    def test_an_export_has_the_bits_of_the_folder(self):
        for dtype, style, files, tied, compute in (
                ("F32", 4, 1, False, "float32"),
                ("F64", 5, 3, True, "float64"),
                ("BF16", 4, 2, True, "float32"),
                ("BF16", 5, 1, False, "float64"),
                ("F16", 5, 1, False, "bfloat16")):
            with self.subTest(dtype=dtype, style=style):
                fields = hf_folder.config(style, dtype,
                                          tie_word_embeddings=tied)
                name = f"{dtype}-{style}"
                folder, some = self.folder_of(fields, dtype, files, name)
                self.begun(folder, run=f"run-{name}", compute=compute)
                got, out = self.export(self.folder / f"run-{name}", "--dtype",
                                       hf_folder.NAMES[dtype],
                                       out=f"out-{name}")
                self.assertEqual(sorted(path.name for path in out.iterdir()),
                                 ["config.json", "model.safetensors"])
                self.assertEqual(hf_folder.read(out), some)
                self.assertEqual(got["tensors"], len(some))
                self.assertEqual(got["bytes"], (
                    out / "model.safetensors").stat().st_size)

    def test_config_of_an_export(self):
        for rope in ({}, hf_folder.LLAMA3):
            for style in (4, 5):
                fields = hf_folder.config(style, rope=rope, theta=5e5)
                folder, _ = self.folder_of(fields)
                name = f"{style}-{len(rope)}"
                _, out = self.export(self.begun(folder, run=f"run-{name}"),
                                     "--dtype", "float32", out=f"out-{name}")
                got = self.fields(out)
                # As version 4 wrote it, which both read.
                for field, value in hf_folder.config(4, rope=rope,
                                                     theta=5e5).items():
                    if field in got and not field.endswith("token_id"):
                        self.assertEqual(got[field], value, field)
                self.assertEqual(got["rope_scaling"], rope or None)

    def test_without_dtype_numbers_stay_as_they_are(self):
        folder, _ = self.folder_of(hf_folder.config())
        for compute, dtype in (("float32", "F32"), ("float64", "F64")):
            self.begun(folder, run=compute, compute=compute)
            got, out = self.export(self.folder / compute, out=compute + "-out")
            self.assertEqual(got["dtype"], hf_folder.NAMES[dtype])
            self.assertEqual(self.fields(out)["torch_dtype"], got["dtype"])
            self.assertEqual(
                hf_folder.read(out),
                hf_folder.read_file(self.folder / compute / "checkpoints" /
                                    "step-00000000" / "model.safetensors"))

    def test_text_output(self):
        folder, _ = self.folder_of(hf_folder.config())
        done = cli.run("export", self.begun(folder), "--out",
                       self.folder / "out")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"^39 tensors, 47\.4 k parameters as "
                         r"float64, \d+ kB in .*out\n$")

    def test_a_sliding_window_is_mistrals(self):
        folder, some = self.folder_of(hf_folder.config(
            model_type="mistral", sliding_window=16))
        _, out = self.export(self.begun(folder), "--dtype", "float32")
        self.assertEqual(hf_folder.read(out), some)
        got = self.fields(out)
        self.assertEqual((got["model_type"], got["sliding_window"],
                          got["architectures"]),
                         ("mistral", 16, ["MistralForCausalLM"]))


class Begin(WeightsTest):
    def test_a_run_begins_with_the_weights(self):
        folder, _ = self.folder_of(hf_folder.config(rope=hf_folder.LLAMA3))
        arguments = ("--init-from", folder, "--json")
        got = self.results(*self.arguments(*arguments))
        # Another seed changes nothing but the order of the data.
        other = self.results(*self.arguments(*arguments, seed=8))
        self.assertEqual(got["validation_tokens"], other["validation_tokens"])
        alone = self.results(*self.arguments(*arguments, "--ranks", 1))
        for a, b in zip(got["losses"], alone["losses"]):
            self.assertAlmostEqual(a, b, delta=1e-9)
        self.assertNotEqual(got["losses"][0], self.results(*self.arguments(
            "--json"))["losses"][0])
        # The folder is read in the config alone as well.
        self.assertEqual(self.results(*self.arguments(
            "--json", init={"from": str(folder)}))["losses"], got["losses"])

    def test_every_way_of_training_begins_alike(self):
        folder, _ = self.folder_of(hf_folder.config())
        arguments = ("--init-from", folder, "--json")
        want = self.results(*self.arguments(*arguments))["losses"]
        for changes in ({"parallel.data": 2},
                        {"parallel.shard_optimizer": True},
                        {"parallel.recompute": "block"}):
            got = self.results(*self.arguments(*arguments, **changes))
            for a, b in zip(got["losses"], want):
                self.assertAlmostEqual(a, b, delta=1e-9)

    def test_resolved_config_begins_the_same_run(self):
        folder, _ = self.folder_of(hf_folder.config(5, theta=5e5))
        got = self.results(*self.arguments(
            "--init-from", folder, "--json", "--run-dir", self.folder / "run"))
        config = json.loads((self.folder / "run/config.json").read_text())
        self.assertEqual(config["model"]["rope_theta"], 5e5)
        self.assertEqual(config["model"]["pattern"], "N")
        self.assertEqual(config["init"], {"from": str(folder), "skip": []})
        again = self.results("train", "--config",
                             self.folder / "run/config.json", "--json")
        self.assertEqual(again["losses"], got["losses"])

    def test_a_hybrid_begins_with_softmax_weights(self):
        folder, some = self.folder_of(hf_folder.config())
        hybrid = {"pattern": "LLLN", "linear": {"kind": "gla"}}
        got = hf_folder.read_file(self.begun(
            folder, model=hybrid, compute="float32") / "model.safetensors")
        drawn = hf_folder.read_file(self.begun(
            folder, run="other", seed=8, model=hybrid,
            compute="float32") / "model.safetensors")
        self.assertEqual({name: got[name] for name in some}, some)
        new = set(got) - set(some)
        self.assertEqual(len(new), 3 * 5)
        for name in new:
            if name.endswith("_proj.weight"):
                self.assertNotEqual(got[name], drawn[name])
        self.assertIn(f"39 tensors taken from {folder}\n"
                      "  model.embed_tokens.weight\n"
                      "  model.layers.0-3.input_layernorm.weight\n", self.log)
        self.assertIn("15 tensors drawn from seed 8\n"
                      "  model.layers.0-2.self_attn.gk_proj.0.weight\n",
                      self.log)

    def test_init_skip(self):
        folder, some = self.folder_of(hf_folder.config(vocab_size=300))
        vocabulary = ["model.embed_tokens.weight", "lm_head.weight"]
        skip = [word for name in vocabulary for word in ("--init-skip", name)]
        got = hf_folder.read_file(self.begun(
            folder, *skip, model={"vocab_size": 256},
            compute="float32") / "model.safetensors")
        for name, tensor in got.items():
            if name in vocabulary:
                self.assertEqual(tensor[1], [256, 32])
            else:
                self.assertEqual(tensor, some[name])
        self.assertIn("2 tensors drawn from seed 7\n"
                      "  model.embed_tokens.weight\n  lm_head.weight\n",
                      self.log)
        self.assert_fault(
            cli.run(*self.arguments("--init-from", folder, *skip[:2],
                                    model={"vocab_size": 256})),
            "lm_head.weight", "[300, 32]", "want float64 [256, 32]",
            "--init-skip")

    def test_plan_takes_the_model_of_the_folder(self):
        folder, _ = self.folder_of(hf_folder.config())
        whole = self.folder / "whole.json"
        whole.write_text(cli.run(*self.arguments(
            "--dry-run", "--init-from", folder)).stdout)
        config = self.config(model={}, init={"from": str(folder)})
        plans = [self.results("plan", "--topology", "mesh:ranks=2", "--model",
                              path, "--seq-len", 61, "--json")
                 for path in (config, whole)]
        self.assertEqual(*plans)


class BeginWithARun(WeightsTest):
    """--init-from with a folder of ours."""

    def trained(self, **changes):
        """What a run said, its folder, and that of its newest checkpoint."""
        run = self.folder / "first"
        got = self.results(*test_train.TrainTest.arguments(
            self, "--json", "--run-dir", run, **changes))
        return got, run, run / "checkpoints" / "step-00000004"

    def tensors(self, checkpoint):
        return hf_folder.read_file(checkpoint / "model.safetensors")

    def test_a_run_begins_with_the_weights_of_another(self):
        first, run, checkpoint = self.trained()
        for folder in (run, checkpoint):
            name = f"second-{folder.name}"
            got = self.results(*self.arguments(
                "--init-from", folder, "--run-dir", self.folder / name,
                "--steps", 0, "--json"))
            self.assertEqual(got["validation_loss"], first["validation_loss"])
            begun = self.folder / name / "checkpoints" / "step-00000000"
            self.assertEqual(self.tensors(begun), self.tensors(checkpoint))
            # It says which one it was, also when the other run has gone on.
            config = self.fields(self.folder / name)
            self.assertEqual(config["init"]["from"], str(checkpoint))
            self.assertEqual(config["model"], self.fields(run)["model"])

    def test_exports_of_both_are_equal(self):
        _, run, checkpoint = self.trained(**{"model.pattern": "N"})
        self.begun(run)
        self.assertIn(f"39 tensors taken from {checkpoint}\n", self.log)
        self.assertNotIn("drawn", self.log)
        self.assertNotIn("left out", self.log)
        outs = [self.export(source, out=f"out-{source.name}")[1]
                for source in (checkpoint, self.folder / "run")]
        self.assertEqual(*(hf_folder.read(out) for out in outs))
        self.assertEqual(*(self.fields(out) for out in outs))

    def test_another_pattern_and_family(self):
        _, run, checkpoint = self.trained()
        before = self.tensors(checkpoint)
        norms = {f"model.layers.{layer}.self_attn.o_norm.weight"
                 for layer in range(3)}
        got = self.tensors(self.begun(run, model={"pattern": "N"}))
        self.assertEqual(set(before) - set(got), norms)
        self.assertEqual(got, {name: before[name] for name in got})
        self.assertIn("3 tensors of linear layers left out\n"
                      "  model.layers.0-2.self_attn.o_norm.weight\n", self.log)
        got = self.tensors(self.begun(
            run, run="gla", model={"linear": {"kind": "gla"}}))
        self.assertEqual(set(before) - set(got), norms)
        self.assertIn("15 tensors drawn from seed 7\n", self.log)
        got = self.tensors(self.begun(run, run="moved",
                                      model={"pattern": "NLLL"}))
        self.assertEqual({name for name in got
                          if got[name] != before.get(name)},
                         {"model.layers.3.self_attn.o_norm.weight"})
        self.assertIn("1 tensors of linear layers left out\n", self.log)

    def test_what_does_not_fit(self):
        _, run, checkpoint = self.trained()

        def refused(folder, *words, **changes):
            self.assert_fault(cli.run(*self.arguments(
                "--init-from", folder, **changes)), *words)

        refused(run, "config.json.model.layers] got 3; want 4",
                f"{checkpoint}/state.json", model={"layers": 3})
        refused(run, "model.hidden] got 64", model={"hidden": 64})
        file = checkpoint / "model.safetensors"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        refused(run, str(file), "damaged")
        shutil.rmtree(run / "checkpoints")
        refused(run, "a run without a checkpoint")

    def test_plan_takes_the_model_of_the_run(self):
        _, run, _ = self.trained()
        plans = [self.results("plan", "--topology", "mesh:ranks=2", "--model",
                              path, "--seq-len", 61, "--json")
                 for path in (self.config(model={}, init={"from": str(run)}),
                              run / "config.json")]
        self.assertEqual(*plans)


class GoOn(WeightsTest):
    def resumed(self, folder, *more, **changes):
        return self.arguments("--init-from", folder, "--run-dir",
                              self.folder / "run", "--resume", "auto", *more,
                              **{"checkpoint": {"every_steps": 2}, **changes})

    def test_a_run_that_goes_on_keeps_its_weights(self):
        folder, _ = self.folder_of(hf_folder.config())
        whole = self.results(*self.arguments("--init-from", folder, "--json"))
        first = cli.run(*self.resumed(folder, "--steps", 2))
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertIn("39 tensors taken", first.stderr)
        rest = cli.run(*self.resumed(folder, "--json", "--steps", 4))
        self.assertEqual(rest.returncode, 0, rest.stderr)
        self.assertIn("--init-from is not used", rest.stderr)
        self.assertNotIn("tensors taken", rest.stderr)
        self.assertEqual(len(json.loads(rest.stdout)["losses"]), 2)
        # The learning rate follows the steps, so only the first two are alike.
        lines = (self.folder / "run/metrics.jsonl").read_text().splitlines()
        self.assertEqual(json.loads(lines[0])["loss"], whole["losses"][0])
        # The folder is not asked for any more.
        shutil.rmtree(folder)
        done = cli.run("train", "--resume", self.folder / "run", "--steps", 5)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_run_without_a_checkpoint_begins_again(self):
        folder, _ = self.folder_of(hf_folder.config())
        (self.folder / "run").mkdir()
        (self.folder / "run/run.lock").touch()
        done = cli.run(*self.resumed(folder))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("39 tensors taken", done.stderr)

    def test_a_named_run_has_weights(self):
        folder, _ = self.folder_of(hf_folder.config())
        self.begun(folder)
        self.assert_fault(
            cli.run(*self.arguments("--init-from", folder, "--resume",
                                    self.folder / "run")),
            "--init-from", "--resume", "want one of them")


class Refusals(WeightsTest):
    def refused(self, folder, *words, more=(), **changes):
        """An error before anything is written."""
        run = self.folder / "refused"
        self.assert_fault(
            cli.run(*self.arguments("--init-from", folder, "--run-dir", run,
                                    *more, **changes)), *words)
        self.assertFalse(run.exists())

    def test_fields_that_do_not_fit(self):
        folder, _ = self.folder_of(hf_folder.config())
        self.refused(folder, "config.json.model.hidden] got 64; want 32",
                     f"{folder}/config.json", model={"hidden": 64})
        self.refused(folder, "rope_theta] got 500000", "want 10000",
                     more=("--set", "model.rope_theta=500000"))
        self.refused(folder, "seq_len] got 200; want at most 128",
                     **{"data.seq_len": 200})
        self.refused(folder, "init", more=("--set", "init=3"))

    def test_what_cannot_be_honoured(self):
        for field, value in (("attention_bias", True), ("mlp_bias", True),
                             ("hidden_act", "gelu"),
                             ("partial_rotary_factor", 0.5),
                             ("sliding_window", 16),
                             ("model_type", "gpt2"),
                             ("layer_types", ["sliding_attention"] * 4)):
            folder, _ = self.folder_of(hf_folder.config(**{field: value}))
            self.refused(folder, f"config.json.{field}]")

    def test_damaged_and_foreign_folders(self):
        self.refused(self.folder / "absent", "absent]",
                     "neither a checkpoint nor a config.json", "want")
        folder, some = self.folder_of(hf_folder.config())
        file = folder / "model.safetensors"
        whole = file.read_bytes()
        file.write_bytes(whole[:-1])
        self.refused(folder, "model.safetensors", "bytes")
        file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
        self.refused(folder, "model.safetensors", "want a safetensors file")
        file.unlink()
        self.refused(folder, "got neither model.safetensors nor")
        lacking = dict(some)
        del lacking["model.norm.weight"]
        hf_folder.write_file(file, lacking)
        self.refused(folder, "no tensor model.norm.weight")
        hf_folder.write_file(
            file, {**some, "score.weight": ("F32", [1], bytes(4))})
        self.refused(folder, "a tensor score.weight")
        (folder / "config.json").write_text("[]")
        self.refused(folder, "config.json", "want an object")

    def test_missing_shard(self):
        folder, _ = self.folder_of(hf_folder.config(), files=2)
        (folder / "model-00002-of-00002.safetensors").unlink()
        self.refused(folder, "model-00002-of-00002.safetensors",
                     "No such file")

    def test_names_to_skip(self):
        folder, _ = self.folder_of(hf_folder.config())
        self.refused(folder, "init.skip", "lm_head",
                     more=("--init-skip", "lm_head"))
        self.assert_fault(
            cli.run(*self.arguments("--init-skip", "lm_head.weight",
                                    model={"layers": 1})),
            "init.skip", "init.from")

    def test_exports(self):
        folder, _ = self.folder_of(hf_folder.config())
        checkpoint = self.begun(folder)
        out = self.folder / "out"

        def refused(source, *words, more=()):
            self.assert_fault(cli.run("export", source, "--out", out, *more),
                              *words)
            self.assertEqual(list(self.folder.glob("out*")), [])

        refused(folder, "no checkpoint")
        refused(self.folder / "absent", "no checkpoint")
        refused(checkpoint, "--dtype", "int8", more=("--dtype", "int8"))
        self.begun(folder, run="hybrid", model={"pattern": "LLLN"})
        refused(self.folder / "hybrid", "pattern LLLN")
        self.begun(folder, run="windows", model={"sliding_windows": [16, 0]})
        refused(self.folder / "windows", "windows of 16 and 0")
        out.mkdir()
        self.assert_fault(cli.run("export", checkpoint, "--out", out),
                          str(out), "exists")
        out.rmdir()
        file = checkpoint / "model.safetensors"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        refused(checkpoint, "model.safetensors", "damaged")

    def test_numbers_that_a_type_can_not_hold(self):
        fields = hf_folder.config()
        some = hf_folder.tensors(fields)
        some["model.norm.weight"] = ("F32", [32], b"\0\0\x80\x4f" * 32)  # 2**32
        folder = hf_folder.write(self.folder / "large", fields, some)
        checkpoint = self.begun(folder, compute="float32")
        self.assert_fault(
            cli.run("export", checkpoint, "--out", self.folder / "out",
                    "--dtype", "float16"), "model.norm.weight", "float16")
        self.assertEqual(list(self.folder.glob("out*")), [])


if __name__ == "__main__":
    unittest.main()
