"""`ringweave generate`: replies of runs and of Hugging Face's folders."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

import cli
import hf_folder
import python_command
import test_train
from test_torchrun import ProcessTest


class GenerateTest(test_train.TrainTest):
    RUNS = {}

    def trained(self, **changes):
        """A run of a few steps, made once for all tests."""
        key = json.dumps(changes, sort_keys=True)
        if key not in self.RUNS:
            folder = pathlib.Path(self.enterClassContext(
                tempfile.TemporaryDirectory()))
            done = cli.run(*self.arguments("--run-dir", folder / "run",
                                           **{"steps": 20, **changes}))
            self.assertEqual(done.returncode, 0, done.stderr)
            type(self).RUNS[key] = folder / "run"
        return self.RUNS[key]

    @classmethod
    def setUpClass(cls):
        cls.RUNS = {}

    def generate(self, *arguments):
        return self.results("generate", "--json", *arguments)

    def reply(self, *arguments, sequence=0, prompt=0):
        got = self.generate(*arguments)
        return got["sequences"][sequence]["replies"][prompt]

    def refused(self, words, *arguments):
        self.assert_fault(cli.run("generate", *arguments), *words)


class Replies(GenerateTest):
    def test_shape_of_the_json(self):
        run = self.trained()
        got = self.generate("--checkpoint", run, "--prompt", "All work",
                            "--max-tokens", 9, "--ranks", 2)
        self.assertEqual(set(got), {
            "checkpoint", "ranks", "prompt_tokens", "prefill_seconds", "steps",
            "seconds_per_step", "sequences", "memory"})
        self.assertEqual((got["ranks"], got["prompt_tokens"], got["steps"]),
                         (2, 8, 8))
        self.assertEqual(got["checkpoint"],
                         str(run / "checkpoints" / "step-00000020"))
        (reply,) = got["sequences"][0]["replies"]
        self.assertEqual(set(reply),
                         {"tokens", "log_probabilities", "end", "text"})
        self.assertEqual(len(reply["tokens"]), 9)
        self.assertEqual(len(reply["log_probabilities"]), 9)
        self.assertTrue(all(p <= 0 for p in reply["log_probabilities"]))
        self.assertEqual(reply["text"].encode(), bytes(reply["tokens"]))
        self.assertEqual([rank["rank"] for rank in got["memory"]], [0, 1])

    def test_ranks_and_chunks_change_nothing(self):
        for kind in ("lightning", "gla"):
            run = self.trained(**{"model.linear": {"kind": kind}})
            common = ("--checkpoint", run, "--prompt", "All work and no",
                      "--max-tokens", 30)
            want = self.reply(*common)
            for more in (("--ranks", 2), ("--ranks", 3, "--chunk", 4),
                         ("--ranks", 5, "--chunk", 1, "--layout", "contiguous",
                          "--softmax", "ring", "--linear", "chain")):
                got = self.reply(*common, *more)
                self.assertEqual(got["tokens"], want["tokens"])
                for a, b in zip(got["log_probabilities"],
                                want["log_probabilities"]):
                    self.assertAlmostEqual(a, b, delta=1e-9)

    def test_memory_is_that_of_the_docs(self):
        run = self.trained()
        for ranks in (1, 2, 4):
            got = self.generate("--checkpoint", run, "--prompt", "x" * 40,
                                "--max-tokens", 24, "--ranks", ranks)
            for rank in got["memory"]:
                # One softmax layer: K and V of 2 heads of 8 in float64.
                self.assertEqual(rank["kv_cache_bytes"],
                                 2 * 2 * 8 * 8 * 64 // ranks)
                # Three linear layers: 4 states of 8 x 8, on the owner.
                self.assertEqual(rank["state_bytes"],
                                 3 * 4 * 8 * 8 * 8 * (rank["rank"] == 0))

    def test_draws_repeat(self):
        common = ("--checkpoint", self.trained(), "--prompt", "All",
                  "--max-tokens", 25, "--temperature", 1.5)
        want = self.reply(*common, "--seed", 3)
        self.assertEqual(self.reply(*common, "--seed", 3, "--ranks", 3), want |
                         {"log_probabilities": unittest.mock.ANY})
        self.assertNotEqual(self.reply(*common, "--seed", 4)["tokens"],
                            want["tokens"])
        self.assertEqual(
            self.reply(*common, "--top-k", 1)["tokens"],
            self.reply("--checkpoint", self.trained(), "--prompt", "All",
                       "--max-tokens", 25)["tokens"])

    def test_prompts_of_all_kinds_agree(self):
        run = self.trained()
        text = "All work"
        file = self.folder / "prompt.txt"
        file.write_text(text)
        batch = self.folder / "batch.jsonl"
        ids = list(text.encode())
        batch.write_text(json.dumps({"text": text}) + "\n\n" +
                         json.dumps({"ids": ids}) + "\n")
        common = ("--checkpoint", run, "--max-tokens", 7)
        want = self.reply(*common, "--prompt", text)
        for more in (("--prompt-file", file),
                     ("--prompt-ids", ",".join(map(str, ids)))):
            self.assertEqual(self.reply(*common, *more), want)
        both = self.generate(*common, "--batch", batch)
        for sequence in both["sequences"]:
            self.assertEqual(sequence["replies"][0]["tokens"], want["tokens"])

    def test_a_prompt_follows_the_reply(self):
        common = ("--checkpoint", self.trained(), "--ranks", 2,
                  "--max-tokens", 6)
        both = self.generate(*common, "--prompt", "All wo", "--prompt", " no")
        first, second = both["sequences"][0]["replies"]
        whole = list(b"All wo") + first["tokens"] + list(b" no")
        self.assertEqual(self.reply(
            *common, "--prompt-ids", ",".join(map(str, whole)))["tokens"],
            second["tokens"])
        batch = self.folder / "batch.jsonl"
        batch.write_text(json.dumps({"text": ["All wo", " no"]}) + "\n")
        self.assertEqual(
            self.generate(*common, "--batch", batch)["sequences"],
            both["sequences"])

    def test_stops_and_ends(self):
        run = self.trained()
        common = ("--checkpoint", run, "--prompt", "All work",
                  "--max-tokens", 30)
        want = self.reply(*common)
        stop = want["text"][10:13]
        got = self.reply(*common, "--stop", stop)
        self.assertEqual(got["end"], "stop")
        self.assertEqual(got["text"], want["text"][:want["text"].index(stop)])
        by_ids = self.reply(*common, "--stop-ids",
                            ",".join(str(c) for c in stop.encode()))
        self.assertEqual(by_ids, got)
        self.assertEqual(want["end"], "max_tokens")
        self.assertEqual(self.reply(*common[:4], "--max-tokens", 0)["tokens"],
                         [])

    def test_text_is_that_of_the_json(self):
        common = ("generate", "--checkpoint", self.trained(), "--max-tokens",
                  12, "--ranks", 2)
        one = ("--prompt", "All wo", "--prompt", "no")
        replies = self.results(*common, "--json",
                               *one)["sequences"][0]["replies"]
        done = cli.run(*common, *one)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, replies[0]["text"] + "\n" +
                         replies[1]["text"] + "\n")
        self.assertIn("8 tokens read in", done.stderr)
        lines = [json.loads(line) for line in cli.run(
            *common, "--json-lines", *one).stdout.splitlines()]
        self.assertEqual(
            [line["token"] for line in lines[:-1] if line["prompt"] == 1],
            replies[1]["tokens"])
        self.assertEqual(lines[-1]["sequences"][0]["replies"], replies)
        batch = self.folder / "batch.jsonl"
        batch.write_text('{"text": "All wo"}\n{"text": "no"}\n')
        rows = self.results(*common, "--json", "--batch", batch)["sequences"]
        self.assertEqual(
            cli.run(*common, "--batch", batch).stdout,
            "".join(f"[{i}] {row['replies'][0]['text']}\n"
                    for i, row in enumerate(rows)))

    def test_a_cache_goes_on(self):
        run = self.trained()
        common = ("--checkpoint", run, "--max-tokens", 8)
        cache = self.folder / "cache"
        both = self.generate(*common, "--prompt", "All wo", "--prompt", " no")
        replies = both["sequences"][0]["replies"]
        first = self.reply(*common, "--prompt", "All wo", "--ranks", 3,
                           "--save-cache", cache)
        self.assertEqual(first["tokens"], replies[0]["tokens"])
        second = self.reply(*common, "--prompt", " no", "--ranks", 2,
                            "--load-cache", cache)
        self.assertEqual(second["tokens"], replies[1]["tokens"])
        self.refused(["--save-cache", "which exists"], *common, "--prompt",
                     "x", "--save-cache", cache)
        self.refused(["of another model"], "--checkpoint",
                     self.trained(**{"model.linear": {"kind": "gla"}}),
                     "--prompt", "x", "--load-cache", cache)


class Folders(GenerateTest):
    def folder_of(self, **changes):
        fields = hf_folder.config(5, **changes)
        return hf_folder.write(self.folder / "llama", fields,
                               hf_folder.tensors(fields))

    def test_a_folder_of_hugging_face_has_ids(self):
        folder = self.folder_of(max_position_embeddings=20)
        got = self.reply("--checkpoint", folder, "--prompt-ids", "3,4,5",
                         "--max-tokens", 17, "--ranks", 2, "--ignore-end")
        self.assertNotIn("text", got)
        self.assertEqual(len(got["tokens"]), 17)
        done = cli.run("generate", "--checkpoint", folder, "--prompt-ids",
                       "3,4,5", "--max-tokens", 17, "--ignore-end")
        self.assertEqual(done.stdout,
                         " ".join(map(str, got["tokens"])) + "\n")
        self.refused(["got --prompt for a model whose tokens are not bytes",
                      "--tokenizer"], "--checkpoint", folder, "--prompt", "x")
        self.refused(["got 21 tokens", "max_position_embeddings"],
                     "--checkpoint", folder, "--prompt-ids", "3,4,5,6",
                     "--max-tokens", 17)
        self.refused(["got the id 256"], "--checkpoint", folder,
                     "--prompt-ids", "256", "--max-tokens", 1)

    def test_its_end_token_ends_a_reply(self):
        folder = self.folder_of()
        common = ("--checkpoint", folder, "--prompt-ids", "3,4,5",
                  "--max-tokens", 20)
        want = self.reply(*common, "--ignore-end")["tokens"]
        end = want[7]
        (folder / "generation_config.json").write_text(
            json.dumps({"eos_token_id": [end, 255]}))
        got = self.reply(*common)
        self.assertEqual(got["end"], "end_token")
        self.assertEqual(got["tokens"], want[:want.index(end)])

    def test_damaged_and_foreign_folders(self):
        common = ("--prompt-ids", "1", "--max-tokens", 1)
        self.refused([str(self.folder / "none")], "--checkpoint",
                     self.folder / "none", *common)
        self.refused(["checkpoint"], "--checkpoint", self.folder, *common)
        folder = self.folder_of()
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[:-7])
        self.refused(["model.safetensors"], "--checkpoint", folder, *common)
        fields = hf_folder.config(5, model_type="gpt2")
        (folder / "config.json").write_text(json.dumps(fields))
        self.refused(["model_type", "gpt2"], "--checkpoint", folder, *common)

    def test_checkpoints_of_a_run(self):
        run = self.trained()
        path = run / "checkpoints" / "step-00000020"
        common = ("--prompt", "All", "--max-tokens", 5)
        self.assertEqual(self.reply("--checkpoint", path, *common),
                         self.reply("--checkpoint", run, *common))


class BadInput(GenerateTest):
    def test_each_is_one_clear_error(self):
        run = self.trained()
        for words, arguments in (
                (["none of --prompt"], []),
                (["--prompt", "want a value"], ["--prompt", ""]),
                (["several of --prompt"],
                 ["--prompt", "x", "--prompt-ids", "1"]),
                (["got --prompt-ids 1,,2"], ["--prompt-ids", "1,,2"]),
                (["got --prompt-ids 1x"], ["--prompt-ids", "1x"]),
                (["got the id 300"], ["--prompt-ids", "300"]),
                (["got the id -1"], ["--prompt-ids=-1"]),
                (["[top_p] got 1.5"], ["--prompt", "x", "--top-p", "1.5"]),
                (["[top_p] got 0"], ["--prompt", "x", "--top-p", "0"]),
                (["[temperature] got -1"],
                 ["--prompt", "x", "--temperature=-1"]),
                (["[top_k] got -1"], ["--prompt", "x", "--top-k=-1"]),
                (["[max_tokens] got -1"],
                 ["--prompt", "x", "--max-tokens=-1"]),
                (["--stop", "want a value"], ["--prompt", "x", "--stop", ""]),
                (["this machine's memory"],
                 ["--prompt", "x", "--max-tokens", "1000000000000"]),
                (["[seed] got -1"], ["--prompt", "x", "--seed=-1"]),
                (["[threads] got -1"], ["--prompt", "x", "--threads=-1"]),
                (["chunk"], ["--prompt", "x", "--chunk=-1"]),
                (["multi_rong", "multi_ring"],
                 ["--prompt", "x", "--softmax", "multi_rong"]),
                (["--layout", "zigzog"],
                 ["--prompt", "x", "--layout", "zigzog"]),
                (["striped"], ["--prompt", "x", "--layout", "striped"]),
                (["float12"], ["--prompt", "x", "--compute", "float12"]),
                (["No such file"], ["--prompt-file",
                                    self.folder / "none.txt"]),
                (["--json and --json-lines"],
                 ["--prompt", "x", "--json", "--json-lines"]),
                (["manifest.json"],
                 ["--prompt", "x", "--load-cache", self.folder])):
            with self.subTest(arguments=arguments):
                self.refused(words, "--checkpoint", run, *arguments)

    def test_lines_of_a_batch(self):
        batch = self.folder / "batch.jsonl"
        for words, text in (
                (["which has no lines"], "\n"),
                (["line 2", "neither of"], '{"text": "x"}\n{}\n'),
                (["line 1", "both of"], '{"text": "x", "ids": [1]}\n'),
                (["line 1", "unknown key"], '{"text": "x", "more": 1}\n'),
                (["line 1", "want a string"], '{"text": 3}\n'),
                (["line 1", "list of integers"], '{"ids": "3"}\n'),
                (["line 1", "list of integers"], '{"ids": [1.5]}\n'),
                (["empty prompt for sequence 0"], '{"ids": []}\n'),
                (["line 1"], 'no JSON\n')):
            with self.subTest(text=text):
                batch.write_text(text)
                self.refused(words, "--checkpoint", self.trained(), "--batch",
                             batch)


@unittest.skipUnless(os.environ.get("RINGWEAVE_LIBRARY"),
                     "built without the operators")
class Processes(GenerateTest, ProcessTest):
    def test_they_say_what_threads_say(self):
        common = ("generate", "--checkpoint", self.trained(), "--prompt",
                  "All work", "--max-tokens", 8, "--json", "--chunk", 3)
        want = self.results(*common)["sequences"][0]["replies"][0]["tokens"]
        done = self.torchrun(*common, ranks=3)
        self.assertEqual(done.returncode, 0, done.stderr)
        got = json.loads(done.stdout)
        self.assertEqual(got["ranks"], 3)
        self.assertEqual(got["sequences"][0]["replies"][0]["tokens"], want)

    def test_other_prompts_are_told(self):
        run = self.trained()
        done = self.finish(self.start(
            [["generate", "--checkpoint", run, "--prompt", prompt]
             for prompt in ("one", "two")]))
        self.assertEqual({code for code, _, _ in done}, {2})
        self.assertIn("prompts", "".join(err for _, _, err in done))


# Run by each process: a session of the library, and its cache.
PROGRAM = '''
import sys
import tempfile
import torch, torch.distributed as dist
import ringweave

checkpoint, folder, ids = sys.argv[1], sys.argv[2], [65, 108, 108]
if len(sys.argv) > 3:
    dist.init_process_group("gloo")
session = ringweave.Session(checkpoint, chunk=2)
tokens, logits = [], session.prefill(0, torch.tensor(ids))
for _ in range(5):
    tokens.append(int(logits.argmax()))
    logits = session.decode([0], [tokens[-1]])[0]
assert session.tokens == [8], session.tokens
session.save(folder)
again = ringweave.Session(checkpoint)
again.load(folder)
a, b = again.decode([0], [7]), session.decode([0], [7])
assert (a - b).abs().max() < 1e-10
try:
    session.prefill(0, [])
    raise SystemExit("nothing was refused")
except RuntimeError as error:
    assert "got no tokens" in str(error), error
if not dist.is_initialized() or dist.get_rank() == 0:
    print(*tokens)
if dist.is_initialized():
    dist.destroy_process_group()
'''


@unittest.skipUnless(os.environ.get("RINGWEAVE_LIBRARY"),
                     "built without the operators")
class Library(GenerateTest, ProcessTest):
    def test_a_session_in_python(self):
        run = self.trained()
        want = self.reply("--checkpoint", run, "--prompt", "All",
                          "--max-tokens", 5)["tokens"]
        program = self.folder / "program.py"
        program.write_text(PROGRAM)
        alone = subprocess.run(
            [sys.executable, program, run, self.folder / "one"], text=True,
            capture_output=True, timeout=cli.SECONDS)
        self.assertEqual(alone.returncode, 0, alone.stderr)
        self.assertEqual(alone.stdout.split(), list(map(str, want)))
        many = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run",
             "--nproc-per-node", "3", "--standalone", str(program), str(run),
             str(self.folder / "three"), "group"], text=True,
            capture_output=True, timeout=cli.SECONDS)
        self.assertEqual(many.returncode, 0, many.stderr)
        self.assertEqual(many.stdout.split(), list(map(str, want)))


@unittest.skipUnless(os.environ.get("RINGWEAVE_LIBRARY"),
                     "built without the operators")
@python_command.needs("tokenizers")
class Tokenizers(GenerateTest):
    """python -m ringweave generate, with a tokenizer of the model."""

    def folder_of(self):
        from tokenizers import processors
        import test_tokenize
        tokenizer = test_tokenize.byte_level(size=300)
        tokenizer.add_special_tokens(["<begin>"])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<begin> $A", special_tokens=[
                ("<begin>", tokenizer.token_to_id("<begin>"))])
        size = tokenizer.get_vocab_size()
        fields = hf_folder.config(5, vocab_size=size)
        folder = hf_folder.write(self.folder / "llama", fields,
                                 hf_folder.tensors(fields))
        (folder / "tokenizer.json").write_text(tokenizer.to_str())
        return folder, tokenizer

    def python(self, *arguments):
        return subprocess.run(
            [sys.executable, "-m", "ringweave", "generate",
             *map(str, arguments)], text=True, capture_output=True,
            timeout=cli.SECONDS)

    def test_texts_in_and_out(self):
        folder, tokenizer = self.folder_of()
        text = "wörds and more"
        ids = tokenizer.encode(text).ids
        self.assertEqual(ids[0], tokenizer.token_to_id("<begin>"))
        want = self.reply("--checkpoint", folder, "--prompt-ids",
                          ",".join(map(str, ids)), "--max-tokens", 12)
        text_wanted = tokenizer.decode(want["tokens"])
        common = ("--checkpoint", folder, "--prompt", text, "--max-tokens", 12)
        done = self.python(*common)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, text_wanted + "\n")
        got = json.loads(self.python(*common, "--json").stdout)
        self.assertEqual(got["sequences"][0]["replies"][0],
                         want | {"text": text_wanted})
        lines = [json.loads(line) for line in self.python(
            *common, "--json-lines").stdout.splitlines()]
        self.assertEqual([line["token"] for line in lines[:-1]],
                         want["tokens"])
        batch = self.folder / "batch.jsonl"
        batch.write_text(json.dumps({"text": text}) + "\n")
        self.assertEqual(
            self.python(*common[:2], *common[4:], "--batch", batch).stdout,
            f"[0] {text_wanted}\n")

    def test_faults(self):
        folder, _ = self.folder_of()
        for words, arguments in (
                ("without tokens", ["--prompt", "", "--no-begin"]),
                ("no tokenizer", ["--prompt", "x", "--tokenizer",
                                  folder / "config.json"]),
                ("several of", ["--prompt", "x", "--prompt-ids", "1"]),
                ("[top_p] got 3", ["--prompt", "x", "--top-p", "3"])):
            with self.subTest(words=words):
                done = self.python("--checkpoint", folder, *arguments)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertIn(words, done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)


if __name__ == "__main__":
    unittest.main()
