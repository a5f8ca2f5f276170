"""Requests over and over, until standard input ends; then prints what became of them.

usage: load.py THREADS HOST PORT [COUNT [KEPT]]
       COUNT: at least so many, even when standard input has ended before.
       KEPT: so many of the threads keep their connection; the others make a new one for each request.

A connection that is kept may be closed while nobody asks for anything: before a request that is noticed, and when the end came
just then and not a byte of an answer was read, the request is made once more on a new connection, as RFC 9112 section 9.3.1 has
it. How often is told. An answer that was begun and not finished is `cut`.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from collections import Counter

_threads, _host, _port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
_count = int(sys.argv[4]) if sys.argv[4:] else 0
_kept = int(sys.argv[5]) if sys.argv[5:] else 0
_REQUEST = f"GET / HTTP/1.1\r\nHost: {_host}\r\n\r\n".encode()
_LAST = _REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
_TIMEOUT = 20
# A client that keeps its connection waits so long, in seconds, after every so many requests: the server has idle ones, too.
_PAUSE, _BEFORE_PAUSE = 0.05, 20


class _Failed(Exception):
    """A request that was not answered as it should be; its argument is the name of what came of it."""


class _Client:
    """One thread's: its connection, and what became of its requests.

    Args:
        keeps: Whether it keeps its connection.
    """

    def __init__(self, keeps: bool) -> None:
        self.results: Counter[str] = Counter()
        self.connections: Counter[str] = Counter()
        self.longest = 0.0
        self._keeps = keeps
        self._connection: socket.socket | None = None

    def run(self, end: threading.Event) -> None:
        """Makes requests until the end."""
        while not end.is_set():
            begun = time.monotonic()
            self.results[self._outcome()] += 1
            self.longest = max(self.longest, time.monotonic() - begun)
            if self._keeps and self.results.total() % _BEFORE_PAUSE == 0:
                time.sleep(_PAUSE)
        self._close()

    def _outcome(self) -> str:
        try:
            if self._connection is not None and select.select([self._connection], [], [], 0)[0]:
                self.connections["closed while idle"] += 1
                self._close()
            again = self._connection is not None
            try:
                return self._ask()
            except _Failed as error:
                if not again or error.args[0] not in ("empty", "ConnectionResetError", "BrokenPipeError"):
                    raise
                self.connections["asked again"] += 1
                return self._ask()
        except _Failed as error:
            return str(error)

    def _ask(self) -> str:
        """Makes one request.

        Raises:
            _Failed: It has no whole answer; the connection is closed.
        """
        received = b""
        try:
            if self._connection is None:
                self.connections["made"] += 1
                self._connection = socket.create_connection((_host, _port), timeout=_TIMEOUT)
            self._connection.sendall(_REQUEST if self._keeps else _LAST)
            while not (head := received.partition(b"\r\n\r\n"))[1]:
                received += self._more()
            lower = head[0].lower()
            length = int(lower.split(b"\r\ncontent-length:")[1].split()[0])
            while len(received) < len(head[0]) + 4 + length:
                received += self._more()
        except (OSError, _Failed) as error:
            self._close()
            name = str(error) if isinstance(error, _Failed) else type(error).__name__
            raise _Failed("cut" if received else name) from None
        if not self._keeps or b"\r\nconnection: close" in lower:
            self._close()
        if not head[0].startswith(b"HTTP/1.1 200 "):
            return head[0].split(b"\r\n")[0].decode()
        return "ok" if len(received) == len(head[0]) + 4 + length else "too long"

    def _more(self) -> bytes:
        assert self._connection is not None
        part = self._connection.recv(65536)
        if not part:
            raise _Failed("empty")
        return part

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _main() -> None:
    end = threading.Event()
    clients = [_Client(number < _kept) for number in range(_threads)]
    threads = [threading.Thread(target=one.run, args=(end,), daemon=True) for one in clients]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    while sum(one.results.total() for one in clients) < _count:
        time.sleep(0.1)
    end.set()
    for thread in threads:
        thread.join(30)

    def told(those: list[_Client]) -> dict[str, object]:
        return {
            "results": sum((one.results for one in those), Counter()),
            "connections": sum((one.connections for one in those), Counter()),
        }

    said = {"results": told(clients)["results"], "longest": max(one.longest for one in clients)}
    print(json.dumps({**said, "kept": told(clients[:_kept]), "new": told(clients[_kept:])}))


_main()
