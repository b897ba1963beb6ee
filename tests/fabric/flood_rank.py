"""Sends to and receives from other ranks as fast as it goes. flood.py starts
one in each rank and talks to it by lines of JSON on stdin and stdout.

It is a program of its own and imports nothing of this package.
"""

import fcntl
import json
import socket
import sys
import termios
import threading
import time

CONNECT_SECONDS = 20


def _connect(address, port, rank):
    """Waits for the peer to listen, but not for a route to it."""
    until = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            peer = socket.create_connection((address, port), CONNECT_SECONDS)
            break
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
    # What is left in the queue at the end is dropped, not sent.
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                    (1).to_bytes(4, sys.byteorder) + bytes(4))
    peer.sendall(bytes([rank]))
    return peer


def _send(peer, end):
    data = bytes(1 << 18)
    peer.settimeout(0.1)
    try:
        while time.monotonic() < end:
            try:
                peer.send(data)
            except TimeoutError:
                pass
    except OSError:
        pass  # the receiver has its figure
    peer.close()


def _unread(peer):
    """Bytes that have arrived and wait to be read."""
    answer = fcntl.ioctl(peer, termios.FIONREAD, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


def _receive(peer, begin, end, rates, source):
    """Counts what arrived from the first reading after `begin` to the last
    before `end`. A reader that had to wait for a core must not make a link look
    faster: what waits unread counts as arrived, and the clock is read before the
    first count and after the last."""
    buffer = bytearray(1 << 18)
    first = last = None
    total = 0
    peer.settimeout(0.1)
    while True:
        try:
            count = peer.recv_into(buffer)
        except TimeoutError:
            count = None
        except OSError:
            break
        before = time.monotonic()
        if before > end or count == 0:
            break
        if count is None:
            continue
        total += count
        if before >= begin:
            arrived = total + _unread(peer)
            first = first or (before, arrived)
            last = (time.monotonic(), arrived)
    if last is None or last[1] == first[1]:
        rates.append((source, 0.0))
    else:
        rates.append((source, (last[1] - first[1]) / (last[0] - first[0])))
    peer.close()


def _accept(listener, count):
    peers = []
    for _ in range(count):
        peer, _ = listener.accept()
        peer.settimeout(CONNECT_SECONDS)
        peers.append((peer.recv(1)[0], peer))
    return peers


def _round(task):
    """One round: connect, say so, hear the times, send and receive."""
    address, port = task["listen"]
    with socket.create_server((address, port), backlog=64) as listener:
        listener.settimeout(CONNECT_SECONDS)
        sending = [_connect(to, port, task["rank"]) for to in task["to"]]
        receiving = _accept(listener, len(task["from"]))
    print(json.dumps({}), flush=True)
    times = sys.stdin.readline()
    if not times:
        return  # another rank could not connect
    begin, end = json.loads(times)
    rates = []
    threads = [threading.Thread(target=_send, args=(peer, end + 0.05))
               for peer in sending]
    threads += [threading.Thread(target=_receive,
                                 args=(peer, begin, end, rates, source))
                for source, peer in receiving]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(rates), flush=True)


def main():
    for line in sys.stdin:
        try:
            _round(json.loads(line))
        except OSError as error:
            print(json.dumps(f"{error}"), flush=True)


if __name__ == "__main__":
    main()
