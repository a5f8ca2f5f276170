"""A WSGI application that does what applications do: answer late, talk, fail."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from twisted.logger import Logger

_log = logging.getLogger("shop.basket")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Calls the function that the path names with the fields of the query."""
    query = {name: values[-1] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
    body = _PAGES[environ["PATH_INFO"].rpartition("/")[2]](**query).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _greet() -> str:
    return "hello"


def _pid() -> str:
    return str(os.getpid())


def _slow(seconds: str) -> str:
    if folder := os.environ.get("STATE_DIRECTORY"):
        Path(folder, "begun").touch()  # says that the request has arrived
    time.sleep(float(seconds))
    return f"after {seconds} s"


def _fail() -> str:
    raise ValueError("out of stock")


def _talk() -> str:
    print("printed to stdout")
    print("printed to stderr", file=sys.stderr)
    _log.debug("not wanted")
    _log.info("put a %s in", "teapot")
    _log.warning("a low shelf")
    _log.error("an empty shelf", extra={"SHELF": "7"})
    Logger(namespace="shop.till").warn("no change for {sum}", sum=5)
    warnings.warn("hot water", UserWarning, stacklevel=1)
    try:
        {}["teapot"]
    except KeyError:
        _log.exception("no such item")
    return "talked"


def _search() -> None:
    raise LookupError("nothing on the shelf")


def _thread() -> str:
    threading.Thread(target=_search).start()
    return "begun"


def _lengthy() -> str:
    _log.warning("begin %s end", "x" * 200_000)
    _log.warning("file %s", os.fsdecode(b"caf\xe9.txt"))
    return "logged"


def _chatter(count: str, start: str = "0") -> str:
    for number in range(int(start), int(start) + int(count)):
        _log.info("entry %d", number)
    return f"logged {count}"


_CHILD = """
import signal, sys, time
def told(number, frame):
    with open(sys.argv[1], "a") as file: file.write(f"{number}\\n")
signal.signal(signal.SIGTERM, told)
open(sys.argv[1], "w").close()
while True: time.sleep(1)
"""


def _child(path: str) -> str:
    """Starts a process that notes each SIGTERM in a file."""
    started = subprocess.Popen([sys.executable, "-c", _CHILD, path])
    while not os.path.exists(path):
        time.sleep(0.01)
    return str(started.pid)


_PAGES: dict[str, Callable[..., str]] = {
    "": _greet,
    "pid": _pid,
    "slow": _slow,
    "fail": _fail,
    "talk": _talk,
    "thread": _thread,
    "lengthy": _lengthy,
    "chatter": _chatter,
    "child": _child,
}
