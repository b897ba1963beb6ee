"""Runs one file of unittests and writes the counts as GoogleTest does, and the
seconds of each test.

    run_unittest.py FILE COUNTS.json
"""

import importlib.util
import json
import pathlib
import sys
import time
import unittest


class TimedResult(unittest.TextTestResult):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.seconds = {}

    def startTest(self, test):
        self._started = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        super().stopTest(test)
        self.seconds[test.id()] = round(time.monotonic() - self._started, 3)


def main():
    file, counts = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    result = unittest.TextTestRunner(verbosity=2, resultclass=TimedResult).run(suite)
    failed = (len(result.failures) + len(result.errors) +
              len(result.unexpectedSuccesses))
    counts.parent.mkdir(parents=True, exist_ok=True)
    counts.write_text(json.dumps({
        "tests": result.testsRun,
        "failures": failed,
        "skipped": len(result.skipped),
        "seconds": result.seconds,
    }))
    return 1 if failed or not result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main())
