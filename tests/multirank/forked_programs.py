"""Runs programs as ranks of a group, whose processes end as those of any program
do. torch is imported once, by the process that they fork from.

    forked_programs.py RANKS <<< '[[PROGRAM, ARGUMENT…], …]'

Prints a line of JSON for each program: [exit codes of its ranks, their stderr].
A code is None if the rank did not end in time.
"""

import json
import os
import pathlib
import signal
import sys
import tempfile
import time

import torch.distributed  # noqa: F401

sys.path.append(str(pathlib.Path(__file__).parents[1]))  # tests/
from free_port import free_port

SECONDS = 120


def waited_for(pid, end):
    """The exit code, within the time."""
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def start(rank, ranks, port, arguments, stderr):
    """The process id; in the new process 0."""
    pid = os.fork()
    if pid == 0:
        os.dup2(stderr.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(ranks),
                          MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        sys.argv = ["program", *arguments]
    return pid


def launch(ranks, arguments):
    """[codes, texts]; None in a new process, which is to run the program."""
    port, end = free_port(), time.monotonic() + SECONDS
    files, pids = [tempfile.TemporaryFile("w+") for _ in range(ranks)], []
    for rank, file in enumerate(files):
        pids.append(start(rank, ranks, port, arguments, file))
        if pids[-1] == 0:
            return None
    codes = [waited_for(pid, end) for pid in pids]
    texts = []
    for file in files:
        file.seek(0)
        texts.append(file.read())
    return codes, texts


def main():
    """What is left to run."""
    torch.set_num_threads(1)
    for program, *arguments in json.load(sys.stdin):
        ended = launch(int(sys.argv[1]), arguments)
        if ended is None:
            return program
        print(json.dumps(ended), flush=True)
    return ""


# At the top level, after which Python ends.
exec(compile(main(), "program", "exec"), {"__name__": "__main__"})
