"""The command line of the program, as one rank of a launcher's group."""

import contextlib
import datetime
import hashlib
import os
import sys
import threading
import time
import uuid

import torch.distributed as dist

from ringweave._operations import _ops

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


def store_of_this_start(store, rank, size, timeout):
    """`store` without what earlier starts of the ranks left in it.

    torchrun starts all ranks again over one store, where a rank would find the
    address of a process that has ended. So each rank takes a new name, and uses
    the store under the names of all that rank 0 saw and that all confirmed.
    Raises TimeoutError after `timeout`.
    """
    shared = dist.PrefixStore("ringweave/start", store)
    own = uuid.uuid4().hex

    def fresh(names):
        digest = hashlib.sha256(names.encode()).hexdigest()
        return dist.PrefixStore(f"ringweave/{digest[:32]}", store)

    def read(key):
        return shared.get(key).decode() if shared.check([key]) else None

    shared.set(f"name/{rank}", own)
    end = time.monotonic() + timeout.total_seconds()
    while time.monotonic() < end:
        if rank == 0:
            names = [read(f"name/{peer}") for peer in range(size)]
            if None not in names:
                seen = " ".join(names)
                shared.set("seen", seen)
                if all(read(f"confirmed/{peer}") == seen
                       for peer in range(1, size)):
                    shared.set("agreed", seen)
                    return fresh(seen)
        else:
            seen = read("seen")
            if seen and seen.split()[rank:rank + 1] == [own]:
                shared.set(f"confirmed/{rank}", seen)
                if read("agreed") == seen:
                    return fresh(seen)
        time.sleep(0.01)
    raise TimeoutError("not all ranks started within "
                       f"{timeout.total_seconds():g} s")


def main(arguments):
    """Runs `arguments`; returns the exit code."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return _ops.main(arguments, "")
    try:
        seconds = float(os.environ.get("RINGWEAVE_TIMEOUT_SECONDS", "60"))
    except ValueError:
        print("ringweave: RINGWEAVE_TIMEOUT_SECONDS is not a number",
              file=sys.stderr)
        return 2
    try:
        timeout = datetime.timedelta(seconds=seconds)
        store, rank, size = next(dist.rendezvous("env://", timeout=timeout))
        store = store_of_this_start(store, rank, size, timeout)
        dist.init_process_group("gloo", store=store, rank=rank,
                                world_size=size, timeout=timeout)
    except Exception as error:  # c10d has no common class of errors
        text = str(error).splitlines()[0]
        print(f"ringweave: can't join the group of processes: {text}",
              file=sys.stderr)
        return 1
    # torch's rule: rank 0 has the store, unless torchrun itself does.
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    code = _ops.main(arguments, dist.group.WORLD.group_name,
                     None if agent else 0)
    sys.stdout.flush()
    if code not in (0, 2):
        leave(store, rank, size)
        os._exit(code)  # peers may be gone: the interpreter's end could wait
    dist.destroy_process_group()
    return code
