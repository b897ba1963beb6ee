"""python -m ringweave tokenize: a token file from texts."""

import contextlib
import os
import sys
import time

from ringweave.commands import documents, text_tokenizer
from ringweave.commands.common import Fault, Parser, check_apart, positive
from ringweave.commands.token_file import TokenFile

# What is encoded at once: enough for all threads, little beside a tokenizer.
BATCH_BYTES = 1 << 20
BATCH_DOCUMENTS = 1024

DESCRIPTION = """\
Makes a token file, which training reads in place of texts.

  python -m ringweave tokenize --tokenizer tokenizer.json \\
    --out corpus.safetensors texts/ more.jsonl 'old/*.txt'

INPUT is a text file (one document), a file of JSON lines (.jsonl or .ndjson,
one document per line), a folder (all files in it and below that are not hidden,
by relative path) or a pattern (the paths that it matches, sorted; quote it).
Texts are UTF-8. Each document ends with the end token."""


def arguments_from(words):
    parser = Parser("tokenize", DESCRIPTION)
    parser.add_argument("inputs", nargs="+", metavar="INPUT")
    parser.add_argument("--tokenizer", required=True, metavar="FILE",
                        help="a Hugging Face tokenizer.json or a SentencePiece "
                        "model; its content tells which")
    parser.add_argument("--out", required=True, metavar="FILE.safetensors",
                        help="the token file to make")
    parser.add_argument("--overwrite", action="store_true",
                        help="replace --out if it exists")
    parser.add_argument("--text-field", default="text", metavar="NAME",
                        help="the field of JSON lines that holds the text "
                        "(text)")
    parser.add_argument("--end-token", metavar="TEXT",
                        help="the token that ends a document (SentencePiece: "
                        "eos_id; tokenizer.json: the first that it has of "
                        f"{' '.join(text_tokenizer.END_TOKENS)})")
    parser.add_argument("--bos", metavar="TEXT",
                        help="a token to begin each document with (none)")
    parser.add_argument("--parse-special", action="store_true",
                        help="tokenizer.json only: take a special token that a "
                        "document spells as that token, not as text")
    parser.add_argument("--workers", type=positive, metavar="N",
                        default=len(os.sched_getaffinity(0)),
                        help="threads (the cores); the tokens are the same")
    return parser.parse_args(words)


def main(words):
    arguments = arguments_from(words)
    if not arguments.out.endswith(".safetensors"):
        raise Fault(f"got --out {arguments.out}; want a name that ends with "
                    ".safetensors")
    started = time.monotonic()
    tokenizer = text_tokenizer.load(
        arguments.tokenizer, workers=arguments.workers,
        parse_special=arguments.parse_special)
    end = _token(tokenizer, "--end-token", arguments.end_token)
    if end is None:
        end = tokenizer.end_token()
    bos = _token(tokenizer, "--bos", arguments.bos)
    files = documents.files_of(arguments.inputs)
    check_apart(arguments.out, [arguments.tokenizer, *files])

    file = TokenFile(
        arguments.out, vocab_size=tokenizer.vocab_size,
        overwrite=arguments.overwrite,
        metadata={"end_token": str(end), "tokenizer": tokenizer.name,
                  "tokenizer_sha256": tokenizer.sha256})
    begin = [] if bos is None else [bos]
    text_bytes = 0
    with file, _progress(documents.size_of(files)) as advance:
        texts = documents.documents_of(files, arguments.text_field)
        for batch in _batches(texts):
            for tokens in _encode(tokenizer, batch):
                file.add([*begin, *tokens, end])
            text_bytes += sum(document.size for document in batch)
            advance(sum(document.read for document in batch))
    print(f"{file.documents} documents, {file.tokens} tokens, "
          f"{text_bytes / file.tokens:.2f} bytes per token, "
          f"{time.monotonic() - started:.1f} s")


def _token(tokenizer, option, text):
    """The id of the token that an option names, or None without the option."""
    if text is None:
        return None
    found = tokenizer.token_id(text)
    if found is None:
        raise Fault(f"got {option} {text!r}, which the tokenizer does not have")
    return found


def _batches(texts):
    """Lists of documents, of BATCH_BYTES or a little more."""
    batch, size = [], 0
    for document in texts:
        batch.append(document)
        size += document.size
        if size >= BATCH_BYTES or len(batch) == BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encode(tokenizer, batch):
    """The tokens of each document; a Fault that names the one that fails."""
    try:
        return tokenizer.encode([document.text for document in batch])
    except Exception as error:  # whatever the library has
        for document in batch:
            try:
                tokenizer.encode([document.text])
            except Exception as own:
                raise Fault(f"{document.where}: the tokenizer can't encode "
                            f"this document: {own}") from None
        raise Fault(f"the tokenizer failed: {error}", code=1) from None


@contextlib.contextmanager
def _progress(total):
    """A function that takes how many bytes more were read.

    It draws a bar if stderr is a terminal and tqdm is there, which comes with
    the library tokenizers.
    """
    tqdm = None
    if sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            from tqdm import tqdm
    if tqdm is None:
        yield lambda _: None
        return
    with tqdm(total=total, unit="B", unit_scale=True, leave=False) as bar:
        yield bar.update
