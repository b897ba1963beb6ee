"""From the inputs of a command line to documents: texts, one after the other.

A folder stands for the files in it, a pattern for the paths that it matches. A
file of JSON lines holds a document per line, any other file is one document.
docs/token-file.md has the rules; the C++ reader of data keeps to the same.
"""

import collections
import glob
import json
import os
import stat

from ringweave.commands.common import Fault, reading

JSON_LINES = (".jsonl", ".ndjson")

# text: a string of Unicode scalar values; size: bytes of it in UTF-8; read:
# bytes of the file that it took; where: file, and line if the file has several.
Document = collections.namedtuple("Document", "text size read where")


def files_of(inputs):
    """The files that `inputs` name, in order; a Fault if one names none.

    The files of a folder or a pattern come in the order of their paths' bytes.
    """
    files = []
    for each in inputs:
        found = []
        for path in _matches(each):
            _collect(path, found)
        if not found:
            raise Fault(f"got {each}, in which no file lies; hidden ones don't "
                        "count")
        files += sorted(found, key=os.fsencode)
    return files


def _matches(pattern):
    """Paths that an input stands for: itself, or what its pattern matches."""
    if os.path.lexists(pattern):
        return [pattern]
    if not glob.has_magic(pattern):
        raise Fault(f"no file, folder or pattern: {pattern}")
    if "**" in pattern:
        raise Fault(f"got ** in {pattern}; want a folder, of which all files "
                    "are taken, or one * per level")
    found = glob.glob(pattern.replace("[^", "[!"))  # glob(7) has both
    if not found:
        raise Fault(f"{pattern} matches no file")
    return found


def _collect(path, found):
    """Adds `path` to `found`, or all files that lie in it."""
    if not os.path.isdir(path):
        found.append(path)
        return
    with reading(path):
        entries = list(os.scandir(path))
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            _collect(entry.path, found)
        elif entry.is_file():
            found.append(entry.path)
        elif entry.is_dir():  # it may lead back here
            raise Fault(f"{entry.path} is a link to a folder; want the folder "
                        "itself, or the link as an input of its own")
        else:  # to open a pipe would wait; a broken link has nothing
            raise Fault(f"{entry.path} is neither a file nor a folder")


def size_of(files):
    """Bytes of all files; None if one is none that has a size, as a pipe."""
    total = 0
    for file in files:
        with reading(file):
            status = os.stat(file)
        if not stat.S_ISREG(status.st_mode):
            return None
        total += status.st_size
    return total


def documents_of(files, text_field="text"):
    """Yields the documents of `files`. One is in memory at a time."""
    for file in files:
        if file.lower().endswith(".safetensors"):
            raise Fault(f"got {file}, tokens or weights; want text")
        if file.lower().endswith(JSON_LINES):
            yield from _json_lines(file, text_field)
        else:
            yield _whole(file)


def _whole(file):
    with reading(file), open(file, "rb") as stream:
        data = stream.read()
    if not data:
        raise Fault(f"{file} is empty")
    return Document(_decoded(data, file), len(data), len(data), file)


def _json_lines(file, text_field):
    documents = 0
    with reading(file), open(file, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip(b" \t\r\n"):
                documents += 1
                where = f"{file}:{number}"
                text, size = _field(line, text_field, where)
                yield Document(text, size, len(line), where)
    if not documents:
        raise Fault(f"{file} is empty")


def _decoded(data, file, line=None):
    """`data` as text; a Fault with line, and byte of the file or the line."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        place = "" if line is None else " of the line"
        line = line or data.count(b"\n", 0, at) + 1
        raise Fault(f"{file}:{line}: got byte 0x{data[at]:02x} at offset {at}"
                    f"{place}, which is not UTF-8") from None


def _field(line, name, where):
    """The text in the field `name` of a JSON line, and its bytes in UTF-8."""
    file, _, number = where.rpartition(":")
    text = _decoded(line, file, int(number))
    try:
        value = json.loads(text)
    except RecursionError:
        raise Fault(f"{where}: got JSON that is nested too deep") from None
    except ValueError as error:
        raise Fault(f"{where}: got no JSON ({error}); want an object with a "
                    f'field "{name}"') from None
    if not isinstance(value, dict):
        raise Fault(f"{where}: got {_kind(value)}; want an object with a field "
                    f'"{name}"')
    if name not in value:
        had = ", ".join(map(json.dumps, list(value)[:8])) or "no fields"
        raise Fault(f'{where}: got an object without the field "{name}"; it '
                    f"has {had} (--text-field names another)")
    if not isinstance(value[name], str):
        raise Fault(f'{where}: got {_kind(value[name])} in the field "{name}"; '
                    "want a string")
    try:
        return value[name], len(value[name].encode("utf-8"))
    except UnicodeEncodeError as error:
        code = ord(value[name][error.start])
        raise Fault(f'{where}: got \\u{code:04x} alone in the field "{name}", '
                    "half of a surrogate pair") from None


def _kind(value):
    """The JSON kind of `value`, with an article."""
    if value is None:
        return "null"
    return {dict: "an object", list: "an array", str: "a string",
            bool: "a boolean"}.get(type(value), "a number")
