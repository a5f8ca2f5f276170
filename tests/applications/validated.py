"""What PEP 3333 lets an application do, each below a path of its own, before the eyes of wsgiref.validate."""

import hashlib
import json
from wsgiref.validate import validator

PLAIN = [("Content-Type", "text/plain")]


def body_by_read(environ, start_response):
    start_response("200 OK", list(PLAIN))
    found, stream = hashlib.sha256(), environ["wsgi.input"]
    while block := stream.read(1000):
        found.update(block)
    assert stream.read(1000) == b""
    return [found.hexdigest().encode()]


def body_by_lines(environ, start_response):
    start_response("200 OK", list(PLAIN))
    stream = environ["wsgi.input"]
    lines = [stream.readline(), *stream.readlines(), stream.readline()]
    assert lines.pop() == b""
    return [json.dumps([len(lines), hashlib.sha256(b"".join(lines)).hexdigest()]).encode()]


def body_by_iterating(environ, start_response):
    start_response("200 OK", list(PLAIN))
    lines = list(environ["wsgi.input"])
    return [json.dumps([len(lines), hashlib.sha256(b"".join(lines)).hexdigest()]).encode()]


def body_left_alone(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return [b"not read"]


def body_read_in_part(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return [environ["wsgi.input"].read(3)]


def body_echoed(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    stream = environ["wsgi.input"]
    return iter(lambda: stream.read(10_000), b"")


def written(environ, start_response):
    write = start_response("200 OK", list(PLAIN))
    for number in range(5):
        write(b"%d" % number)
    return [b" and returned"]


def generated(environ, start_response):
    start_response("200 OK", list(PLAIN))
    for number in range(100):
        yield b"%d " % number if number % 10 else b""


def with_a_length(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "10")])
    return [b"01234", b"", b"56789"]


def nothing(environ, start_response):
    start_response("204 No Content", [])
    return []


def not_modified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"x"')])
    return []


def empty(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "0")])
    return []


def replaced(environ, start_response):
    start_response("200 OK", list(PLAIN))
    try:
        raise KeyError("before anything was sent")
    except KeyError:
        import sys

        start_response("500 Replaced", list(PLAIN), sys.exc_info())
    return [b"replaced"]


def many_fields(environ, start_response):
    start_response(
        "200 OK", [*PLAIN, *(("Set-Cookie", f"c{one}=ü\xff{one}".encode().decode("latin-1")) for one in range(20))]
    )
    return [b"ok"]


def said(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return [json.dumps({key: value for key, value in environ.items() if isinstance(value, (str, int, bool))}).encode()]


CHECKED = {
    f"/{name}": validator(one)
    for name, one in list(globals().items())
    if callable(one) and getattr(one, "__module__", None) == __name__
}


def application(environ, start_response):
    return CHECKED[environ["PATH_INFO"]](environ, start_response)


def made():
    return application
