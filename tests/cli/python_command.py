"""Runs the commands that are written in Python, in this process or in one of
their own."""

import collections
import contextlib
import importlib.util
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

from ringweave import commands  # noqa: E402

SECONDS = 120
ENVIRONMENT = dict(os.environ, PYTHONPATH=str(ROOT / "python"))

Done = collections.namedtuple("Done", "code out err")


def run(*arguments):
    """Runs a command in this process, which saves the start of Python."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = commands.run(*map(str, arguments))
    return Done(code, out.getvalue(), err.getvalue())


def python(*arguments):
    """Runs `python arguments…`."""
    return subprocess.run([sys.executable, *map(str, arguments)], text=True,
                          capture_output=True, timeout=SECONDS,
                          env=ENVIRONMENT)


def needs(*libraries):
    """Skips a class without `libraries`, but not in the project's own .venv,
    in which tools/setup installs them."""
    absent = [name for name in libraries
              if importlib.util.find_spec(name) is None]
    own = pathlib.Path(sys.prefix).resolve() == (ROOT / ".venv").resolve()
    if absent and own:
        raise ModuleNotFoundError(f"{sys.prefix} lacks {', '.join(absent)}; "
                                  "tools/setup installs them")
    return unittest.skipIf(absent, f"not installed: {', '.join(absent)}")


class CommandTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name, content):
        """A file of str or bytes below the test's folder; returns its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str)
                         else content)
        return path

    def assert_fault(self, done, *words, code=2):
        """One line of error that names `words`, nothing on stdout."""
        self.assertEqual(done.code, code, done.err)
        self.assertEqual(done.out, "")
        self.assertEqual(done.err.count("\n"), 1, done.err)
        self.assertTrue(done.err.startswith("error: "), done.err)
        for word in words:
            self.assertIn(str(word), done.err)

    def assert_done(self, done):
        self.assertEqual((done.code, done.err), (0, ""))
        return done.out

    def without(self, library, *arguments):
        """What a command does where `library` is not installed."""
        done = python("-c", f"import sys; sys.modules[{library!r}] = None\n"
                      "from ringweave import commands\n"
                      f"sys.exit(commands.run(*{list(map(str, arguments))!r}))")
        return Done(done.returncode, done.stdout, done.stderr)
