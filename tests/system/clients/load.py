"""Requests over and over, a new connection for each, until standard input ends; then prints what became of them.

usage: load.py THREADS HOST PORT [COUNT]
       COUNT: it ends by itself after so many.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections import Counter

_threads, _host, _port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
_count = int(sys.argv[4]) if sys.argv[4:] else 0
_REQUEST = f"GET / HTTP/1.1\r\nHost: {_host}\r\nConnection: close\r\n\r\n".encode()


def _request() -> str:
    """Makes one request; the name of what came of it."""
    try:
        with socket.create_connection((_host, _port), timeout=20) as connection:
            connection.sendall(_REQUEST)
            received = b""
            while part := connection.recv(65536):
                received += part
    except OSError as error:
        return type(error).__name__
    if not received:
        return "empty"
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split()[0])
    if not head.startswith(b"HTTP/1.1 200 "):
        return head.split(b"\r\n")[0].decode()
    return "ok" if len(body) == length else "cut"


def _loop(results: Counter[str], longest: list[float], end: threading.Event) -> None:
    while not end.is_set():
        begun = time.monotonic()
        results[_request()] += 1
        longest[0] = max(longest[0], time.monotonic() - begun)


def _main() -> None:
    end = threading.Event()
    counters = [Counter[str]() for _ in range(_threads)]
    longest = [[0.0] for _ in range(_threads)]
    threads = [
        threading.Thread(target=_loop, args=(*both, end), daemon=True) for both in zip(counters, longest, strict=True)
    ]
    for thread in threads:
        thread.start()
    if _count:
        while sum(sum(one.values()) for one in counters) < _count:
            time.sleep(0.1)
    else:
        sys.stdin.read()
    end.set()
    for thread in threads:
        thread.join(30)
    print(json.dumps({"results": sum(counters, Counter()), "longest": max(one for [one] in longest)}))


_main()
