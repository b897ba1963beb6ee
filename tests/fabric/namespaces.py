"""A fabric that stands while a `with` lasts, and the ranks' programs in it."""

import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from . import routes, wiring
from .errors import FabricError, Refused

PIPE = subprocess.PIPE
NEEDED = ("unshare", "mount", "ip", "tc")
REQUEST_SECONDS = 60
PORT = 29_500
ROOM = pathlib.Path(__file__).with_name("room.py")


class RankProcess:
    """One program of one rank. `code` is None while it runs; it is negative if
    a signal ended it, as in subprocess."""

    def __init__(self, rank, handle, changed):
        self.rank = rank
        self.code = None
        self.started = time.monotonic()
        self.seconds = None  # that it ran
        self.stdin = self.stdout = self.stderr = None
        self._handle = handle
        self._changed = changed

    def wait(self, seconds=None):
        """Its code, or None if it still runs after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.code is not None, seconds)
        return self.code

    def _end(self, code):
        with self._changed:
            if self.code is None:
                self.seconds = time.monotonic() - self.started
                self.code = code
                self._changed.notify_all()


class _Room:
    """This side of room.py."""

    def __init__(self):
        self.changed = threading.Condition()
        self.processes = {}
        self._asking = threading.Lock()
        self._answers = []
        self._closed = False
        missing = [name for name in NEEDED if not shutil.which(name)]
        if missing:
            raise Refused(f"[fabric] found no {', '.join(missing)}; want "
                          "Debian's iproute2 and util-linux")
        self._errors = tempfile.TemporaryFile()
        self._socket, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(
                ["unshare", "-Urnmpf", "--kill-child", "--mount-proc",
                 sys.executable, "-I", str(ROOM), str(other.fileno())],
                pass_fds=[other.fileno()], stdin=subprocess.DEVNULL,
                stdout=self._errors, stderr=self._errors, cwd="/",
                start_new_session=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            error = self._answer().get("error")
        except FabricError:
            self.close()
            if self.said.startswith("unshare:"):
                raise Refused("[fabric] got no namespaces: "
                              f"{self.said}") from None
            raise FabricError("[fabric] the first process of the namespaces "
                              f"ended: {self.said}") from None
        except BaseException:
            self.close()
            raise
        if error:
            self.close()
            raise Refused(f"[fabric] got namespaces that refuse links: {error}")

    def _said(self):
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line), "nothing said")

    def _read(self):
        data = b""
        while True:
            try:
                more = self._socket.recv(1 << 16)
            except OSError:
                more = b""
            if not more:
                break
            data += more
            while b"\n" in data:
                line, data = data.split(b"\n", 1)
                self._take(json.loads(line))
        with self.changed:
            self._closed = True
            self.changed.notify_all()
        for process in list(self.processes.values()):
            process._end(-signal.SIGKILL)

    def _take(self, message):
        if "ended" in message:
            self.processes[message["ended"]]._end(message["code"])
            return
        with self.changed:
            self._answers.append(message["answer"])
            self.changed.notify_all()

    def _answer(self):
        with self.changed:
            self.changed.wait_for(lambda: self._answers or self._closed,
                                  REQUEST_SECONDS)
            if not self._answers:
                self._closed = True  # so that a late answer is nobody's
                raise FabricError("[fabric] got no answer from the namespaces; "
                                  "are they gone?")
            return self._answers.pop()

    def ask(self, request, fds=()):
        data = json.dumps(request).encode() + b"\n"
        with self._asking:
            if self._closed:
                raise FabricError("[fabric] the namespaces are gone")
            try:
                sent = socket.send_fds(self._socket, [data], fds)
                self._socket.sendall(data[sent:])
            except OSError as error:
                raise FabricError(f"[fabric] the namespaces are gone: {error}"
                                  ) from None
            error = self._answer().get("error")
        if error:
            raise FabricError(f"[fabric] {error}")

    def close(self):
        """Ends all processes in the namespaces, and so the namespaces."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side was first
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()  # --kill-child ends room.py
            self._process.wait()
        self._reader.join()
        self._socket.close()
        self.said = self._said()
        self._errors.close()


def refusal():
    """Why no fabric can be made here; None if one can."""
    try:
        _Room().close()
    except Refused as refused:
        return str(refused)
    return None


class Fabric:
    """The namespaces and links of a graph (load()), from `with` to its end.

    link_mbit      what the fastest link carries in payload; the others in
                   proportion
    rate_scale     or: times the file's rates
    through_ranks  ranks pass on what has no other route
    environment    of the ranks' programs, beside what tells them their rank
    """

    def __init__(self, graph, link_mbit=None, rate_scale=1.0,
                 settings=wiring.Settings(), through_ranks=False,
                 environment=None):
        self.graph = graph.at(link_mbit, rate_scale)
        self.wiring = wiring.Wiring(self.graph, settings, through_ranks)
        self.ranks = graph.ranks
        self.processes = []
        self._environment = dict(os.environ if environment is None
                                 else environment)
        self._handles = itertools.count()
        self._room = None

    def __enter__(self):
        self._room = _Room()
        try:
            for command in self.wiring.make():
                self._room.ask({"run": [command]})
        except BaseException:
            self._room.close()
            raise
        return self

    def __exit__(self, *_):
        self._room.close()

    # --- what the links are -------------------------------------------------

    def route(self, source, target):
        """The vertices from one rank to another; [] if there is no route."""
        return routes.route(self.wiring.hops, source, target)

    def rate(self, route):
        """Payload bytes per second of a route's narrowest link."""
        return min(self.graph.links[link] for link in zip(route, route[1:]))

    def address(self, rank):
        return wiring.address(self.graph, rank)

    # --- programs -----------------------------------------------------------

    def rank_environment(self, rank):
        """As torchrun sets it. A local rank counts within the node."""
        node = self.graph.vertices[rank].node
        peers = [r for r in range(self.ranks)
                 if self.graph.vertices[r].node == node]
        return {
            "OMP_NUM_THREADS": "1", **self._environment,
            "RANK": str(rank), "WORLD_SIZE": str(self.ranks),
            "LOCAL_RANK": str(peers.index(rank)),
            "LOCAL_WORLD_SIZE": str(len(peers)),
            "MASTER_ADDR": self.address(0), "MASTER_PORT": str(PORT),
            "GLOO_SOCKET_IFNAME": wiring.RANK_DEVICE,
        }

    def start(self, rank, command, stdin=None, stdout=None, stderr=None,
              **variables):
        """Starts a program as that rank, in a session of its own. Streams are
        files or PIPE; what is not given is /dev/null."""
        if not 0 <= rank < self.ranks:
            raise FabricError(f"[fabric] got rank {rank}; want one below "
                              f"{self.ranks}")
        process = RankProcess(rank, next(self._handles), self._room.changed)
        self._room.processes[process._handle] = process
        fds, close = [], []
        for name, stream in (("stdin", stdin), ("stdout", stdout),
                             ("stderr", stderr)):
            if stream == PIPE:
                ours, theirs = os.pipe()
                mode = "r"
                if name == "stdin":
                    ours, theirs, mode = theirs, ours, "w"
                setattr(process, name, os.fdopen(ours, mode, errors="replace"))
                close.append(theirs)
            elif stream is None:
                theirs = os.open(os.devnull, os.O_RDWR)
                close.append(theirs)
            else:
                theirs = stream if isinstance(stream, int) else stream.fileno()
            fds.append(theirs)
        environment = self.rank_environment(rank)
        environment.update(variables)
        try:
            self._room.ask({"start": {
                "handle": process._handle, "namespace": wiring.namespace(rank),
                "argv": [str(word) for word in command], "env": environment,
                "cwd": os.getcwd()}}, fds)
        except FabricError:
            process._end(127)
            raise
        finally:
            for fd in close:
                os.close(fd)
        self.processes.append(process)
        return process

    def run(self, command, seconds=None, **variables):
        """Runs a program once as every rank; [(code, stdout, stderr)] by rank.
        What still runs after `seconds` is killed; nothing else ends a rank."""
        with tempfile.TemporaryDirectory() as folder:
            files = [[open(f"{folder}/{rank}.{name}", "w+", errors="replace")
                      for name in ("out", "err")] for rank in range(self.ranks)]
            processes = [
                self.start(rank, command, stdout=out, stderr=err, **variables)
                for rank, (out, err) in enumerate(files)]
            end = None if seconds is None else time.monotonic() + seconds
            for process in processes:
                left = end and max(0, end - time.monotonic())
                if process.wait(left) is None:
                    self.signal(process, signal.SIGKILL)
                    process.wait()
            outcomes = []
            for process, pair in zip(processes, files):
                for file in pair:
                    file.seek(0)
                outcomes.append((process.code, *[file.read() for file in pair]))
                for file in pair:
                    file.close()
        return outcomes

    # --- faults -------------------------------------------------------------

    def signal(self, process, number):
        """To a program of a rank, and to what it started."""
        self._room.ask({"signal": {"handle": process._handle,
                                   "number": int(number)}})

    def _signal_rank(self, rank, number):
        running = [p for p in self.processes
                   if p.rank == rank and p.code is None]
        if not running:
            raise FabricError(f"[fabric] got rank {rank}; want one that runs")
        for process in running:
            self.signal(process, number)

    def kill(self, rank):
        self._signal_rank(rank, signal.SIGKILL)

    def stop(self, rank):
        self._signal_rank(rank, signal.SIGSTOP)

    def resume(self, rank):
        self._signal_rank(rank, signal.SIGCONT)

    def _at_both_ends(self, a, b, program, lines):
        """Runs lines(vertex, peer) at both ends of a link."""
        a, b = self.graph.cable(a, b)
        self._room.ask({"run": [
            (program, wiring.namespace(vertex), lines(vertex, peer))
            for vertex, peer in ((a, b), (b, a))]})

    def link_down(self, a, b):
        """Neither end sends or receives; routes over the link go."""
        self._at_both_ends(a, b, "ip", lambda _, peer: [
            f"link set {wiring.device(peer)} down"])

    def link_up(self, a, b):
        """After link_down()."""
        self._at_both_ends(a, b, "ip", self.wiring.up)

    def lose(self, a, b):
        """Both directions of a link lose every packet, without a sign."""
        self._at_both_ends(a, b, "ip", lambda vertex, peer: [
            self.wiring.neighbour(vertex, peer, lost=True)])

    def find(self, a, b):
        """After lose()."""
        self._at_both_ends(a, b, "ip", lambda vertex, peer: [
            self.wiring.neighbour(vertex, peer)])

    def slow(self, a, b, factor=0.1):
        """Both directions of a link get `factor` times their rates; 1 undoes
        it."""
        self._at_both_ends(a, b, "tc", lambda vertex, peer: [
            self.wiring.shape(vertex, peer, factor)])
