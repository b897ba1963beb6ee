"""Measures what connections between ranks carry, with plain sockets.

    with Flood(fabric) as flood:
        rates = flood.rates([(0, 1), (2, 3)])   # payload bytes per second

One process per rank (flood_rank.py) serves all rounds.
"""

import json
import pathlib
import sys
import time

from .errors import FabricError
from .namespaces import PIPE

PORT = 29_400
WARM_SECONDS = 0.15
LEAST_SECONDS = 0.5
LEAST_BYTES = 4 << 20
PROGRAM = pathlib.Path(__file__).with_name("flood_rank.py")


class Flood:
    def __init__(self, fabric):
        self.fabric = fabric
        self._processes = []
        self._round = 0

    def __enter__(self):
        command = [sys.executable, "-I", PROGRAM]
        self._processes = [
            self.fabric.start(rank, command, stdin=PIPE, stdout=PIPE,
                              stderr=sys.stderr)
            for rank in range(self.fabric.ranks)]
        return self

    def __exit__(self, *_):
        for process in self._processes:
            process.stdin.close()
            process.stdout.close()

    def _tell(self, rank, message):
        try:
            self._processes[rank].stdin.write(json.dumps(message) + "\n")
            self._processes[rank].stdin.flush()
        except BrokenPipeError:
            raise FabricError(f"[fabric] the sender of rank {rank} ended"
                              ) from None

    def _hear(self, rank):
        line = self._processes[rank].stdout.readline()
        if not line:
            raise FabricError(f"[fabric] the sender of rank {rank} ended")
        message = json.loads(line)
        if isinstance(message, str):
            raise FabricError(f"[fabric] rank {rank} could not connect: "
                              f"{message}")
        return message

    def rates(self, flows):
        """What each (from, to) carries while all of them send."""
        self._round += 1
        fabric, ranks = self.fabric, sorted({end for f in flows for end in f})
        slowest = min(fabric.rate(fabric.route(*flow)) for flow in flows)
        seconds = max(LEAST_SECONDS, LEAST_BYTES / slowest)
        for rank in ranks:
            self._tell(rank, {
                "rank": rank,
                "listen": [fabric.address(rank), PORT + self._round % 100],
                "from": [a for a, b in flows if b == rank],
                "to": [fabric.address(b) for a, b in flows if a == rank]})
        for rank in ranks:
            self._hear(rank)
        begin = time.monotonic() + 0.02 + WARM_SECONDS
        for rank in ranks:
            self._tell(rank, [begin, begin + seconds])
        rates = {}
        for rank in ranks:
            for source, rate in self._hear(rank):
                rates[source, rank] = rate
        return [rates[flow] for flow in flows]
