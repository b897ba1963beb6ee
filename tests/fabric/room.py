"""The first process of a fabric's namespaces: does what it is told on a socket.

    unshare -Urnmpf --kill-child --mount-proc python3 room.py FD

It imports nothing of this package. It ends when the socket's other side is
closed, however that happened. It is process 1 of its PID namespace, so the kernel
then kills every process there, and with the last of them go namespaces and links.

A request is one line of JSON, and so is its answer. Rank ends are told unasked.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

PREFLIGHT = [
    ("sh", None, ["mount -t tmpfs tmpfs /run"]),
    ("ip", None, ["netns add test",
                  "link add ta netns test type veth peer name tb netns test"]),
    ("ip", "test", ["link set ta gso_max_size 17000 up"]),
    ("tc", "test", ["qdisc replace dev ta root tbf rate 1mbit burst 72000 "
                    "limit 1000000"]),
    ("sh", "test", ["echo reno > /proc/sys/net/ipv4/tcp_congestion_control"]),
    ("ip", None, ["netns del test"]),
]


def execute(program, namespace, lines):
    """Runs lines of ip, tc or a shell; what it said if it failed, else None."""
    if program == "sh":
        command = ["sh", "-s"]
        if namespace:
            command = ["ip", "netns", "exec", namespace, *command]
    else:
        command = [program, *(["-n", namespace] if namespace else []),
                   "-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", text=True,
                          capture_output=True)
    if done.returncode == 0:
        return None
    where = f" in {namespace}" if namespace else ""
    said = " ".join((done.stderr or done.stdout).split())
    return f"{program}{where}: {said or f'exit code {done.returncode}'}"


class Room:
    def __init__(self, control):
        self.control = control
        self.sending = threading.Lock()
        self.started = {}

    def send(self, message):
        data = json.dumps(message).encode() + b"\n"
        with self.sending:
            try:
                self.control.sendall(data)
            except OSError:
                os._exit(0)

    def run(self, commands):
        for command in commands:
            error = execute(*command)
            if error:
                return {"error": error}
        return {}

    def start(self, fds, handle, namespace, argv, env, cwd):
        stdin, stdout, stderr = fds
        try:
            process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *argv], stdin=stdin,
                stdout=stdout, stderr=stderr, env=env, cwd=cwd,
                start_new_session=True)
        except OSError as error:
            return {"error": f"could not start {argv[0]}: {error}"}
        finally:
            for fd in fds:
                os.close(fd)
        self.started[handle] = process
        threading.Thread(target=self.wait, args=(handle, process),
                         daemon=True).start()
        return {}

    def wait(self, handle, process):
        self.send({"ended": handle, "code": process.wait()})

    def signal(self, handle, number):
        process = self.started[handle]
        if process.returncode is None:
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                pass
        return {}

    def answer(self, request, fds):
        try:
            if "run" in request:
                return self.run(request["run"])
            if "start" in request:
                return self.start(fds, **request["start"])
            return self.signal(**request["signal"])
        except Exception as error:  # the other side has to hear of it
            return {"error": f"{type(error).__name__}: {error}"}

    def serve(self):
        data, fds = b"", []
        while True:
            more, new, _, _ = socket.recv_fds(self.control, 1 << 20, 3)
            if not more:
                return
            data += more
            fds += new
            while b"\n" in data:
                line, data = data.split(b"\n", 1)
                self.send({"answer": self.answer(json.loads(line), fds)})
                fds = []


def main():
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    # The kernel keeps from process 1 what it has no handler for. Ranks inherit
    # the default, not that it is ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    room = Room(control)
    refused = room.run(PREFLIGHT)
    room.send({"answer": refused})
    try:
        room.serve()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
