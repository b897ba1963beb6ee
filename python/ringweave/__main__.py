"""The command line, as one rank of a launcher's group.

    torchrun --nproc-per-node 4 -m ringweave train --config …
    python -m ringweave topology decompose --ranks 5

With RANK and WORLD_SIZE in the environment (torchrun sets them) each process
is a rank of a Gloo group; without, ranks are threads of this process.
RINGWEAVE_TIMEOUT_SECONDS, 60 by default, is how long ranks wait for each other
to start.
"""

import datetime
import os
import sys

import torch.distributed as dist

import ringweave


def main():
    arguments = sys.argv[1:]
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return ringweave._ops.main(arguments, "")
    try:
        seconds = float(os.environ.get("RINGWEAVE_TIMEOUT_SECONDS", "60"))
    except ValueError:
        print("ringweave: RINGWEAVE_TIMEOUT_SECONDS is not a number",
              file=sys.stderr)
        return 2
    try:
        dist.init_process_group(
            "gloo", timeout=datetime.timedelta(seconds=seconds))
    except Exception as error:  # c10d has no common class of errors
        text = str(error).splitlines()[0]
        print(f"ringweave: can't join the group of processes: {text}",
              file=sys.stderr)
        return 1
    code = ringweave._ops.main(arguments, dist.group.WORLD.group_name)
    sys.stdout.flush()
    if code not in (0, 2):
        # Peers may be gone: an orderly end of the group could wait for them.
        os._exit(code)
    dist.destroy_process_group()
    return code


if __name__ == "__main__":
    sys.exit(main())
