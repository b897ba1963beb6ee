"""The commands that are written in Python: no ranks, no torch, no op library.

Files here are not named after the libraries that they use: a file that is run
as a script finds its neighbours first.
"""

import importlib
import signal
import sys

from ringweave.commands.common import Fault

# Command -> its module here, whose main(arguments) runs it.
MODULES = {
    "tokenize": "make_tokens",
    "plot": "make_picture",
    "tensorboard": "write_events",
}


def run(command, *arguments):
    """Runs a command of MODULES; returns the exit code.

    0: done; 2: the caller's fault; 1: a failure, such as a full disk; 130 and
    143: ended by SIGINT or SIGTERM. Each but 0 leaves one line on stderr.
    """
    module = importlib.import_module(f"{__name__}.{MODULES[command]}")

    def terminate(*_):
        raise SystemExit(143)  # so that what is half-written is removed

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        module.main(list(arguments))
        return 0
    except Fault as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
