"""`generate` with a tokenizer: texts in, texts out.

The program itself takes bytes or ids. Here prompts become ids before it runs,
and the ids that it prints become text as they come.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import threading

from ringweave import _launcher
from ringweave.commands import text_tokenizer
from ringweave.commands.common import Fault, Parser, json_in, lines_in, reading

# The files that a folder of weights may have beside them.
FILES = ("tokenizer.json", "tokenizer.model")

DESCRIPTION = """
With a tokenizer (python -m ringweave generate): prompts, stops and replies are
texts of the model's tokenizer. Without one they are bytes or ids.
"""


def main(arguments):
    """Runs `generate` with `arguments`; returns the exit code."""
    try:
        options, rest = _options(arguments)
        if options.help:
            code = _launcher.main(["generate", "--help"])
            print(_parser().format_help())
            return code
        path = options.tokenizer or _tokenizer_of(options.checkpoint)
        if path is None:
            return _launcher.main(["generate", *arguments])
        tokenizer = text_tokenizer.load(
            path, workers=1, parse_special=options.parse_special)
        with contextlib.ExitStack() as stack:
            ids = _with_ids(options, tokenizer, stack)
            return _run([*_words(options, rest), *ids], options, tokenizer)
    except Fault as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.code


def _parser():
    parser = Parser("generate", DESCRIPTION, add_help=False,
                    usage=argparse.SUPPRESS)
    parser.add_argument("--tokenizer", metavar="FILE",
                        help="a Hugging Face tokenizer.json or a SentencePiece "
                        "model (the one in the folder of --checkpoint)")
    parser.add_argument("--parse-special", action="store_true",
                        help="take a special token that a prompt spells as "
                        "that token: for the templates of chats")
    parser.add_argument("--no-begin", action="store_true",
                        help="without the special tokens that the tokenizer "
                        "puts before a text")
    for name in ("checkpoint", "batch", "load-cache"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    for name in ("prompt", "prompt-file", "prompt-ids", "stop"):
        parser.add_argument(f"--{name}", action="append", default=[],
                            help=argparse.SUPPRESS)
    for name in ("json", "json-lines"):
        parser.add_argument(f"--{name}", action="store_true",
                            help=argparse.SUPPRESS)
    parser.add_argument("-h", "--help", action="store_true",
                        help=argparse.SUPPRESS)
    return parser


def _options(arguments):
    """Those that matter here, and the other words."""
    return _parser().parse_known_args(arguments)


def _words(options, rest):
    """What the program gets beside ids."""
    words = ["generate", *rest, "--json-lines"]
    if options.checkpoint is not None:
        words += ["--checkpoint", options.checkpoint]
    if options.load_cache is not None:
        words += ["--load-cache", options.load_cache]
    return words


def _tokenizer_of(folder):
    for name in FILES:
        path = os.path.join(folder or "", name)
        if folder and os.path.isfile(path):
            return path
    return None


def _with_ids(options, tokenizer, stack):
    """The options of prompts and stops, as ids."""
    fresh = options.load_cache is None and not options.no_begin

    def ids(text, begins, what):
        numbers = (tokenizer.prompt(text) if begins
                   else tokenizer.encode([text])[0])
        if not numbers:
            raise Fault(f"got {what} without tokens; want at least one")
        return numbers

    if options.json and options.json_lines:
        raise Fault("got --json and --json-lines; want one of them")
    words = []
    texts = [*options.prompt]
    for path in options.prompt_file:
        with reading(path), open(path, encoding="utf-8") as stream:
            try:
                texts.append(stream.read())
            except UnicodeDecodeError as error:
                raise Fault(f"{path} is no UTF-8 ({error.reason}); want a "
                            "text") from None
    for number, text in enumerate(texts):
        words += ["--prompt-ids",
                  _joined(ids(text, fresh and number == 0, "a prompt"))]
    for given in options.prompt_ids:
        words += ["--prompt-ids", given]
    for text in options.stop:
        words += ["--stop-ids", _joined(ids(text, False, "--stop"))]
    kinds = sum(map(bool, (options.prompt, options.prompt_file,
                           options.prompt_ids, options.batch)))
    if kinds > 1:
        raise Fault("got several of --prompt, --prompt-file, --prompt-ids and "
                    "--batch; want one of them")
    if options.batch is not None:
        file = stack.enter_context(tempfile.NamedTemporaryFile(
            "w", suffix=".jsonl", encoding="utf-8"))
        for line in _batch(options.batch, ids, fresh):
            file.write(json.dumps(line) + "\n")
        file.flush()
        words += ["--batch", file.name]
    return words


def _batch(path, ids, fresh):
    """The lines of a batch, with ids in place of texts."""
    for number, line in enumerate(lines_in(path, "a file of JSON lines"), 1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        value = json_in(line)
        if not isinstance(value, dict) or len(value) != 1:
            raise Fault(f'{where}: got {line.decode(errors="replace").strip()};'
                        ' want an object with "text" or "ids"')
        if "text" not in value:
            yield value
            continue
        texts = value["text"]
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(
                isinstance(text, str) for text in texts):
            raise Fault(f"{where}: got {texts!r}; want a string, or a list of "
                        "strings")
        yield {"ids": [ids(text, fresh and place == 0, f"a text in {where}")
                       for place, text in enumerate(texts)]}


def _joined(ids):
    return ",".join(map(str, ids))


def _run(words, options, tokenizer):
    """The program, with its standard output through a pipe and a thread.

    Its output is that of the process: C++ writes it while torch's operators let
    other threads of Python run.
    """
    sys.stdout.flush()
    read, write = os.pipe()
    out = os.dup(1)
    os.dup2(write, 1)
    os.close(write)
    failure = []

    def follow():
        with open(read, encoding="utf-8") as stream, \
                open(out, "w", encoding="utf-8", closefd=False) as screen:
            try:
                _write(stream, screen, options, tokenizer)
            except OSError as error:  # nobody reads what is printed
                failure.append(error)
                for _ in stream:  # the program must not wait
                    pass

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        code = _launcher.main(words)
    finally:
        os.dup2(out, 1)  # ends the pipe
        thread.join()
        os.close(out)
    if failure and code == 0:
        raise Fault(f"could not write to standard output: "
                    f"{failure[0].strerror}", code=1)
    return code


class Words:
    """Ids of a reply, as text that comes bit by bit: some characters are of
    several tokens, and how a token reads depends on the one before it."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self._ids = []
        self._begin = 0  # of the ids that are decoded together
        self._told = 0  # ids whose text is out

    def add(self, token):
        """The text that is sure now."""
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids[self._begin:])
        if text.endswith("\ufffd"):  # perhaps half a character
            return ""
        return self._new(text)

    def rest(self):
        return self._new(self._tokenizer.decode(self._ids[self._begin:]))

    def _new(self, text):
        before = self._tokenizer.decode(self._ids[self._begin:self._told])
        self._begin, self._told = self._told, len(self._ids)
        return text[len(before):]


class _JsonLines:
    """Each token as it comes, with the text that it makes sure."""

    def __init__(self, tell, tokenizer):
        self._tell, self._tokenizer = tell, tokenizer
        self._words = {}  # by sequence and prompt

    def token(self, value):
        place = value["sequence"], value["prompt"]
        words = self._words.setdefault(place, Words(self._tokenizer))
        self._tell(json.dumps(value | {"text": words.add(value["token"])}) +
                   "\n")

    def end(self, value):
        self._tell(json.dumps(value) + "\n")


class _Json(_JsonLines):
    def token(self, value):
        pass


class _Text:
    """Replies of one sequence as they come, a line break behind each."""

    def __init__(self, tell, tokenizer):
        self._tell, self._tokenizer = tell, tokenizer
        self._prompt = 0
        self._words = Words(tokenizer)

    def token(self, value):
        if value["prompt"] != self._prompt:
            self._tell(self._words.rest() + "\n")
            self._prompt = value["prompt"]
            self._words = Words(self._tokenizer)
        self._tell(self._words.add(value["token"]))

    def end(self, value):
        self._tell(self._words.rest() + "\n")
        print(_summary(value), file=sys.stderr)


class _Batch(_Text):
    """Replies of several sequences, when all are there."""

    def token(self, value):
        pass

    def end(self, value):
        for number, sequence in enumerate(value["sequences"]):
            for reply in sequence["replies"]:
                self._tell(f"[{number}] {reply['text']}\n")
        print(_summary(value), file=sys.stderr)


def _writer(options):
    if options.json:
        return _Json
    if options.json_lines:
        return _JsonLines
    return _Text if options.batch is None else _Batch


def _write(stream, screen, options, tokenizer):
    """Turns the program's lines into what was asked for."""
    shown = _shown(screen)

    def tell(text):
        screen.write(shown(text))
        screen.flush()

    writer = _writer(options)(tell, tokenizer)
    for line in stream:
        value = json.loads(line)
        if "token" in value:
            writer.token(value)
            continue
        for sequence in value["sequences"]:
            for reply in sequence["replies"]:
                reply["text"] = tokenizer.decode(reply["tokens"])
        writer.end(value)


def _summary(value):
    ranks = value["ranks"]
    return (f"{value['prompt_tokens']} tokens read in "
            f"{sum(value['prefill_seconds']):.3g} s on {ranks} "
            f"rank{'' if ranks == 1 else 's'}; "
            f"{1000 * value['seconds_per_step']:.4g} ms per token of each reply")


def _shown(screen):
    """A terminal would obey what a model makes up."""
    if not screen.isatty():
        return lambda text: text
    return lambda text: "".join(
        c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}"
        for c in text)
