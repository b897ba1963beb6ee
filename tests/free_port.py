"""A port for the rendezvous of a test's processes."""

import contextlib
import random
import socket

# Below those that the system gives to every connection: of these, another test
# that runs beside this one could get the same before it is used.
FIRST, LAST = 10_000, 32_000


def free_port():
    while True:
        port = random.SystemRandom().randrange(FIRST, LAST)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
