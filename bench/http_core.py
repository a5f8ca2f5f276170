"""What the core of HTTP costs: CPU microseconds a request, and bytes a connection.

`python bench/http_core.py`, from the folder of the project; with httptools installed it is measured beside.
"""

from __future__ import annotations

import sys
import time
import timeit
import tracemalloc
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from appd.http.core.connection import Connection
from appd.http.core.date import Origin
from appd.http.core.limits import Limits

SHORT = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: wrk/4.1\r\nAccept: */*\r\n\r\n"
BROWSER = (
    b"GET /index.html?a=b HTTP/1.1\r\nHost: www.example.org\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n"
    b"Cookie: session=abcdefghijklmnopqrstuvwxyz0123456789; theme=dark\r\nUpgrade-Insecure-Requests: 1\r\n"
    b"Sec-Fetch-Dest: document\r\nCache-Control: max-age=0\r\n\r\n"
)
FIELDS = [("Content-Type", "text/plain"), ("Content-Length", "13")]
BODY = b"Hello, world\n"
LIMITS, ORIGIN = Limits(), Origin()


def best(call, number: int = 3000, repeat: int = 60) -> float:
    """The least CPU microseconds that a call took."""
    return min(timeit.repeat(call, number=number, repeat=repeat, timer=time.thread_time)) / number * 1e6


def measure(name: str, data: bytes) -> None:
    """Prints what one kind of request costs."""
    one = Connection(LIMITS, ORIGIN)

    def request() -> None:
        one.receive(data)
        one.next()
        one._reading, one._writing = "head", "idle"  # as if it had been answered

    def both() -> None:
        one.receive(data)
        one.next()
        one.whole("200 OK", FIELDS, BODY)

    taken = best(request)
    one = Connection(LIMITS, ORIGIN)
    print(f"{name:8} request {taken:5.2f}   request and response {best(both):5.2f} µs")


def measure_httptools(name: str, data: bytes) -> None:
    """The same request through llhttp, with what the core has of it: text, lower-case names, a mapping."""
    try:
        import httptools
    except ImportError:
        return

    class Parts:
        def __init__(self) -> None:
            self.fields: list[tuple[str, str]] = []

        def on_url(self, url: bytes) -> None:
            self.target = url.decode("latin-1")

        def on_header(self, name: bytes, value: bytes) -> None:
            self.fields.append((name.decode("latin-1").lower(), value.decode("latin-1")))

        def on_message_complete(self) -> None:
            self.named = dict(self.fields)

    parts = Parts()
    parser = httptools.HttpRequestParser(parts)

    def request() -> None:
        parts.fields = []
        parser.feed_data(data)
        parser.get_method().decode("latin-1")
        parser.get_http_version()
        parser.should_keep_alive()
        parts.target.partition("?")

    print(f"{name:8} httptools, parsed and decoded, nothing checked {best(request):5.2f} µs")


def measure_memory(count: int = 10_000) -> None:
    """Prints what idle connections take."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    those = []
    for _ in range(count):
        one = Connection(LIMITS, ORIGIN)
        one.receive(SHORT)
        one.next()
        one.whole(200, (), b"x")
        those.append(one)
    taken = (tracemalloc.get_traced_memory()[0] - before) / count
    print(f"idle connection {taken:.0f} bytes, {sys.getsizeof(those[0])} of them the object")


if __name__ == "__main__":
    for title, sent in (("short", SHORT), ("browser", BROWSER)):
        measure(title, sent)
        measure_httptools(title, sent)
    measure_memory()
