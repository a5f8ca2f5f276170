"""Applications of all manners, for tests/process/test_http_wsgi.py."""

import json
import sys
import threading
from wsgiref.validate import validator

met = threading.Barrier(2)
seen = {"produced": 0, "closed": 0}


class Stream:
    """A hundred megabytes, and a record of how far it got."""

    def __iter__(self):
        for _ in range(1600):
            seen["produced"] += 65536
            yield b"x" * 65536

    def close(self):
        seen["closed"] += 1


def environ(environ, start_response):
    """Says what it was given."""
    body = environ["wsgi.input"].read(-1)
    plain = {key: value for key, value in environ.items() if isinstance(value, (str, int, bool))}
    start_response("200 OK", [("Content-Type", "application/json"), ("Server", "theirs")])
    return [json.dumps({**plain, "body": body.decode("latin-1")}).encode()]


def kinds(environ, start_response):
    """Behaves as its path says."""
    kind = environ["PATH_INFO"]
    plain = [("Content-Type", "text/plain")]
    if kind in ("/raise", "/fail"):
        raise ValueError("the secret of the traceback")
    if kind == "/exit":
        sys.exit(3)
    if kind == "/hop":
        start_response("200 OK", [*plain, ("Connection", "close")])
        return [b"never"]
    if kind == "/nothing":
        return []
    if kind == "/broken-stream":

        def stream():
            yield b"begun"
            raise ValueError("in the stream")

        start_response("200 OK", plain)
        return stream()
    if kind == "/short":
        start_response("200 OK", [*plain, ("Content-Length", "10")])
        return [b"short"]
    if kind == "/long":
        start_response("200 OK", [*plain, ("Content-Length", "5")])
        return [b"short and more"]
    if kind == "/empty":
        start_response("204 No Content", [])
        return []
    if kind == "/generator":
        start_response("200 OK", plain)
        return iter([b"a", b"", b"b"])
    if kind == "/meet":
        met.wait(10)
        start_response("200 OK", plain)
        return [b"met"]
    if kind == "/stream":
        start_response("200 OK", plain)
        return Stream()
    if kind == "/seen":
        start_response("200 OK", plain)
        return [json.dumps(seen).encode()]
    if kind == "/errors":
        print("a complaint\nof two lines", file=environ["wsgi.errors"])
        start_response("200 OK", plain)
        return [b"ok"]
    start_response("404 Not Found", plain)
    return [b"theirs"]


checked = validator(environ)
