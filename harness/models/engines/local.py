"""Servers of engines on this machine, as children of the worker whose stages ask them."""

from __future__ import annotations

import logging
import os
import random
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter, deque
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, NamedTuple

from harness.contracts.engine import EngineFailure, EngineSpec
from harness.text import describe_exit

log = logging.getLogger(__name__)

PORTS = range(15_000, 32_000)  # below those that systems give to outgoing connections, which would take a free one away
LAST_LINES = 40  # of a server's output in an error: the reason often stands above a long traceback
# Of our own environment; an engine in another one would import our packages, or find no library of its own.
OURS_ALONE = ("PYTHONPATH", "PYTHONHOME")
READ_SECONDS = 5.0  # for what a server wrote last; a grandchild may hold its output open
LAST_ERRORS = 3  # of the lines that name one, wherever they stand: many lines may follow the reason
HEALTH_SECONDS = 10.0
PATIENCE_SECONDS = 180.0
"""A server that runs may be too busy to say so: with thousands of requests before it, or on a machine full of work."""


def free_port(host: str) -> int:
    for port in random.SystemRandom().sample(PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise EngineFailure(f"no free port between {PORTS.start} and {PORTS.stop} on {host}: end what listens there.")


class EngineServer:
    """One server process. It ends when this process does."""

    def __init__(self, spec: EngineSpec, host: str, log_file: Path) -> None:
        """Starts it; ``wait`` waits until it can be asked."""
        self.spec, self.host, self.port = spec, host, free_port(host)
        self.url = f"http://{host}:{self.port}"
        self.lines = deque[str](maxlen=LAST_LINES)
        self.errors = deque[str](maxlen=LAST_ERRORS)
        self.log_file = log_file
        self.begin = time.monotonic()
        command = [part.replace("{host}", host).replace("{port}", str(self.port)) for part in spec.command]
        environment = {name: value for name, value in os.environ.items() if name not in OURS_ALONE}
        watcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("watch.py"))]
        log.info("start %s: %s", spec.name, " ".join(command))
        self.process = subprocess.Popen(  # noqa: S603, the command of the user's recipe
            [*watcher, *command],
            env=environment | dict(spec.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._copy_output, args=(self.process.stdout,), daemon=True)
        self.reader.start()

    def _copy_output(self, output: IO[bytes]) -> None:
        with output:
            for raw in output:
                line = raw.decode(errors="replace").rstrip()
                if line:
                    self.lines.append(line)
                    if "Error: " in line:
                        self.errors.append(line)
                try:  # the stage's folder goes with it, while the server stays
                    with self.log_file.open("a", encoding="utf-8") as file:
                        file.write(line + "\n")
                except OSError:
                    continue

    def wait(self) -> None:
        """Raises EngineFailure where it ends, or is not ready in time."""
        while not self.can_be_asked():
            if self.process.poll() is not None:
                self.end()
                raise EngineFailure(f"{self.spec.name} did not start ({self.describe_end()}). {self.last_lines()}")
            seconds = time.monotonic() - self.begin
            if seconds > self.spec.start_seconds:
                self.end()
                raise EngineFailure(
                    f"{self.spec.name} could not be asked {seconds:.0f} s after its start; allow it more "
                    f"(start_minutes), if it needs more. {self.last_lines()}"
                )
            time.sleep(0.1)
        log.info("%s answers at %s after %.1f s", self.spec.name, self.url, time.monotonic() - self.begin)

    def can_be_asked(self) -> bool:
        if self.process.poll() is not None:
            return False
        # Not urllib, which would go through the proxy that the environment names.
        connection = HTTPConnection(self.host, self.port, timeout=HEALTH_SECONDS)
        try:
            connection.request("GET", self.spec.health, headers={"Connection": "close"})
            answer = connection.getresponse()
            answer.read()  # whole: a server whose answer is cut off writes an error into its log
            return answer.status == HTTPStatus.OK
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def is_alive(self) -> bool:
        end = time.monotonic() + PATIENCE_SECONDS
        while not self.can_be_asked():
            if self.process.poll() is not None or time.monotonic() > end:
                return False
            time.sleep(0.5)
        return True

    def describe_end(self) -> str:
        return "it did not answer" if self.process.poll() is None else describe_exit(self.process.returncode)

    def last_lines(self) -> str:
        if not self.lines:
            return "It wrote nothing."
        earlier = [line for line in self.errors if line not in self.lines]
        return "\n".join([*(["Its errors:", *earlier] if earlier else []), "Its last lines:", *self.lines])

    def end(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()
        self.reader.join(READ_SECONDS)


class Place(NamedTuple):
    """A server and the GPUs that this process sees: after these change it is another server."""

    spec: EngineSpec
    devices: str


class LocalEngines:
    """An ``EngineHost``: the servers of one worker process."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        """``host``: the address that servers listen at; stages on other machines need one that they can reach."""
        self.host = host
        self.servers: dict[Place, EngineServer] = {}  # the one that was used last is last
        self.deaths = Counter[EngineSpec]()  # in this stage
        self.used: set[Place] = set()  # by this stage
        self.notes: list[str] = []
        # Where nobody closes it: with the object, or at the end of the process.
        self._end_all = weakref.finalize(self, end_servers, self.servers)

    def address(self, spec: EngineSpec, log: Path) -> str:
        place = Place(spec, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        server = self.servers.pop(place, None)
        if server is not None and not server.is_alive():
            self._bury(server)
            server = None
        if server is None:
            self._make_place(place)
            server = EngineServer(spec, self.host, log)
            server.wait()
        self.servers[place] = server
        self.used.add(place)
        server.log_file = log
        return server.url

    def _bury(self, server: EngineServer) -> None:
        spec, reason = server.spec, server.describe_end()
        server.end()
        self.deaths[spec] += 1
        if self.deaths[spec] > 1:
            raise EngineFailure(f"{spec.name} died twice in this stage ({reason}). {server.last_lines()}")
        self.notes.append(f"{spec.name} died ({reason}) and was started once more. {server.last_lines()}")
        logging.getLogger(__name__).warning("%s", self.notes[-1])

    def _make_place(self, new: Place) -> None:
        """End what is in the way: servers on GPUs that this process has no longer, and the oldest beyond ``keep``."""
        gone = [place for place in self.servers if place.spec.gpus and place.devices != new.devices]
        others = [place for place in self.servers if place not in self.used and place not in gone]
        count = len(self.servers) - len(gone) - new.spec.keep + 1
        for place in [*gone, *others[: max(0, count)]]:
            self.servers.pop(place).end()

    def release(self) -> list[str]:
        notes = self.notes
        self.notes, self.used = [], set()
        self.deaths.clear()
        return notes

    def make_room(self) -> None:
        for place in [place for place in self.servers if place.spec.gpus]:
            self.servers.pop(place).end()

    def close(self) -> None:
        end_servers(self.servers)


def end_servers(servers: dict[Place, EngineServer]) -> None:
    while servers:
        servers.popitem()[1].end()
