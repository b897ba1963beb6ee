"""What the commands share: faults, arguments, libraries, files."""

import argparse
import contextlib
import importlib
import json
import os
import stat

MOST_BYTES = 64 << 20


class Fault(Exception):
    """One line for the user; `code` is the program's exit code."""

    def __init__(self, text, code=2):
        super().__init__(one_line(text))
        self.code = code


def one_line(text):
    """`text` without line breaks: what a library says may have several."""
    return " ".join(str(text).split())


def readable(path):
    """`path` as text that any library takes, even if its bytes are no UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


class Parser(argparse.ArgumentParser):
    """Wrong arguments are a Fault, not the whole usage."""

    def __init__(self, command, description, **options):
        super().__init__(
            prog=f"python -m ringweave {command}", description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False, **options)

    def error(self, message):
        raise Fault(f"{message}; {self.prog} --help says more")


def positive(text):
    """For argparse: a whole number of at least 1."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(
            f"got {text!r}; want a whole number of at least 1")
    return number


def library(name, package=None):
    """The module `name`; a Fault that names its package if it can't load."""
    package = package or name.split(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise Fault(f"{package} is not installed ({error}): "
                    f"pip install {package}") from None
    except ImportError as error:
        raise Fault(f"{package} does not load ({error})") from None


def reason(error):
    """What an OSError says, without the path that it repeats."""
    return error.strerror or str(error)


@contextlib.contextmanager
def reading(path):
    """An OSError while `path` is read becomes a Fault."""
    try:
        yield
    except OSError as error:
        raise Fault(f"can't read {path}: {reason(error)}") from None


def lines_in(path, wanted):
    """Yields the lines of a file, which is read once: it may be a pipe.

    No line is longer than MOST_BYTES, nor is all that does not come from a
    regular file, since a device or a pipe may have no end.
    """
    if not os.path.lexists(path):
        raise Fault(f"no such file: {path}; want {wanted}")
    with reading(path), open(path, "rb") as stream:
        regular = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
        left = MOST_BYTES
        while line := stream.readline(left + 1):
            if len(line) > left:
                raise too_long(path, wanted)
            yield line
            if not regular:
                left -= len(line)


def json_in(data):
    """What the bytes of a text say as JSON; None if they are none."""
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


def too_long(path, wanted):
    return Fault(f"{path}: got more than {MOST_BYTES >> 20} MiB; want {wanted}")


@contextlib.contextmanager
def writing(path):
    """An OSError while `path` is written becomes a Fault of code 1."""
    try:
        yield
    except OSError as error:
        raise Fault(f"can't write {path}: {reason(error)}", code=1) from None


def check_output(path):
    """A Fault, before any work, unless a file can be made at `path`."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise Fault(f"got {path} to write to, a folder; want a file")
    if not os.path.isdir(folder):
        raise Fault(f"got {path} to write to; there is no folder {folder}")


def check_apart(path, inputs):
    """A Fault if the output would take the place of a file that it is from."""
    for file in inputs:
        with contextlib.suppress(OSError):  # most often: no output yet
            if os.path.samefile(path, file):
                raise Fault(f"got {path} to write to, which is also an input; "
                            "want another --out")


@contextlib.contextmanager
def replaced(path):
    """The name of a file beside `path`, which takes its place at the end.

    After an error, or an interrupt, the file is gone and `path` is as it was.
    """
    aside = f"{path}.{os.getpid()}.partial"
    try:
        yield aside
        os.replace(aside, path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(aside)
