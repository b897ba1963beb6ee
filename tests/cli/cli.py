"""Runs the built program for the tests of the command line."""

import json
import os
import pathlib
import subprocess
import sys
import unittest

sys.path.append(str(pathlib.Path(__file__).parents[1]))  # tests/

BINARY = os.environ["RINGWEAVE_BINARY"]
SECONDS = 120


def run(*arguments, **options):
    """The finished process of `ringweave arguments…`, output as text."""
    return subprocess.run([BINARY, *map(str, arguments)], text=True,
                          capture_output=True, timeout=SECONDS, **options)


def built_with_torch():
    versions = json.loads(run("--version", "--json").stdout)
    return versions["torch"] != "not built in"


class CliTest(unittest.TestCase):
    def assert_fault(self, done, *words, code=2):
        """One line of error that names `words`, nothing on stdout."""
        lines = [line for line in done.stderr.splitlines() if line]
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertTrue(lines[0].startswith("ringweave: "), lines[0])
        for word in words:
            self.assertIn(word, lines[0])
        self.assertEqual(done.stdout, "")

    def results(self, *arguments, **options):
        """The JSON that a command printed."""
        done = run(*arguments, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)
