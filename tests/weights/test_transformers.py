"""Weights against Transformers 4 and 5 themselves, each in an environment that
`tools/setup --transformers` makes; skipped where there is none."""

import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/cli"))

import cli  # noqa: E402
import hf_folder  # noqa: E402
import test_train  # noqa: E402

VERSIONS = (4, 5)
SECONDS = 300
TOKENS = 29
BATCH = 2
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}

# What a model is written of, and how.
SIZES = {"model_type": "llama", "vocab_size": 259, "hidden_size": 32,
         "intermediate_size": 40, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2,
         "rms_norm_eps": 1e-5, "max_position_embeddings": 64}
CASES = {
    "float32": ({}, "float32", "1GB"),
    "float64-tied": ({"tie_word_embeddings": True, "head_dim": 6}, "float64",
                     "1GB"),
    "bfloat16-sharded-llama3": ({"rope": hf_folder.LLAMA3, "theta": 500.0,
                                 "num_key_value_heads": 1}, "bfloat16",
                                "20KB"),
    "float16-window": ({"model_type": "mistral", "sliding_window": 5},
                       "float16", "1GB"),
}


def python(version):
    return ROOT / f"build/transformers-{version}/bin/python"


def fields(version, changes):
    """The arguments of that version's config."""
    config = {**SIZES, **changes}
    rope = config.pop("rope", {})
    theta = config.pop("theta", 10000.0)
    if version == 4:
        return {**config, "rope_theta": theta, "rope_scaling": rope or None}
    return {**config, "rope_parameters": {"rope_type": "default", **rope,
                                          "rope_theta": theta}}


def numbers(path):
    (kind, _, data), = hf_folder.read_file(path).values()
    letter = {"F32": "f", "F64": "d"}[kind]
    return struct.unpack(f"<{len(data) // hf_folder.BYTES[kind]}{letter}",
                         data)


@unittest.skipUnless(all(python(version).exists() for version in VERSIONS),
                     "tools/setup --transformers has not been run")
class Transformers(test_train.TrainTest):
    def setUp(self):
        super().setUp()
        self.tokens = self.folder / "tokens.safetensors"
        source = random.Random(3)
        ids = [source.randrange(SIZES["vocab_size"])
               for _ in range(BATCH * TOKENS)]
        hf_folder.write_file(self.tokens, {"tokens": (
            "I64", [BATCH, TOKENS], struct.pack(f"<{len(ids)}q", *ids))})

    def transformers(self, version, jobs):
        path = self.folder / "jobs.json"
        path.write_text(json.dumps(jobs, default=str))
        done = subprocess.run(
            [python(version), ROOT / "tests/weights/with_transformers.py",
             path], text=True, capture_output=True, timeout=SECONDS,
            env={**os.environ, "HF_HUB_OFFLINE": "1"})
        self.assertEqual(done.returncode, 0, done.stderr)

    def theirs(self, version, folders, compute):
        """The logits that this version computes of each folder."""
        outs = [self.folder / f"{folder.name}-{version}-{compute}.safetensors"
                for folder in folders]
        self.transformers(version, [
            {"do": "logits", "folder": folder, "tokens": self.tokens,
             "out": out, "dtype": compute}
            for folder, out in zip(folders, outs)])
        return [numbers(out) for out in outs]

    def ours(self, folder, compute, ranks=1):
        out = self.folder / "ours.safetensors"
        out.unlink(missing_ok=True)
        done = subprocess.run(
            [os.environ["RINGWEAVE_LOGITS"], folder, self.tokens, out, compute,
             str(ranks)], text=True, capture_output=True, timeout=SECONDS)
        self.assertEqual(done.returncode, 0, done.stderr)
        return numbers(out)

    def assert_equal(self, got, want, compute):
        self.assertEqual(len(got), len(want))
        largest = max(map(abs, want))
        self.assertGreater(largest, 0.5)  # otherwise equality would say little
        error = (max(abs(a - b) for a, b in zip(got, want)) /
                 max(1.0, largest))
        self.assertLessEqual(error, TOLERANCE[compute])
        print(f"    {compute}: {error:.1e}", file=sys.stderr)

    def written(self, version):
        """A folder for each case."""
        folders = {name: self.folder / name for name in CASES}
        self.transformers(version, [
            {"do": "write", "folder": folders[name], "dtype": dtype,
             "shard": shard, "config": fields(version, changes)}
            for name, (changes, dtype, shard) in CASES.items()])
        return folders

    def exported(self, source, dtype=None):
        out = source.with_name(source.name + "-out")
        self.results("export", source, "--out", out, "--json",
                     *(("--dtype", dtype) if dtype else ()))
        return out

    def begun(self, folder, *more, **changes):
        """A run that begins with the folder."""
        run = folder.with_name(folder.name + "-run")
        done = cli.run(*self.arguments("--init-from", folder, "--run-dir", run,
                                       *more, **{"model": {}, **changes}))
        self.assertEqual(done.returncode, 0, done.stderr)
        return run

    def check_version(self, version):
        folders = self.written(version)
        shards = list(folders["bfloat16-sharded-llama3"].glob("*.safetensors"))
        self.assertGreater(len(shards), 1)
        for compute in TOLERANCE:
            want = self.theirs(version, list(folders.values()), compute)
            for folder, logits in zip(folders.values(), want):
                for ranks in (1, 3):
                    self.assert_equal(self.ours(folder, compute, ranks),
                                      logits, compute)
        for name, folder in folders.items():
            dtype = CASES[name][1]
            run = self.begun(folder, "--steps", 0, **{
                "compute": "float64", "data.seq_len": 20})
            out = self.exported(run, dtype)
            self.assertEqual(hf_folder.read(out), hf_folder.read(folder), name)

    def test_folders_of_version_4(self):
        self.check_version(4)

    def test_folders_of_version_5(self):
        self.check_version(5)

    def test_both_versions_load_a_trained_run(self):
        folders = self.written(5)
        outs = []
        for name in ("float64-tied", "bfloat16-sharded-llama3",
                     "float16-window"):
            run = self.begun(folders[name], "--steps", 3, **{
                "compute": "float32", "data.seq_len": 20})
            outs.append(self.exported(run))
        for version in VERSIONS:
            for compute in TOLERANCE:
                want = self.theirs(version, outs, compute)
                for out, logits in zip(outs, want):
                    self.assert_equal(self.ours(out, compute, 2), logits,
                                      compute)


if __name__ == "__main__":
    unittest.main()
