"""Runs one file of unittests and writes the counts as GoogleTest does.

    run_unittest.py FILE COUNTS.json
"""

import importlib.util
import json
import pathlib
import sys
import unittest


def main():
    file, counts = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    failed = (len(result.failures) + len(result.errors) +
              len(result.unexpectedSuccesses))
    counts.parent.mkdir(parents=True, exist_ok=True)
    counts.write_text(json.dumps({
        "tests": result.testsRun,
        "failures": failed,
        "skipped": len(result.skipped),
    }))
    return 1 if failed or not result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main())
