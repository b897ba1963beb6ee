"""What `ringweave train` trains on: files and documents."""

import array
import json
import random
import unittest

import cli
import python_command
import test_tokenize
import test_train


class DataTest(test_train.TrainTest):
    def losses(self, files, ranks=1, **changes):
        config = self.config(**{"data.files": [str(path) for path in files],
                                "validation": {}, "parallel.ranks": ranks,
                                **changes})
        return self.results("train", "--config", config, "--json")["losses"]

    def check(self, files, *words, ranks=1, **changes):
        config = self.config(**{"data.files": [str(path) for path in files],
                                "parallel.ranks": ranks, **changes})
        self.assert_fault(cli.run("train", "--config", config), *words)

    def assert_near(self, got, wanted):
        for a, b in zip(got, wanted, strict=True):
            self.assertAlmostEqual(a, b, delta=1e-9)


def documents(count=60):
    draw = random.Random(1)
    words = ["ring ", "weave ", "shard ", "état ", "of ", "a ", "\n"]
    return ["".join(draw.choices(words, k=draw.randint(1, 60)))
            for _ in range(count)]


class Files(DataTest):
    def test_the_same_text_in_other_files_is_the_same_run(self):
        texts = documents()
        whole = self.folder / "whole.txt"
        whole.write_text("".join(texts))
        wanted = self.losses([whole])
        folder = self.folder / "folder"
        (folder / "sub").mkdir(parents=True)
        half = len(texts) // 2
        (folder / "a.txt").write_text("".join(texts[:half]))
        (folder / "sub" / "b.txt").write_text("".join(texts[half:]))
        (folder / ".hidden").write_text("not this")
        self.assertEqual(self.losses([folder]), wanted)
        self.assertEqual(self.losses([folder / "*.txt", folder / "*" / "*.t?t"]),
                         wanted)
        lines = self.folder / "lines.jsonl"
        lines.write_text("".join(
            json.dumps({"id": i, "body": text}) + "\n"
            for i, text in enumerate(texts)))
        self.assertEqual(self.losses([lines], **{"data.text_field": "body"}),
                         wanted)
        plain = self.folder / "plain.bin"
        plain.write_bytes(array.array("H", list(whole.read_bytes())).tobytes())
        self.assertEqual(self.losses([plain], **{"data.format": "uint16"}),
                         wanted)

    def test_documents_are_the_same_on_other_ranks(self):
        lines = self.folder / "lines.jsonl"
        lines.write_text("".join(json.dumps({"text": text}) + "\n"
                                 for text in documents()))
        changes = {"data.documents": "reset", "model.vocab_size": 257,
                   "model.sliding_windows": [9], "data.batch": 4, "steps": 6}
        wanted = self.losses([lines], **changes)
        ignored = self.losses([lines], **{**changes, "data.documents": "ignore"})
        self.assertNotEqual(wanted, ignored)
        self.assert_near(self.losses([lines], 3, **changes), wanted)
        self.assert_near(
            self.losses([lines], 4, **{**changes, "parallel.data": 2,
                                       "parallel.accumulation": 2,
                                       "parallel.recompute": "block"}), wanted)
        # The same documents as tokens that another program wrote.
        tokens = array.array("I")
        for text in documents():
            tokens.extend(list(text.encode()))
            tokens.append(256)
        plain = self.folder / "plain.bin"
        plain.write_bytes(tokens.tobytes())
        self.assertEqual(
            self.losses([plain], **{**changes, "data.format": "uint32",
                                    "data.end_token": 256}), wanted)

    @python_command.needs("tokenizers")
    def test_a_token_file_of_the_tokenize_command(self):
        tokenizer = self.folder / "tokenizer.json"
        test_tokenize.byte_level().save(str(tokenizer))
        lines = self.folder / "lines.jsonl"
        lines.write_text("".join(json.dumps({"text": text}) + "\n"
                                 for text in documents(400)))
        tokens = self.folder / "tokens.safetensors"
        done = python_command.run("tokenize", "--tokenizer", tokenizer, "--out",
                                  tokens, lines)
        self.assertEqual(done.code, 0, done.err)
        changes = {"model.vocab_size": 300, "data.documents": "reset"}
        wanted = self.losses([tokens], **changes)
        self.assert_near(self.losses([tokens], 3, **changes), wanted)
        # The same file without its header and borders.
        written = test_tokenize.Written(tokens)
        plain = self.folder / "plain.bin"
        plain.write_bytes(array.array("H", written.tokens).tobytes())
        self.assertEqual(
            self.losses([plain], **{
                **changes, "data.format": "uint16",
                "data.end_token": int(written.metadata["end_token"])}), wanted)
        self.check([tokens], "vocab_size", "at least 300", str(tokens))
        cut = self.folder / "cut.safetensors"
        cut.write_bytes(tokens.read_bytes()[:-3])
        self.check([cut], str(cut), **changes)

    def test_bad_files_are_one_error_that_names_the_place(self):
        broken = self.folder / "broken.jsonl"
        broken.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
        for ranks in (1, 3):
            self.check([broken], f"{broken}: line 2", "UTF-8", ranks=ranks)
        odd = self.folder / "odd.bin"
        odd.write_bytes(b"abc")
        self.check([odd], str(odd), "3 bytes", "multiple of 2",
                   **{"data.format": "uint16"})
        self.check([odd], str(odd), "uint16")
        large = self.folder / "large.bin"
        large.write_bytes(array.array("H", [1, 2, 900] * 99).tobytes())
        self.check([large], str(large), "900", "place 2", "less than 256",
                   **{"data.format": "uint16"})
        fake = self.folder / "fake.safetensors"
        fake.write_text("text, in truth")
        self.check([fake], str(fake), "safetensors")
        self.check([self.folder / "*.none"], "*.none", "no file matches")
        self.check([self.text], "257", "256 ends a document",
                   **{"data.documents": "reset"})

    def test_a_run_goes_on_in_the_middle_of_an_epoch(self):
        # About 2,200 bytes to train on: 36 sequences, 18 steps to an epoch.
        run = self.folder / "run"
        constant = {"optimizer": {"learning_rate": 0.003, "min_lr_ratio": 1}}

        def losses(steps, *more):
            return self.results(
                "train", "--config", self.config(steps=steps, **constant),
                "--data", self.text, "--json", *more)["losses"]

        whole = losses(30)
        first = losses(13, "--run-dir", run)
        second = losses(30, "--run-dir", run, "--resume", "auto")
        self.assertEqual(first + second, whole)


if __name__ == "__main__":
    unittest.main()
