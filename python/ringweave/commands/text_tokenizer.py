"""Tokenizers from their files: tokenizer.json and SentencePiece models.

    tokenizer = load(path, workers=2)
    tokenizer.encode(["a text", "another"])  # [[17, 4], [8, 15, 4]]
    tokenizer.decode([17, 4])                # "a text"

encode() adds no special tokens. What a document spells is text, even where it
spells a special token, unless `parse_special`.
"""

import hashlib
import json
import os

from ringweave.commands.common import Fault, library, readable, reading

WANTED = "want a Hugging Face tokenizer.json or a SentencePiece model"

# Names of end tokens, the more common ones first.
END_TOKENS = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>",
              "<|im_end|>", "<|eot_id|>", "[SEP]")


def load(path, *, workers, parse_special=False):
    """The tokenizer of a file, of either kind; its content tells which."""
    with reading(path), open(path, "rb") as stream:
        data = stream.read()
    if not data:
        raise Fault(f"{path} is empty; {WANTED}")
    if _is_json(data):
        tokenizer = HuggingFace(path, data, workers, parse_special)
    elif data[:1] == b"\n":  # the first field of a model, as protobuf has it
        if parse_special:
            raise Fault(f"got --parse-special with {path}, a SentencePiece "
                        "model; it is for tokenizer.json")
        tokenizer = SentencePiece(path, data, workers)
    else:
        raise Fault(f"{path} is no tokenizer; {WANTED}")
    tokenizer.name = readable(os.path.basename(path))
    tokenizer.sha256 = hashlib.sha256(data).hexdigest()
    return tokenizer


def _is_json(data):
    try:
        json.loads(data)
        return True
    except (ValueError, RecursionError):
        return False


class HuggingFace:
    """A tokenizer.json by the library tokenizers."""

    def __init__(self, path, data, workers, parse_special):
        # The library's threads start in its first call and read these then.
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        os.environ["RAYON_NUM_THREADS"] = str(workers)
        tokenizers = library("tokenizers")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(data.decode())
        except Exception as error:  # the library has no other class
            raise Fault(f"{path} is JSON, but no tokenizer ({error}); "
                        f"{WANTED}") from None
        # A file may hold settings for batches of a model: no token may be
        # cut off or added.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = not parse_special
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise Fault(f"{path} is a tokenizer without tokens")
        # Not the number of tokens: some files leave ids out.
        self.vocab_size = max(vocabulary.values()) + 1
        self._specials = [
            token.content for _, token in
            sorted(self._tokenizer.get_added_tokens_decoder().items())
            if token.special]

    def encode(self, texts):
        encodings = self._tokenizer.encode_batch_fast(
            texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def prompt(self, text):
        """The ids of a text that begins, with the tokens that go before it."""
        plain = self.encode([text])[0]
        whole = self._tokenizer.encode(text).ids
        # Some add tokens behind a text, too, which would end it.
        begins = whole[:len(whole) - len(plain)]
        return whole if whole == begins + plain else plain

    def decode(self, ids):
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def token_id(self, token):
        """The id of `token`, or None."""
        return self._tokenizer.token_to_id(token)

    def end_token(self):
        """The id of the usual end token.

        A special token comes first: some vocabularies have </s> as a tag of
        HTML, beside their end token.
        """
        for name in END_TOKENS:
            if name in self._specials:
                return self.token_id(name)
        for name in END_TOKENS:
            if self.token_id(name) is not None:
                return self.token_id(name)
        some = ", ".join(self._specials[:16])
        raise Fault(
            f"the tokenizer has none of {' '.join(END_TOKENS)} to end "
            "documents with; pass --end-token with " +
            (f"one of its special tokens: {some}" if some else
             "a token of its vocabulary (it has no special tokens)"))


class SentencePiece:
    """A SentencePiece model by the library sentencepiece."""

    def __init__(self, path, data, workers):
        sentencepiece = library("sentencepiece")
        try:
            self._model = sentencepiece.SentencePieceProcessor(
                model_proto=data)
        except Exception as error:  # RuntimeError, in the versions known
            raise Fault(f"{path} is no tokenizer ({error}); {WANTED}") from None
        self._workers = workers
        self.vocab_size = self._model.get_piece_size()

    def encode(self, texts):
        return self._model.encode(
            texts, out_type=int, add_bos=False, add_eos=False,
            num_threads=self._workers)

    def prompt(self, text):
        begin = self._model.bos_id()
        return [begin] * (begin >= 0) + self.encode([text])[0]

    def decode(self, ids):
        return self._model.decode(ids)

    def token_id(self, token):
        """The id of the piece `token`, or None."""
        number = self._model.piece_to_id(token)  # the unknown piece's if none
        return number if self._model.id_to_piece(number) == token else None

    def end_token(self):
        number = self._model.eos_id()
        if number < 0:
            raise Fault("the SentencePiece model has no end token (eos_id "
                        f"{number}); pass --end-token with one of its pieces")
        return number
