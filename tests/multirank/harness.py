"""Starts processes as the ranks of one c10d group and collects what they do.

    def rank_main(group, word):            # in a test file, at its top level
        ...                                # `group` is the group's name
        return anything_that_pickles

    outcomes = harness.run_ranks(rank_main, 4, word="hello")

    with harness.Ranks(rank_main, 4, word="hello") as ranks:
        ranks.wait_for_report(2, "ready")  # rank 2 called harness.report()
        ranks.kill(2)                      # or stop(2): SIGSTOP
        outcomes = ranks.join(seconds=30)

Each rank is a process of its own with Gloo on loopback, joined by PyTorch's
env:// rendezvous; torch is imported once, by the server that they fork from.
Only processes started here are ever ended, and none outlives the `with`.
"""

import dataclasses
import importlib.util
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import signal
import sys
import time

sys.path.append(str(pathlib.Path(__file__).parents[1]))  # tests/
from free_port import free_port

START_SECONDS = 60

# A store whose host was killed makes torch print call stacks as warnings.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch", "torch.distributed"])

_pipe = None  # in a rank: to the test


@dataclasses.dataclass
class Outcome:
    """How one rank ended. `text` is what it raised, None if it returned;
    `seconds` the time from join() or the last fault until it said so. A rank
    that was killed, or did not end in time, has neither value nor text."""
    ended: bool = False
    value: object = None
    text: str | None = None
    seconds: float | None = None


def report(word):
    """In a rank: lets the test's wait_for_report() return."""
    _pipe.send(("report", word))


def _load(file, name):
    """The function of that name in a file of Python."""
    sys.path.insert(0, str(pathlib.Path(file).parent))
    spec = importlib.util.spec_from_file_location("rank_main", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def _rank_process(pipe, environment, file, name, arguments):
    global _pipe
    _pipe = pipe
    os.environ.update(environment)
    import torch
    import torch.distributed as dist
    torch.set_num_threads(1)
    try:
        for library in ("RINGWEAVE_LIBRARY", "RINGWEAVE_TEST_LIBRARY"):
            if os.environ.get(library):
                torch.ops.load_library(os.environ[library])
        dist.init_process_group("gloo")
        value = _load(file, name)(dist.group.WORLD.group_name, **arguments)
        pipe.send(("value", value))
    except Exception as error:
        pipe.send(("error", f"{type(error).__name__}: {error}"))
    pipe.recv()  # keeps its connections until the test ends
    os._exit(0)  # no clean-up of a group whose peers may be dead


class Ranks:
    """`size` processes that each run function(group, **arguments). `function`
    is at the top level of its file, which each of them reads."""

    def __init__(self, function, size, **arguments):
        self.outcomes = [Outcome() for _ in range(size)]
        self._reports = [set() for _ in range(size)]
        self._since = time.monotonic()
        self._pipes, self._processes = [], []
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
                  "WORLD_SIZE": str(size), "GLOO_SOCKET_IFNAME": "lo"}
        try:
            for rank in range(size):
                mine, theirs = _context.Pipe()
                process = _context.Process(
                    target=_rank_process, daemon=True,
                    args=(theirs, {**os.environ, **common, "RANK": str(rank)},
                          function.__code__.co_filename, function.__name__,
                          arguments))
                process.start()
                theirs.close()
                self._pipes.append(mine)
                self._processes.append(process)
        except BaseException:
            self.end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.end()

    def end(self):
        for process in self._processes:
            process.kill()  # a stopped process, too
            process.join()
        for pipe in self._pipes:
            pipe.close()

    def _receive(self, rank):
        try:
            kind, content = self._pipes[rank].recv()
        except (EOFError, OSError):
            kind = "gone"
        outcome = self.outcomes[rank]
        if kind == "report":
            self._reports[rank].add(content)
            return
        outcome.ended = True
        outcome.seconds = time.monotonic() - self._since
        if kind == "value":
            outcome.value = content
        elif kind == "error":
            outcome.text = content

    def _listen(self, done, seconds):
        """Until done() or time is up; returns done()."""
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            open_ones = {pipe: rank for rank, pipe in enumerate(self._pipes)
                         if not self.outcomes[rank].ended}
            if not open_ones:
                break
            for pipe in multiprocessing.connection.wait(
                    open_ones, max(0, end - time.monotonic())):
                self._receive(open_ones[pipe])
        return done()

    def wait_for_report(self, rank, word, seconds=START_SECONDS):
        def over():
            return word in self._reports[rank] or self.outcomes[rank].ended
        self._listen(over, seconds)
        if word not in self._reports[rank]:
            raise RuntimeError(f"rank {rank} did not report {word!r} within "
                               f"{seconds} s: {self.outcomes[rank]}")

    def kill(self, rank):
        self._since = time.monotonic()
        self._processes[rank].kill()

    def stop(self, rank):
        self._since = time.monotonic()
        os.kill(self._processes[rank].pid, signal.SIGSTOP)

    def join(self, seconds, ranks=None):
        """The outcomes, once all (or the given) ranks ended or `seconds` are
        over."""
        ranks = range(len(self.outcomes)) if ranks is None else ranks
        self._listen(lambda: all(self.outcomes[r].ended for r in ranks),
                     seconds)
        return self.outcomes


def run_well(test, function, size, seconds=START_SECONDS, **arguments):
    """What ranks that are left alone return; `test` fails unless all do."""
    outcomes = run_ranks(function, size, seconds, **arguments)
    for outcome in outcomes:
        test.assertIsNone(outcome.text, outcomes)
        test.assertTrue(outcome.ended, outcomes)
    return [outcome.value for outcome in outcomes]


def said(calls):
    """Name -> the error of each call, "TypeError: …", or "no error"."""
    texts = {}
    for name, call in calls.items():
        try:
            call()
            texts[name] = "no error"
        except Exception as error:
            texts[name] = f"{type(error).__name__}: {error}"
    return texts


def check_said(test, function, size, wanted, **options):
    """Fails unless on all ranks function() returns said() of these names, with
    what is `wanted` of each in it. Returns what all said."""
    of_ranks = run_well(test, function, size, **options)
    for texts in of_ranks:
        test.assertEqual(set(texts), set(wanted))
        for name, text in texts.items():
            test.assertIn(wanted[name], text, name)
    return of_ranks


def run_ranks(function, size, seconds=START_SECONDS, **arguments):
    """Outcomes of ranks that are left alone."""
    with Ranks(function, size, **arguments) as ranks:
        return ranks.join(seconds)
