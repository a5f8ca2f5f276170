"""Static files without a socket: CPU microseconds from a request to a response that is ready to be sent.

`python bench/http_static.py`, from the folder of the project. Each GET includes closing the file.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from appd.http.core.connection import Connection
from appd.http.core.date import Origin
from appd.http.core.limits import Limits
from appd.http.core.request import Request
from appd.http.core.response import Parts
from appd.http.site import Static
from appd.http.static.static import Folder

ROUNDS, CALLS = 60, 1000
REST = (b"a", b"b", b"file.bin")


def request(method: str = "GET", *fields: str) -> Request:
    """What a client asks, as the core reads it."""
    lines = [f"{method} /a/b/file.bin HTTP/1.1", "Host: x", "Accept: */*", "Accept-Encoding: gzip, br", *fields, "", ""]
    connection = Connection(Limits(), Origin())
    connection.receive("\r\n".join(lines).encode())
    found = connection.next()
    assert isinstance(found, Request)
    return found


def show(name: str, call: Callable[[], object]) -> None:
    """Times it."""
    found = [one / CALLS * 1e6 for one in timeit.repeat(call, number=CALLS, repeat=ROUNDS, timer=time.thread_time)]
    print(f"{name:<26} median {statistics.median(found):6.1f}  min {min(found):6.1f}")


def measure(root: Path) -> None:
    """Over a folder with one file of 100 KB, two folders down."""
    file = root / "a" / "b" / "file.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(100_000))
    os.utime(file, (1_700_000_000, 1_700_000_000))
    folder = Folder(Static(str(root)))

    def sent(asked: Request, rest: tuple[bytes, ...] = REST) -> str:
        response = folder.respond(asked, rest)
        if isinstance(response.body, Parts):
            os.close(response.body.descriptor)
        return dict(response.fields).get("ETag", "")

    def anew() -> None:
        folder._known.clear()
        sent(whole)

    whole = request()
    known = request("GET", f"If-None-Match: {sent(whole)}")
    head = request("HEAD")
    part = request("GET", "Range: bytes=1000-1999")
    show("open and close", lambda: os.close(os.open(file, os.O_RDONLY)))
    show("GET", lambda: sent(whole))
    show("GET of a part", lambda: sent(part))
    show("304", lambda: sent(known))
    show("HEAD", lambda: sent(head))
    show("GET, not remembered", anew)
    show("404", lambda: sent(whole, (b"a", b"b", b"nothing")))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name))
