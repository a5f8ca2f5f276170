"""The application side of PEP 3333."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from support.entries import EntriesKept

from appd.journal import ERROR
from appd.servers.http.web.application import Call


class Client:
    """A client that takes everything."""

    gone = False
    was_cut = False
    paced = 0

    def pace(self, count: int) -> None:
        self.paced += count

    def cut(self) -> None:
        self.was_cut = True


class Response:
    """What an engine gets from a call, and what is logged meanwhile."""

    def __init__(self, application: Any, client: Client | None = None, take: int = 1000) -> None:
        self.client = client or Client()
        self.log = EntriesKept()
        self.heads: list[tuple[str, list[tuple[str, str]]]] = []
        self.parts: list[bytes] = []
        call = Call(application, self.client, {"HTTP_METHOD": "GET", "HTTP_PATH": "/x"}, self.log)
        body = call({}, self._start)
        for part in body:
            self.parts.append(part)
            if len(self.parts) == take:
                break
        body.close()  # type: ignore[attr-defined]

    def _start(self, status: str, headers: list[tuple[str, str]]) -> Any:
        self.heads.append((status, headers))
        return self.parts.append

    @property
    def status(self) -> str:
        (head,) = self.heads
        return head[0]

    @property
    def failures(self) -> list[str]:
        return [str(entry.message) for entry in self.log.entries if "EXCEPTION_TYPE" in entry.fields]


class Body:
    """A body that knows whether it was closed."""

    def __init__(self, *chunks: Any, fails: bool = False) -> None:
        self.chunks = chunks
        self.closed = 0
        self.fails = fails

    def __iter__(self) -> Any:
        for one in self.chunks:
            if isinstance(one, BaseException):
                raise one
            yield one

    def close(self) -> None:
        self.closed += 1
        if self.fails:
            raise OSError("close failed")


def says(status: Any = "200 OK", headers: Any = (), body: Any = (b"x",)) -> Any:
    def application(_environ: Any, start_response: Any) -> Any:
        start_response(status, list(headers))
        return body

    return application


def test_a_list_is_sent_with_its_length() -> None:
    """PEP 3333, Handling the Content-Length Header."""
    response = Response(says(body=[b"hello"]))
    assert response.heads == [("200 OK", [("Content-Length", "5")])]
    assert response.parts == [b"hello"]


def test_a_length_of_its_own_stands() -> None:
    """To a HEAD, for one."""
    assert Response(says(headers=[("content-length", "9")], body=[b""])).heads[0][1] == [("content-length", "9")]


def test_an_empty_body() -> None:
    """The head is sent all the same."""
    response = Response(says(body=[]))
    assert (response.status, response.parts) == ("200 OK", [])


def test_the_head_waits_for_the_body() -> None:
    """Until the first bytes, the application may change its mind."""

    def application(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b""
        try:
            raise KeyError("late")
        except KeyError:
            start_response("503 Later", [], sys.exc_info())
        yield b"sorry"

    response = Response(application)
    assert (response.status, response.parts, response.failures) == ("503 Later", [b"sorry"], [])


def test_too_late_to_change_its_mind() -> None:
    """exc_info is raised again, and the response is cut."""

    def application(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b"begun"
        try:
            raise KeyError("late")
        except KeyError:
            start_response("500 Oh", [], sys.exc_info())

    response = Response(application)
    assert (response.status, response.parts, response.client.was_cut) == ("200 OK", [b"begun"], True)
    (failure,) = response.failures
    assert failure.endswith("KeyError: 'late'")


def test_write() -> None:
    """The write callable sends before the body."""

    def application(_environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        write(b"one")
        return [b"two"]

    response = Response(application)
    assert (response.heads, response.parts) == ([("200 OK", [])], [b"one", b"two"])


BROKEN = {
    "raises": (lambda environ, start: 1 / 0, "ZeroDivisionError"),
    "exits": (lambda environ, start: sys.exit(3), "SystemExit"),
    "no start_response": (lambda environ, start: [], "did not call start_response"),
    "body before start_response": (lambda environ, start: [b"x"], "without calling start_response"),
    "text": (says(body=["text"]), "bytes, not str"),
    "None": (lambda environ, start: start("200 OK", []) and None, "TypeError"),
    "no status": (says("OK"), "no status"),
    "a status of bytes": (says(b"200 OK"), "str, not bytes"),
    "an informational status": (says("100 Continue"), "no status"),
    "a status with a line break": (says("200 OK\r\nX: y"), "no status"),
    "a header with a line break": (says(headers=[("X", "a\r\nSet-Cookie: b")]), "no header"),
    "a header without a name": (says(headers=[("", "a")]), "no header"),
    "a header of bytes": (says(headers=[(b"X", b"a")]), "two str"),
    "two lengths": (says(headers=[("Content-Length", "1"), ("content-length", "1")]), "one number"),
    "a length that is none": (says(headers=[("Content-Length", "+1")]), "one number"),
    "start_response twice": (lambda environ, start: [start("200 OK", []), start("200 OK", [])], "twice"),
    "a body that raises": (says(body=Body(ValueError("early"))), "early"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken(kind: str) -> None:
    """500, one entry with the request and the failure, and nothing of it to the client."""
    application, said = BROKEN[kind]
    response = Response(application)
    assert response.status == "500 Internal Server Error"
    assert response.parts == [b"500 Internal Server Error\n"]
    (failure,) = response.failures
    assert said in failure
    (entry,) = response.log.entries
    wanted = {"HTTP_METHOD": "GET", "HTTP_PATH": "/x", "LOGGER": "appd.wsgi"}
    assert wanted.items() <= entry.fields.items()
    assert not response.client.was_cut


def test_a_status_without_a_reason() -> None:
    """It gets the usual one."""
    assert Response(says("404")).status == "404 Not Found"
    assert Response(says("299 ")).status == "299 Unknown"


@pytest.mark.parametrize("body", [Body(b"a", b"b"), Body(b"a", ValueError("broken")), Body(ValueError("early"))])
def test_the_body_is_closed(body: Body) -> None:
    """Once, whatever happened."""
    Response(says(body=body))
    assert body.closed == 1


def test_the_body_is_closed_when_the_engine_stops() -> None:
    """The client has gone."""
    body = Body(b"a", b"b")
    assert Response(says(body=body), take=1).parts == [b"a"]
    assert body.closed == 1


def test_close_fails() -> None:
    """The response is out; the log tells."""
    response = Response(says(body=Body(b"a", fails=True)))
    assert response.parts == [b"a"]
    (failure,) = response.failures
    assert failure.endswith("OSError: close failed")


def test_nobody_waits() -> None:
    """A client that left while the call waited for a thread: nothing is called."""
    client = Client()
    client.gone = True
    response = Response(lambda *_: 1 / 0, client)
    assert (response.heads, response.parts, response.failures) == ([], [], [])


def test_the_pace() -> None:
    """A stream is sent in parts that the client may slow down; what is in memory as a whole is not."""
    response = Response(says(body=Body(b"x" * 600_000)))
    assert [len(part) for part in response.parts] == [262_144, 262_144, 75_712]
    assert response.client.paced == 600_000
    assert Response(says(body=[b"x" * 600_000])).client.paced == 0


def test_errors() -> None:
    """wsgi.errors: an entry a line, the last one too, with the request."""

    def application(environ: Any, start_response: Any) -> Any:
        errors = environ["wsgi.errors"]
        errors.write("one\ntw")
        errors.flush()
        errors.writelines(["o\r\n", "\n"])
        print("three", file=errors)
        errors.write("four")
        with pytest.raises(TypeError):
            errors.write(b"bytes")
        return says()(environ, start_response)

    response = Response(application)
    assert [entry.message for entry in response.log.entries] == ["one", "two", "three", "four"]
    first = response.log.entries[0]
    assert (first.fields["LOGGER"], first.priority, first.fields["HTTP_PATH"]) == ("wsgi.errors", ERROR, "/x")


def test_errors_without_a_line_end() -> None:
    """They do not fill the memory."""

    def application(environ: Any, start_response: Any) -> Any:
        for _ in range(10):
            environ["wsgi.errors"].write("x" * 10_000)
        return says()(environ, start_response)

    assert [len(entry.message) for entry in Response(application).log.entries] == [70_000, 30_000]
