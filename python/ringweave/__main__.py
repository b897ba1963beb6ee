"""The command line, as one rank of a launcher's group; `ringweave` when installed.

    torchrun --nproc-per-node 4 -m ringweave train --config …
    python -m ringweave generate --checkpoint llama/ --prompt "Once"
    python -m ringweave topology decompose --ranks 5
    python -m ringweave tokenize --tokenizer tokenizer.json --out … texts/

With RANK and WORLD_SIZE in the environment (torchrun sets them) each process
is a rank of a Gloo group; without, ranks are threads of this process.
RINGWEAVE_TIMEOUT_SECONDS, 60 by default, is how long ranks wait for each other
to start. What ringweave/commands lists has no ranks and loads no torch.
"""

import sys

from ringweave import commands


def main():
    arguments = sys.argv[1:]
    if arguments and arguments[0] in commands.MODULES:
        return commands.run(*arguments)
    try:
        # These import torch and load the op library.
        from ringweave import _generate, _launcher
    except (ImportError, OSError) as error:  # no torch, another one; no library
        print(f"ringweave: {error}", file=sys.stderr)
        return 1
    if arguments and arguments[0] == "generate":
        return _generate.main(arguments[1:])
    return _launcher.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
