"""Writes a token file (docs/token-file.md) while its tokens come.

    with TokenFile(path, vocab_size=32000, metadata={…}) as file:
        file.add([17, 4])  # one document

The end of the `with` puts the file in its place. An exception leaves nothing,
and an older file as it was. What is held in memory is 8 bytes per document.
"""

import array
import contextlib
import fcntl
import json
import os
import sys

from ringweave.commands.common import Fault, check_output, writing

LARGEST = 2**63 - 1  # no size can be larger
U16_TOKENS = 65536


class TokenFile:
    """A token file that is being written, aside as FILE.partial."""

    def __init__(self, path, *, vocab_size, metadata, overwrite=False):
        """`metadata`: str -> str, beside format, version and vocab_size."""
        self.path, self._overwrite = path, overwrite
        self._aside = path + ".partial"
        self._metadata = {"format": "ringweave.tokens", "version": "1",
                          "vocab_size": str(vocab_size), **metadata}
        self._type = ("U16", "H", 2) if vocab_size <= U16_TOKENS else (
            "U32", "I", 4)
        self.tokens = 0
        self._offsets = array.array("q", [0])
        self._check_free()
        self._space = len(self._header(LARGEST, LARGEST))
        self._space += -self._space % 8  # tokens begin at a multiple of 8

    @property
    def documents(self):
        return len(self._offsets) - 1

    def __enter__(self):
        with writing(self.path):
            self._open()
            try:
                self._stream.write(bytes(8 + self._space))  # the header's place
            except BaseException:
                self._discard()
                raise
        return self

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                with writing(self.path):
                    self._finish()
        finally:
            self._discard()

    def add(self, tokens):
        """Adds one document: ids below vocab_size, at least one."""
        values = array.array(self._type[1], tokens)
        if not values:
            raise ValueError("a document without tokens")
        self.tokens += len(values)
        self._offsets.append(self.tokens)
        with writing(self.path):
            self._write(values)

    def _check_free(self):
        check_output(self.path)
        if os.path.lexists(self.path) and not self._overwrite:
            raise Fault(f"{self.path} exists; --overwrite replaces it")

    def _open(self):
        """Opens the file aside; what a killed process left there goes."""
        # Neither "wb", which would empty a file that another process writes,
        # nor "ab", which writes at the end only.
        descriptor = os.open(self._aside, os.O_RDWR | os.O_CREAT, 0o666)
        self._stream = open(descriptor, "r+b")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been renamed before it was locked.
            mine = os.path.samestat(os.fstat(self._stream.fileno()),
                                    os.stat(self._aside))
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:
            self._stream.close()
            raise Fault(f"another process writes {self._aside}")
        self._stream.truncate(0)

    def _write(self, values):
        if sys.byteorder == "big":
            values.byteswap()  # of our own copy, or of what ends here
        values.tofile(self._stream)

    def _header(self, tokens, documents):
        width = self._type[2]
        begin, end = tokens * width, tokens * width + (documents + 1) * 8
        return json.dumps({
            "__metadata__": self._metadata,
            "tokens": {"dtype": self._type[0], "shape": [tokens],
                       "data_offsets": [0, begin]},
            "document_offsets": {"dtype": "I64", "shape": [documents + 1],
                                 "data_offsets": [begin, end]},
        }, separators=(",", ":")).encode()

    def _finish(self):
        header = self._header(self.tokens, self.documents)
        self._write(self._offsets)
        self._stream.seek(0)
        self._stream.write(self._space.to_bytes(8, "little"))
        self._stream.write(header.ljust(self._space))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._check_free()
        os.replace(self._aside, self.path)
        folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY)
        try:
            os.fsync(folder)  # so that the new name survives, too
        finally:
            os.close(folder)

    def _discard(self):
        """Closes the file, and removes it if it is still aside."""
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._stream.fileno()),
                                os.stat(self._aside)):
                os.unlink(self._aside)
        with contextlib.suppress(OSError):
            self._stream.close()  # on a full disk it fails once more
