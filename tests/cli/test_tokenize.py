"""`python -m ringweave tokenize`: token files from texts."""

import functools
import hashlib
import io
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import time
import unittest

import python_command
from python_command import python, run

END = "<|endoftext|>"
WORDS = ["the quick brown fox jumps over the lazy dog",
         "a ring of ranks passes keys and values around",
         "états, Größe, 数, and more: 0123456789"]


def byte_level(specials=(END,), size=300):
    """A tokenizer.json of byte-level BPE, which loses nothing of a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(WORDS * 5, trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(specials), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


def word_level(vocabulary, unknown="?"):
    """Tokens are words, with the ids of `vocabulary`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@functools.cache
def piece_model(**options):
    """A SentencePiece model as bytes; every byte has a piece."""
    import sentencepiece
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 5), model_writer=model, vocab_size=330,
        hard_vocab_limit=False, byte_fallback=True, character_coverage=1.0,
        normalization_rule_name="identity", minloglevel=2, **options)
    return model.getvalue()


class Written:
    """A token file, read by hand; it must keep to the rules of the format."""

    def __init__(self, path):
        data = pathlib.Path(path).read_bytes()
        (size,) = struct.unpack_from("<Q", data)
        assert size % 8 == 0, size
        header = json.loads(data[8:8 + size])
        self.metadata = header.pop("__metadata__")
        body, at = data[8 + size:], 0
        tensors = {}
        for name, tensor in sorted(header.items(),
                                   key=lambda item: item[1]["data_offsets"]):
            begin, end = tensor["data_offsets"]
            letter = {"U16": "H", "U32": "I", "I64": "q"}[tensor["dtype"]]
            numbers = struct.Struct(f"<{tensor['shape'][0]}{letter}")
            assert begin == at and end - begin == numbers.size
            tensors[name] = numbers.unpack(body[begin:end])
            at = end
        assert at == len(body), (at, len(body))
        assert sorted(tensors) == ["document_offsets", "tokens"]
        self.type = header["tokens"]["dtype"]
        self.tokens = list(tensors["tokens"])
        self.offsets = list(tensors["document_offsets"])
        self.documents = [self.tokens[begin:end] for begin, end in
                          zip(self.offsets, self.offsets[1:])]


class TokenizeTest(python_command.CommandTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "out.safetensors"

    def tokenizer(self, tokenizer=None, name="tokenizer.json"):
        tokenizer = byte_level() if tokenizer is None else tokenizer
        return self.write(name, tokenizer if isinstance(tokenizer, bytes)
                          else tokenizer.to_str())

    def tokenize(self, tokenizer, *arguments):
        return run("tokenize", "--tokenizer", tokenizer, "--out", self.out,
                   *arguments)

    def written(self, tokenizer, *arguments):
        self.assert_done(self.tokenize(tokenizer, *arguments))
        self.assertEqual(list(self.folder.glob("*.partial")), [])
        return Written(self.out)

    def refused(self, words, tokenizer, *arguments, code=2):
        """An error that leaves no file, and an old one as it was."""
        for old in (None, b"old"):
            self.out.unlink(missing_ok=True)
            if old is not None:
                self.out.write_bytes(old)
            self.assert_fault(
                self.tokenize(tokenizer, "--overwrite", *arguments), *words,
                code=code)
            self.assertEqual(self.out.exists() and self.out.read_bytes(),
                             old or False)
            self.assertEqual(list(self.folder.glob("*.partial")), [])


@python_command.needs("tokenizers", "safetensors", "numpy")
class HuggingFace(TokenizeTest):
    def test_documents_are_read_back(self):
        """Texts of uneven lengths, one with what no tokenizer may normalise."""
        texts = ["x", "", WORDS[2] * 50, " \r\n\t\0", WORDS[0], "\ufeffü"]
        lines = self.write("a.jsonl", " \r\n".join(  # and blank lines
            json.dumps({"text": text, "other": 1}) + "\n" for text in texts))
        whole = self.write("b.txt", WORDS[1] + "\r\n\r\n")
        tokenizer = byte_level()
        file = self.written(self.tokenizer(tokenizer), lines, whole)
        end = tokenizer.token_to_id(END)
        self.assertEqual(file.offsets[0], 0)
        self.assertEqual(file.offsets[-1], len(file.tokens))
        self.assertEqual(len(file.documents), 7)
        for document, text in zip(file.documents,
                                  [*texts, WORDS[1] + "\r\n\r\n"]):
            self.assertEqual(document[:-1], tokenizer.encode(text).ids)
            self.assertEqual(tokenizer.decode(document[:-1]), text)
            self.assertEqual(document[-1], end)

    def test_metadata(self):
        path = self.tokenizer(byte_level(size=290), "of \"mine\" ü.json")
        self.assertEqual(
            self.written(path, self.write("a.txt", "a text")).metadata,
            {"format": "ringweave.tokens", "version": "1", "vocab_size": "290",
             "end_token": "0", "tokenizer": "of \"mine\" ü.json",
             "tokenizer_sha256": hashlib.sha256(path.read_bytes()).hexdigest()})

    def test_safetensors_opens_it(self):
        import numpy
        from safetensors import safe_open
        # One token of 2 bytes, so that the offsets lie at no multiple of 8.
        self.written(self.tokenizer(), self.write("a.jsonl", '{"text": ""}\n'))
        with safe_open(self.out, "numpy") as file:
            self.assertEqual(file.metadata()["format"], "ringweave.tokens")
            self.assertEqual(sorted(file.keys()),
                             ["document_offsets", "tokens"])
            tokens = file.get_tensor("tokens")
            offsets = file.get_tensor("document_offsets")
        self.assertEqual((tokens.dtype, tokens.tolist()),
                         (numpy.uint16, [0]))
        self.assertEqual((offsets.dtype, offsets.tolist()),
                         (numpy.int64, [0, 1]))

    def test_the_type_follows_the_size_of_the_vocabulary(self):
        for last, kind in ((65535, "U16"), (65536, "U32")):
            # A vocabulary of 4 tokens with a gap: the size is the last id + 1.
            tokenizer = word_level({"?": 0, "a": 1, "</s>": 2, "last": last})
            file = self.written(self.tokenizer(tokenizer), "--overwrite",
                                self.write("a.txt", "last a last ?"))
            self.assertEqual(file.type, kind)
            self.assertEqual(file.metadata["vocab_size"], str(last + 1))
            self.assertEqual(file.tokens, [last, 1, last, 0, 2])

    def test_settings_for_batches_change_nothing(self):
        from tokenizers import processors
        tokenizer, text = byte_level(), self.write("a.txt", WORDS[0])
        plain = self.written(self.tokenizer(tokenizer), text).tokens
        tokenizer.enable_truncation(3)
        tokenizer.enable_padding(length=99)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{END} $A {END}", special_tokens=[(END, 0)])
        self.assertEqual(self.written(self.tokenizer(tokenizer), "--overwrite",
                                      text).tokens, plain)
        self.assertGreater(len(plain), 4)

    def test_what_a_text_spells_is_text(self):
        tokenizer = byte_level()
        path, text = self.tokenizer(tokenizer), self.write("a.txt", f"a{END}b")
        tokens = self.written(path, text).tokens
        self.assertEqual(tokens.count(0), 1)
        self.assertEqual(
            self.written(path, "--overwrite", "--parse-special", text).tokens,
            [*tokenizer.encode("a").ids, 0, *tokenizer.encode("b").ids, 0])

    def test_end_token(self):
        text = self.write("a.txt", "a")

        def end(tokenizer, *options):
            file = self.written(self.tokenizer(tokenizer), "--overwrite",
                                *options, text)
            self.assertEqual(file.metadata["end_token"], str(file.tokens[-1]))
            return tokenizer.id_to_token(file.tokens[-1])

        # A special token comes before an earlier one of the list that is none.
        specials = byte_level(["<bos>", "<eos>"])
        specials.add_tokens(["</s>"])
        self.assertEqual(end(specials), "<eos>")
        self.assertEqual(end(specials, "--end-token", "<bos>"), "<bos>")
        self.assertEqual(end(byte_level(["<eos>", "</s>"])), "</s>")
        self.assertEqual(end(word_level({"?": 0, "[SEP]": 1})), "[SEP]")
        self.refused(["--end-token", "</s>", "<one>, <two>"],
                     self.tokenizer(byte_level(["<one>", "<two>"])), text)
        self.refused(["--end-token", "no special tokens"],
                     self.tokenizer(word_level({"?": 0})), text)
        self.refused(["--end-token", "'<absent>'"], self.tokenizer(),
                     "--end-token", "<absent>", text)

    def test_begin_token(self):
        lines = self.write("a.jsonl", '{"text": "a"}\n{"text": ""}')
        tokenizer = byte_level(["<s>", "</s>"])
        (a,) = tokenizer.encode("a").ids
        self.assertEqual(
            self.written(self.tokenizer(tokenizer), "--bos", "<s>",
                         lines).documents, [[0, a, 1], [0, 1]])
        self.refused(["--bos", "'<t>'"], self.tokenizer(tokenizer), "--bos",
                     "<t>", lines)

    def test_workers_and_batches_change_nothing(self):
        """More documents than a batch has, and one larger than a batch."""
        lines = self.write("a.ndjson", "".join(
            json.dumps({"text": WORDS[i % 3][:i % 41]}) + "\n"
            for i in range(3000)))
        large = self.write("large.txt", WORDS[0] * 30000)
        path, files = self.tokenizer(), []
        for workers in (1, 3):
            # The library reads the number of threads once per process.
            done = python("-m", "ringweave", "tokenize", "--tokenizer", path,
                          "--out", self.folder / f"{workers}.safetensors",
                          "--workers", workers, lines, large, lines)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            files.append(self.folder / f"{workers}.safetensors")
        self.assertEqual(*(file.read_bytes() for file in files))
        documents = Written(files[0]).documents
        self.assertEqual(len(documents), 6001)
        tokenizer = byte_level()
        self.assertEqual(tokenizer.decode(documents[3000][:-1]),
                         WORDS[0] * 30000)
        self.assertEqual(tokenizer.decode(documents[6000][:-1]),
                         WORDS[2999 % 3][:2999 % 41])

    def test_summary(self):
        tokenizer = word_level({"?": 0, "ab": 1, "</s>": 2})
        lines = self.write("a.jsonl", '{"text": "ab ab"}\n{"text": "ü"}\n')
        out = self.assert_done(self.tokenize(self.tokenizer(tokenizer), lines))
        # 5 + 2 bytes; ab ab </s> ? </s>
        self.assertRegex(out, r"^2 documents, 5 tokens, 1\.40 bytes per token, "
                         r"\d+\.\d s\n$")

    def texts(self, *inputs, options=()):
        """The documents that `inputs` stand for, in order."""
        tokenizer = byte_level()
        file = self.written(self.tokenizer(tokenizer), "--overwrite", *options,
                            *inputs)
        return [tokenizer.decode(tokens[:-1]) for tokens in file.documents]

    def test_folders_and_patterns(self):
        for name in ("d/b.txt", "d/a/z", "d/a/y.md", "d/a.txt", "d/B",
                     "d/.hidden", "d/.git/file", "d/é", "d/\ufffd"):
            self.write(name, name)
        # The order is that of bytes: as text, this name would come before.
        self.write("d/" + os.fsdecode(b"\xff"), "no UTF-8")
        self.write("d/lines.jsonl", '{"text": "one"}\n{"text": "two"}')
        os.symlink(self.folder / "d/a.txt", self.folder / "d/link")
        folder = ["d/B", "d/a.txt", "d/a/y.md", "d/a/z", "d/b.txt", "one",
                  "two", "d/a.txt", "d/é", "d/\ufffd", "no UTF-8"]
        self.assertEqual(self.texts(self.folder / "d"), folder)
        self.assertEqual(self.texts(f"{self.folder}/d/"), folder)
        # What lies in folders that match is sorted with the rest.
        self.assertEqual(self.texts(self.folder / "d/[ab]*"),
                         ["d/a.txt", "d/a/y.md", "d/a/z", "d/b.txt"])
        for outside in "!^":
            self.assertEqual(self.texts(f"{self.folder}/d/[{outside}abl\xe9]*"),
                             ["d/B", "d/\ufffd", "no UTF-8"])
        self.assertEqual(self.texts(self.folder / "d/*/z", self.folder / "d/B"),
                         ["d/a/z", "d/B"])
        os.symlink("d", self.folder / "e")
        self.assertEqual(self.texts(self.folder / "e"), folder)
        # A file whose name looks like a pattern.
        self.assertEqual(self.texts(self.write("x[1].txt", "name")), ["name"])
        self.assertEqual(
            self.texts(self.write("other.JSONL", '{"body": "b", "text": 1}'),
                       options=["--text-field", "body"]), ["b"])

    def test_inputs_that_are_refused(self):
        path = self.tokenizer()
        good = self.write("good.txt", "good")
        cases = {
            "absent.txt": (None, ["absent.txt"]),
            "no*match": (None, ["no*match", "matches no file"]),
            "a/**/b": (None, ["**"]),
            "empty.txt": ("", ["empty.txt is empty"]),
            "empty.jsonl": ("", ["empty.jsonl is empty"]),
            "latin.txt": (b"one\ntwo\nth\xfcre\n",
                          ["latin.txt:3:", "0xfc", "offset 10", "not UTF-8"]),
            "cut.txt": ("ü".encode()[:1], ["cut.txt:1:", "0xc3", "offset 0"]),
            "l.jsonl": (b'{"text": ""}\n{"text": "\xff"}\n',
                        ["l.jsonl:2:", "0xff", "offset 10 of the line"]),
            "list.jsonl": ('{"text": ""}\n["text"]\n',
                           ["list.jsonl:2:", "got an array", "want an object"]),
            "none.jsonl": ('{"body": "", "id": 3}\n',
                           ["none.jsonl:1:", '"text"', '"body", "id"']),
            "kind.jsonl": ('\n'.join(['{"text": "a"}'] * 2000 +
                                     ['{"text": 3}']),
                           ["kind.jsonl:2001:", "got a number",
                            "want a string"]),
            "null.jsonl": ('{"text": null}', ["null.jsonl:1:", "got null"]),
            "bool.jsonl": ('{"text": true}', ["bool.jsonl:1:", "a boolean"]),
            "json.jsonl": ('{"text": "a"\n', ["json.jsonl:1:", "no JSON"]),
            "blank.jsonl": ("\n \t\r\n", ["blank.jsonl is empty"]),
            "old.safetensors": ("{}", ["old.safetensors", "want text"]),
            "deep.jsonl": ("[" * 100000, ["deep.jsonl:1:", "too deep"]),
            "half.jsonl": ('{"text": "\\ud800"}', ["half.jsonl:1:", "ud800"]),
        }
        for name, (content, words) in cases.items():
            with self.subTest(name):
                file = (self.folder / name if content is None
                        else self.write(name, content))
                self.refused(words, path, good, file)
        (self.folder / "folder/.x").mkdir(parents=True)
        self.refused(["no file lies", "folder"], path, self.folder / "folder")
        os.symlink("..", self.folder / "folder/up")
        self.refused(["a link to a folder", "up"], path, self.folder / "folder")
        os.unlink(self.folder / "folder/up")
        os.mkfifo(self.folder / "folder/pipe")
        self.refused(["pipe"], path, self.folder / "folder")
        self.assert_fault(self.tokenize(path), "INPUT")

    def test_a_document_that_the_tokenizer_refuses(self):
        path = self.tokenizer(word_level({"a": 0, "</s>": 1}, "?"))
        self.refused(["l.jsonl:2:", "can't encode"], path, self.write(
            "l.jsonl", '{"text": "a"}\n{"text": "b"}\n'))

    def test_tokenizers_that_are_refused(self):
        text = self.write("a.txt", "a")
        for content, words in ((b"", ["is empty"]), (b"words", []),
                               (b"\xff\xfe", []), (b"\nwords", []),
                               (b"{}", ["JSON"]), (b"[1]", ["JSON"]),
                               (b'{"model_type": "llama"}', ["JSON"])):
            with self.subTest(content):
                self.refused([*words, "tokenizer.json or a SentencePiece"],
                             self.tokenizer(content), text)
        self.refused(["absent"], self.folder / "absent", text)
        self.refused(["can't read", "directory"], self.folder, text)

    def test_outputs_that_are_refused(self):
        path, text = self.tokenizer(), self.write("a.txt", "a")
        self.out.write_bytes(b"old")
        self.assert_fault(self.tokenize(path, text), self.out, "exists",
                          "--overwrite")
        self.assertEqual(self.out.read_bytes(), b"old")
        self.assertEqual(self.written(path, "--overwrite", text).offsets[0], 0)

        def to(out, *options):
            return run("tokenize", "--tokenizer", path, "--out", out, text,
                       *options)

        self.assert_fault(to(self.folder / "out.bin"), ".safetensors")
        self.assert_fault(to(self.folder / "no/out.safetensors"), "no folder")
        (self.folder / "f.safetensors").mkdir()
        self.assert_fault(to(self.folder / "f.safetensors", "--overwrite"),
                          "a folder")
        self.assert_fault(to(self.out, self.out, "--overwrite"), self.out,
                          "also an input")

    def test_a_full_disk(self):
        """Stands for it: files of this process may not pass 100 kB."""
        text = self.write("a.jsonl", '{"text": "0123456789"}\n' * 20000)
        self.out.write_bytes(b"old")
        done = python("-c", "import resource, signal, sys\n"
                      "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
                      "resource.setrlimit(resource.RLIMIT_FSIZE,"
                      " (100000, 100000))\n"
                      "from ringweave import commands\n"
                      "sys.exit(commands.run(*sys.argv[1:]))",
                      "tokenize", "--overwrite", "--tokenizer",
                      self.tokenizer(), "--out", self.out, text)
        self.assert_fault(python_command.Done(done.returncode, done.stdout,
                                              done.stderr),
                          "can't write", self.out, code=1)
        self.assertEqual(self.out.read_bytes(), b"old")
        self.assertFalse(os.path.exists(f"{self.out}.partial"))

    def start(self, *arguments):
        """A process that has begun to write and waits for its input, a pipe."""
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        process = subprocess.Popen(
            [sys.executable, "-m", "ringweave", "tokenize", "--tokenizer",
             self.tokenizer(), "--out", self.out, pipe], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=python_command.ENVIRONMENT,
            # A shell may have told the tests to ignore it, as jobs with & are.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        partial = pathlib.Path(f"{self.out}.partial")
        end = time.monotonic() + python_command.SECONDS
        while not partial.exists() and time.monotonic() < end:
            time.sleep(0.01)
        self.assertTrue(partial.exists())
        return process, pipe, partial

    def test_signals_leave_nothing(self):
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            process, pipe, partial = self.start()
            process.send_signal(number)
            process.communicate(timeout=python_command.SECONDS)
            self.assertEqual(process.returncode, code)
            self.assertFalse(partial.exists())
            self.assertFalse(self.out.exists())
            pipe.unlink()

    def test_two_writers(self):
        """The second one is refused; what a killed one left is replaced."""
        process, pipe, partial = self.start()
        path, text = self.tokenizer(), self.write("a.txt", "a")
        self.assert_fault(self.tokenize(path, text), "another process",
                          partial)
        pipe.write_text("from the pipe")
        _, err = process.communicate(timeout=python_command.SECONDS)
        self.assertEqual((process.returncode, err), (0, ""))
        self.assertEqual(byte_level().decode(Written(self.out).tokens[:-1]),
                         "from the pipe")
        self.out.unlink()
        partial.write_bytes(bytes(10**6))
        self.assertEqual(len(self.written(path, text).documents), 1)

    def test_library_that_is_not_installed(self):
        self.assert_fault(
            self.without("tokenizers", "tokenize", "--tokenizer",
                         self.tokenizer(), "--out", self.out,
                         self.write("a.txt", "a")),
            "pip install tokenizers")


@python_command.needs("sentencepiece")
class SentencePiece(TokenizeTest):
    def test_documents_are_read_back(self):
        import sentencepiece
        model = sentencepiece.SentencePieceProcessor(model_proto=piece_model())
        texts = [WORDS[2], "", "x </s> y", "byte \x01 and 数"]
        lines = self.write("a.jsonl", "".join(
            json.dumps({"text": text}) + "\n" for text in texts))
        path = self.tokenizer(piece_model(), "sp.model")
        for workers in (1, 3):
            file = self.written(path, "--overwrite", "--workers", workers,
                                lines)
            self.assertEqual(file.documents, [
                [*model.encode(text), model.eos_id()] for text in texts])
            self.assertEqual([model.decode(document[:-1])
                              for document in file.documents], texts)
        self.assertEqual(file.metadata["tokenizer"], "sp.model")
        self.assertEqual(file.metadata["end_token"], str(model.eos_id()))
        self.assertEqual(file.metadata["vocab_size"],
                         str(model.get_piece_size()))
        self.assertEqual(file.type, "U16")

    def test_end_and_begin_token(self):
        path, text = (self.tokenizer(piece_model(), "any.name"),
                      self.write("a.txt", "a"))
        tokens = self.written(path, "--bos", "<s>", "--end-token", "<unk>",
                              text).tokens
        self.assertEqual((tokens[0], tokens[-1]), (1, 0))
        self.refused(["--end-token", "'<t>'"], path, "--end-token", "<t>", text)
        without = self.tokenizer(piece_model(eos_id=-1), "without")
        self.refused(["no end token", "--end-token"], without, text)
        self.assertEqual(
            self.written(without, "--overwrite", "--end-token", "<s>",
                         text).tokens[-1], 1)

    def test_models_that_are_refused(self):
        text = self.write("a.txt", "a")
        self.refused(["no tokenizer"], self.tokenizer(piece_model()[:-3]), text)
        self.refused(["--parse-special"], self.tokenizer(piece_model()),
                     "--parse-special", text)

    def test_library_that_is_not_installed(self):
        self.assert_fault(
            self.without("sentencepiece", "tokenize", "--tokenizer",
                         self.tokenizer(piece_model()), "--out", self.out,
                         self.write("a.txt", "a")),
            "pip install sentencepiece")


class Program(python_command.CommandTest):
    def test_help(self):
        done = python("-m", "ringweave", "tokenize", "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for word in ("--tokenizer", "--text-field", "--end-token", ".ndjson"):
            self.assertIn(word, done.stdout)

    def test_usage(self):
        for arguments, words in (
                ([], ["--tokenizer", "--help"]),
                (["--workers", "0"], ["--workers", "'0'", "at least 1"]),
                (["--token", "x"], ["--tokenizer"])):
            self.assert_fault(run("tokenize", *arguments), *words)

    def test_loads_neither_torch_nor_the_operations(self):
        done = python("-c", "import sys; sys.argv = ['ringweave', 'tokenize']\n"
                      "from ringweave.__main__ import main\n"
                      "assert main() == 2\n"
                      "print('torch' in sys.modules)")
        self.assertEqual(done.stdout, "False\n", done.stderr)


if __name__ == "__main__":
    unittest.main()
