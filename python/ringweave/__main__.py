"""The command line, as one rank of a launcher's group.

    torchrun --nproc-per-node 4 -m ringweave train --config …
    python -m ringweave topology decompose --ranks 5

With RANK and WORLD_SIZE in the environment (torchrun sets them) each process
is a rank of a Gloo group; without, ranks are threads of this process.
RINGWEAVE_TIMEOUT_SECONDS, 60 by default, is how long ranks wait for each other
to start.
"""

import contextlib
import datetime
import os
import sys
import threading

import torch.distributed as dist

import ringweave

LEAVING_SECONDS = 2.0


def leave(store, rank, size):
    """Ends the group of a rank that failed, in LEAVING_SECONDS at most.

    Peers notice by the closed connections, then ask the store which rank failed
    first. Rank 0's process has the store, so it stays until they have read it.
    """
    def work():
        with contextlib.suppress(Exception):  # the store's host may be gone
            dist.destroy_process_group()
            store.set(f"ringweave/left/{rank}", "")
            if rank == 0:
                store.wait([f"ringweave/left/{peer}" for peer in range(size)])

    # A dead peer never leaves, and the store of a stopped host blocks for good.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(LEAVING_SECONDS)


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
        timeout = datetime.timedelta(seconds=seconds)
        store, rank, size = next(dist.rendezvous("env://", timeout=timeout))
        dist.init_process_group("gloo", store=store, rank=rank,
                                world_size=size, timeout=timeout)
    except Exception as error:  # c10d has no common class of errors
        text = str(error).splitlines()[0]
        print(f"ringweave: can't join the group of processes: {text}",
              file=sys.stderr)
        return 1
    code = ringweave._ops.main(arguments, dist.group.WORLD.group_name)
    sys.stdout.flush()
    if code not in (0, 2):
        leave(store, rank, size)
        os._exit(code)  # peers may be gone: the interpreter's end could wait
    dist.destroy_process_group()
    return code


if __name__ == "__main__":
    sys.exit(main())
