"""A connection: responses, what keeps it open and what ends it, 100 Continue, and misuse."""

from __future__ import annotations

import pytest
from support.http1 import LIMITS, ORIGIN, connection

from appd.http.core import head, response, target
from appd.http.core.connection import CLOSED, END, NEED_DATA, PAUSED, Connection
from appd.http.core.date import Origin
from appd.http.core.errors import Incomplete, Misuse, Refused, WrongState
from appd.http.core.request import Request
from appd.http.core.response import prepare
from appd.http.core.states import READING, WRITING

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"
OLD_KEPT = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
POST_EXPECTING = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
ABOUT = b"Server: appd\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
PLAIN = (("Content-Type", "text/plain"),)


def asked(data: bytes = GET, limits=LIMITS) -> Connection:
    """A connection on which something was asked."""
    one = connection(limits)
    one.receive(data)
    assert isinstance(one.next(), Request)
    return one


def test_a_response_of_known_length():
    """Head and body, and the connection stays."""
    one = asked()
    assert (
        one.head(200, PLAIN, 5)
        == b"HTTP/1.1 200 OK\r\n" + ABOUT + b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\n"
    )
    assert one.sending
    assert one.body(b"hel") + one.body(b"") + one.body(b"lo") + one.end() == b"hello"
    assert not one.closing and one.idle and one.request is None
    assert one.next() is NEED_DATA


def test_a_whole_response_is_the_same():
    """In one call, from fields or from what was prepared."""
    one, other = asked(), asked()
    assert one.whole("200 OK", PLAIN, b"hello") == other.whole(200, prepare(PLAIN), b"hello")
    assert one.idle


def test_the_application_gives_the_length():
    """Its own is sent, once, as it is spelled."""
    sent = asked().whole("200 Fine", [("content-LENGTH", "5")], b"hello")
    assert sent == b"HTTP/1.1 200 Fine\r\n" + ABOUT + b"content-LENGTH: 5\r\n\r\nhello"


def test_a_body_in_chunks():
    """Where nobody knows the length; an empty part is not the end."""
    one = asked()
    assert one.head("404 Not Found").endswith(b"Transfer-Encoding: chunked\r\n\r\n")
    assert one.body(b"") == b""
    assert one.body(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert one.end() == b"0\r\n\r\n"
    assert one.idle


def test_trailers_come_after_chunks():
    """And nowhere else."""
    one = asked()
    one.head(200)
    assert one.end([("X-Sum", "1")]) == b"0\r\nX-Sum: 1\r\n\r\n"
    one = asked()
    one.head(200, length=0)
    assert one.end([("X-Sum", "1")]) == b""
    one = asked()
    one.head(200)
    with pytest.raises(Misuse):
        one.end([("X", "a\r\nb")])
    with pytest.raises(Misuse):
        one.end([("Content-Length", "5")])


def test_http_1_0_gets_the_end_of_the_connection_for_the_end_of_the_body():
    """It knows no chunks."""
    one = asked(OLD_KEPT)
    head = one.head(200)
    assert b"Connection: close\r\n" in head and b"Transfer-Encoding" not in head and b"Content-Length" not in head
    assert one.body(b"hello") + one.end() == b"hello"
    assert one.closing and one.next() is CLOSED


def test_http_1_0_stays_if_it_asks():
    """And is told so; not if it does not ask."""
    one = asked(OLD_KEPT)
    assert b"\r\nConnection: keep-alive\r\n" in one.whole(200, (), b"x")
    assert one.idle
    one = asked(OLD)
    assert b"\r\nConnection: close\r\n" in one.whole(200, (), b"x")
    assert one.next() is CLOSED


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(status):
    """Nothing is sent for it, and the length is not announced unless it is that of another response."""
    one = asked()
    head = one.head(status)
    assert b"Content-Length" not in head and b"Transfer-Encoding" not in head
    assert one.body(b"hello") + one.end() == b""
    assert one.idle


def test_a_204_has_no_length_and_a_205_has_none_of_it():
    """Whatever the application says: RFC 9110, 8.6 and 15.3.6."""
    assert b"Length" not in asked().whole(204, [("content-length", "5"), *PLAIN], b"hello")
    assert asked().whole(204, PLAIN, b"").count(b"\r\n") == 5
    sent = asked().whole(205, [("Content-Length", "5")], b"hello")
    assert sent.endswith(b"\r\nContent-Length: 0\r\n\r\n") and sent.count(b"Length") == 1


def test_a_304_may_tell_the_length_of_what_it_stands_for():
    """RFC 9110, 8.6."""
    one = asked()
    assert b"\r\nContent-Length: 99\r\n" in one.head(304, length=99)
    assert one.end() == b""
    assert one.idle


def test_head_has_the_head_only():
    """With the length, if somebody knows it; never with one of nothing because nothing was made."""
    one = asked(HEAD)
    assert one.whole(200, [("Content-Length", "5")], b"hello").endswith(b"Content-Length: 5\r\n\r\n")
    assert one.idle
    assert asked(HEAD).whole(200, (), b"hello").endswith(b"Content-Length: 5\r\n\r\n")
    assert b"Length" not in asked(HEAD).whole(200, (), b"")
    one = asked(HEAD)
    assert b"Transfer-Encoding" not in one.head(200)
    assert one.body(b"x") + one.end() == b""
    assert one.idle


def test_too_much_of_a_body_is_cut():
    """And counted: what follows on the connection would be read as a response."""
    one = asked()
    one.head(200, length=5)
    assert one.body(b"hello you") == b"hello"
    assert one.body(b"!") == b""
    assert one.end() == b"" and one.overrun == 5
    assert one.idle
    one.receive(GET)
    one.next()
    one.whole(200, (), b"hello")
    assert one.overrun == 0


def test_too_little_of_a_body_ends_the_connection():
    """The client must not take it for all."""
    one = asked()
    one.head(200, length=5)
    one.body(b"hell")
    with pytest.raises(Incomplete, match="1 bytes shorter"):
        one.end()
    assert one.closing and one.next() is CLOSED


def test_files_go_past_the_body():
    """As much of them as the response has room for."""
    one = asked()
    one.head(200, length=5)
    assert one.body(b"he") == b"he"
    assert (one.pass_by(2), one.pass_by(9), one.pass_by(9)) == (2, 1, 0)
    assert one.end() == b"" and one.overrun == 17
    one = asked(HEAD)
    one.head(200, length=5)
    assert one.pass_by(5) == 0 and one.end() == b"" and one.overrun == 0
    one = asked(OLD)
    one.head(200)
    assert one.pass_by(5) == 5
    one = asked()
    one.head(200)
    with pytest.raises(WrongState):
        one.pass_by(5)


def test_pipelined_requests_wait_for_their_turn():
    """One response after the other."""
    one = asked(GET + POST + b"hello" + GET)
    assert one.next() is PAUSED and one.buffered
    one.whole(200, (), b"")
    assert one.next().method == "POST"
    assert (one.next(), one.next(), one.next()) == (b"hello", END, PAUSED)
    one.whole(200, (), b"")
    assert one.next().method == "GET" and not one.buffered
    assert one.requests == 3


def test_a_response_before_the_body_has_come_ends_the_connection():
    """Nobody waits for what nobody wants."""
    one = asked(POST + b"hel")
    assert b"Connection: close" not in one.whole(200, (), b"x")
    assert one.closing and one.next() is CLOSED


def test_a_body_that_comes_while_the_response_is_sent():
    """An application may answer as it reads."""
    one = asked(POST + b"hel")
    one.head(200)
    assert one.next() == b"hel"
    one.body(b"hel")
    assert one.next() is NEED_DATA
    one.receive(b"lo" + GET)
    assert (one.next(), one.next()) == (b"lo", END)
    one.end()
    assert one.next().method == "GET"


def test_100_continue():
    """Due until it was said, or the body has come."""
    one = asked(POST_EXPECTING)
    assert one.continue_due
    assert one.go_on() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert not one.continue_due
    one.receive(b"hello")
    assert (one.next(), one.next()) == (b"hello", END)
    assert b"Connection" not in one.whole(200, (), b"x") and one.idle


def test_100_continue_is_not_said_when_the_body_is_there():
    """A client may have got tired of waiting."""
    one = asked(POST_EXPECTING + b"he")
    assert not one.continue_due
    assert one.next() == b"he"
    assert not one.continue_due and one.next() is NEED_DATA and not one.continue_due


def test_a_final_response_in_place_of_100_says_that_it_is_the_last():
    """RFC 9110, 10.1.1: whether a body comes cannot be known."""
    one = asked(POST_EXPECTING)
    assert b"\r\nConnection: close\r\n" in one.whole(417, (), b"")
    assert one.next() is CLOSED


def test_nothing_waits_for_a_100_without_a_body_or_in_http_1_0():
    """An expectation of nothing."""
    assert not asked(b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").continue_due
    assert not asked(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n").continue_due
    assert not connection().continue_due


def test_a_client_that_ends_its_side_is_still_answered():
    """And told that it was the last."""
    one = asked(GET + GET)
    one.receive(b"")
    assert b"Connection" not in one.whole(200, (), b"x")
    assert isinstance(one.next(), Request)
    assert b"\r\nConnection: close\r\n" in one.whole(200, (), b"x")
    assert one.next() is CLOSED


def test_the_end_between_two_requests_is_no_fault():
    """It is how connections end."""
    one = connection()
    one.receive(b"")
    assert one.next() is CLOSED


@pytest.mark.parametrize("data", [b"G", GET[:-1], POST + b"hell", POST])
def test_the_end_within_a_request_is(data):
    """Nothing more can come of it."""
    one = connection()
    one.receive(data)
    if data.startswith(POST):
        one.next()
    one.receive(b"")
    with pytest.raises(Refused, match="ended within"):
        while one.next() is not NEED_DATA:
            pass
    assert one.refusal(Refused(400, "")) and one.next() is CLOSED


def test_the_last_request_of_a_connection():
    """After so many it is closed."""
    limits = LIMITS._replace(requests_per_connection=2)
    one = asked(GET, limits)
    assert b"Connection" not in one.whole(200, (), b"x")
    one.receive(GET)
    one.next()
    assert b"\r\nConnection: close\r\n" in one.whole(200, (), b"x")
    assert one.closing


def test_a_drain_lets_the_response_be_the_last():
    """If it has not begun."""
    one = asked(GET + GET)
    one.closing = True
    assert b"\r\nConnection: close\r\n" in one.whole(200, (), b"x")
    assert one.next() is CLOSED and not one.buffered


def test_an_answer_before_any_request():
    """408, 503: the last word."""
    one = connection()
    one.receive(b"GET /")
    assert one.next() is NEED_DATA
    sent = one.refusal(Refused(408, "slow"))
    assert sent == (
        b"HTTP/1.1 408 Request Timeout\r\n"
        + ABOUT
        + b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 20\r\nConnection: close\r\n\r\n408 Request Timeout\n"
    )
    assert one.next() is CLOSED


def test_a_refusal_is_not_written_into_a_response():
    """The client would read it as a part of that."""
    one = asked(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    one.head(200)
    one.receive(b"x\r\n")
    with pytest.raises(Refused) as refused:
        one.next()
    assert one.sending and one.refusal(refused.value) == b""
    assert one.next() is CLOSED


def test_a_refused_body_can_be_answered():
    """While nothing was sent; a HEAD even then has no body."""
    one = asked(b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
    with pytest.raises(Refused) as refused:
        one.next()
    assert one.next() is PAUSED
    assert one.refusal(refused.value).endswith(b"Connection: close\r\n\r\n")
    assert one.next() is CLOSED


def test_handing_on():
    """Somebody else takes what was not read."""
    one = asked(GET + b"more")
    one.whole(200, (), b"")
    assert one.rest() == b"more"
    assert one.next() is CLOSED


def test_one_empty_line_leaves_a_connection_idle():
    """It begins no request, as far as deadlines are concerned; a byte does."""
    one = connection()
    one.receive(b"\r\n")
    assert one.next() is NEED_DATA and one.idle
    one.receive(b"G")
    assert one.next() is NEED_DATA and not one.idle


def test_a_slow_head_is_not_looked_at_again_and_again():
    """What was judged is not judged a second time: a byte costs the line that it is in."""
    one = connection()
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(90))
    one.receive(b"GET / HTTP/1.1\r\n" + lines)
    assert one.next() is NEED_DATA
    assert one._checked == len(b"GET / HTTP/1.1\r\n" + lines)
    one.receive(b"Host: a\r\n\r\n")
    assert one.next().host == "a"


@pytest.mark.parametrize("name", ["Cookie", "Authorization", "Proxy-Authorization", "X-Api-Key", "X-CSRF-Token"])
def test_secrets_are_not_kept(name):
    """What is remembered of requests and responses is what everybody sends."""
    asked(f"GET / HTTP/1.1\r\nHost: a\r\n{name}: hunter2\r\nX-Open: hunter3\r\n\r\n".encode())
    asked().head(200, [(f"Set-{name}", "hunter2"), ("X-Open", "hunter3")])
    assert "X-Open: hunter3" in head._LINES and ("X-Open", "hunter3") in response._LINES
    assert "hunter2" not in repr(head._LINES) + repr(response._LINES)


def test_what_is_remembered_has_bounds():
    """Nobody fills the memory with fields, names, hosts or statuses of their own."""
    for number in range(3000):
        one = asked(f"GET / HTTP/1.1\r\nHost: h{number}\r\nX-{number}: y\r\nLong: {'x' * 300}\r\n\r\n".encode())
        one.whole(f"200 {number}", [(f"X-{number}", "y"), ("Long", "x" * 300)], b"")
    assert len(head._LINES) <= 2048 and len(target._HOSTS) <= 1024
    assert max(map(len, head._LINES)) <= 256
    assert max(len(response._LINES), len(response._KINDS), len(response._STATUS_LINES)) <= 512


MISUSED = {
    "a line end in a value": [("X", "a\r\nSet-Cookie: b")],
    "LF in a value": [("X", "a\nb")],
    "CR in a value": [("X", "a\rb")],
    "NUL in a value": [("X", "a\0")],
    "beyond latin-1": [("X", "\u20ac")],
    "a line end in a name": [("X\r\nY", "a")],
    "a space in a name": [("X Y", "a")],
    "a colon in a name": [("X:", "a")],
    "an empty name": [("", "a")],
    "bytes": [(b"X", b"a")],
    "no text": [("X", None)],
    "a list": [["X", "a"]],
    "three parts": [("X", "a", "b")],
    "Connection": [("Connection", "close")],
    "Transfer-Encoding": [("transfer-encoding", "chunked")],
    "Keep-Alive": [("Keep-Alive", "timeout=5")],
    "Upgrade": [("Upgrade", "h2c")],
    "a length that is none": [("Content-Length", "x")],
    "a negative length": [("Content-Length", "-1")],
    "a length of superscripts": [("Content-Length", "\u00b2")],
    "two lengths": [("Content-Length", "1"), ("content-length", "1")],
}


@pytest.mark.parametrize("case", MISUSED)
def test_fields_that_cannot_be_sent(case):
    """Nothing has begun then: the driver can still say 500. Judged the same the second time."""
    one = asked()
    for _ in range(2):
        with pytest.raises(Misuse):
            one.head(200, MISUSED[case])
    assert not one.sending
    assert one.whole(500, (), b"").startswith(b"HTTP/1.1 500 Internal Server Error\r\n")


@pytest.mark.parametrize(
    "status", [100, 103, 199, 600, 99, 1000, 0, "200OK", "200 a\r\nb", "OK", "", "2000 x", "\u0662\u0660\u0660 x"]
)
def test_statuses_that_cannot_be_sent(status):
    """Three digits, final, and a reason of one line."""
    with pytest.raises(Misuse):
        asked().head(status)


def test_the_applications_date_and_server_go_before():
    """There is one of each."""
    sent = asked().whole(200, [("Date", "x"), ("SERVER", "y")], b"")
    assert sent == b"HTTP/1.1 200 OK\r\nDate: x\r\nSERVER: y\r\nContent-Length: 0\r\n\r\n"
    sent = asked().whole(200, [("Server", "y")], b"")
    assert sent.count(b"Date: Sun, 06") == 1 and sent.count(b"Server") == 1


def test_statuses_without_a_known_reason():
    """The space after the number stays: RFC 9112, 4."""
    assert asked().whole(599, (), b"").startswith(b"HTTP/1.1 599 \r\n")
    assert asked().whole("299 Odd", (), b"").startswith(b"HTTP/1.1 299 Odd\r\n")


def test_calls_at_the_wrong_time():
    """Bugs of a driver are errors, not bytes on the wire."""
    one = connection()
    for call in (lambda: one.body(b"x"), one.end, one.go_on, lambda: one.pass_by(1)):
        with pytest.raises(WrongState):
            call()
    one = asked()
    with pytest.raises(WrongState):
        one.end()
    one.head(200, length=1)
    for call in (lambda: one.head(200), one.go_on):
        with pytest.raises(WrongState):
            call()
    one.cut()
    for call in (lambda: one.head(200), lambda: one.body(b"x"), one.end):
        with pytest.raises(WrongState):
            call()
    assert one.next() is CLOSED


@pytest.mark.parametrize("table", [READING, WRITING])
def test_the_tables_are_closed(table):
    """Every state that is led to exists, and each can be left for the end."""
    assert {state for row in table.values() for state in row.values()} <= set(table)
    assert all(row["close"] == "closed" for row in table.values())


def test_the_origin_says_the_date_once_a_second():
    """And a new one when the second is another."""
    assert ORIGIN.fields() is ORIGIN.fields()


def test_a_head_that_is_kept_is_the_same_request():
    """Heads are kept as a whole where nothing in them is a secret, and for the limits that they were judged by."""
    plain = b"GET /kept HTTP/1.1\r\nHost: kept.example\r\nAccept: */*\r\n\r\n"
    secret = plain.replace(b"\r\n\r\n", b"\r\nX-Api-Key: 1\r\n\r\n")
    first = asked(plain).request
    assert asked(plain).request is first
    assert asked(secret).request is not asked(secret).request
    strict = connection(LIMITS._replace(request_line=5))
    strict.receive(plain)
    with pytest.raises(Refused):
        strict.next()


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_without_a_body_has_none_however_it_is_said(status):
    """A length that the application gives does not make one."""
    head_, _, body = asked().whole(status, prepare([("Content-Length", "2")]), b"xx").partition(b"\r\n\r\n")
    assert not body
    assert (b"Content-Length: 2" in head_) is (status == 304)


def test_a_connection_that_is_as_new():
    """After a whole exchange nothing of it is needed, so that another client may have it."""
    one = connection()
    assert one.is_as_new()
    one.receive(GET)
    assert not one.is_as_new()
    one.next()
    assert not one.is_as_new()
    one.whole(200, PLAIN, b"hello")
    assert one.is_as_new()
    one.receive(b"")
    assert one.ended
    assert not one.is_as_new()


@pytest.mark.parametrize("more", [b"\r\n", b"\r", b"GE", GET])
def test_a_connection_that_is_not_as_new(more):
    """What has come of the next request counts, also the one empty line before it that is forgiven."""
    one = asked(GET + more)
    one.whole(200, PLAIN, b"hello")
    one.next()
    assert not one.is_as_new()


def test_a_connection_that_ends_is_not_as_new():
    """Nobody else may have it."""
    one = asked(OLD)
    one.whole(200, PLAIN, b"hello")
    assert not one.is_as_new()


ONCE = LIMITS._replace(requests_per_connection=1)


@pytest.mark.parametrize("limits", [LIMITS, ONCE], ids=["", "counted"])
@pytest.mark.parametrize("end", ["", "half-closed", "closing"])
@pytest.mark.parametrize("fields", [(), (("Date", "now"),), (("Server", "mine"),)], ids=["", "date", "server"])
@pytest.mark.parametrize("status", [200, "200 Fine", "404 Not Found", 204, "205 Reset Content", 304])
@pytest.mark.parametrize("asks", [GET, HEAD, OLD, OLD_KEPT, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")])
def test_what_was_seen_before_is_answered_as_at_first(asks, status, fields, end, limits):
    """Whatever is remembered of heads: the same bytes, and the same state of the connection, time and again."""
    prepared = prepare((*fields, ("Content-Length", "5")))

    def state(one, out):
        return out, one.closing, one.idle, one.is_as_new(), one.request, one.requests, one.overrun

    def answered(one):
        if end == "half-closed":
            one.receive(b"")
        one.closing = one.closing or end == "closing"

    step = connection(limits)
    step.receive(asks)
    assert isinstance(step.next(), Request)
    answered(step)
    bare = asks is HEAD or status == 304
    expected = step.head(status, prepare((*fields, ("Content-Length", "5"))), None if bare else 5)
    expected = state(step, expected + step.body(b"hello") + step.end())
    for _ in range(3):
        one = connection(limits)
        request = one.take(asks)
        assert isinstance(request or one.next(), Request)
        assert one.next() is PAUSED
        answered(one)
        assert state(one, one.whole(status, prepared, b"hello")) == expected


def test_a_head_that_is_taken_is_the_next_one():
    """Nothing may wait before it, and nothing be due."""
    asked()
    one = connection()
    assert isinstance(one.take(GET), Request)
    assert one.take(GET) is None
    assert one.next() is PAUSED
    one.whole(200, PLAIN, b"")
    assert isinstance(one.next(), Request)
    one.whole(200, PLAIN, b"")
    assert one.is_as_new()
    assert one.take(b"\r\n") is None and one.next() is NEED_DATA
    assert one.take(GET) is None and isinstance(one.next(), Request)
    one.whole(200, PLAIN, b"")
    assert one.take(b"GET / HT") is None
    assert one.take(GET) is None
    with pytest.raises(Refused):
        one.next()


def test_the_head_of_a_response_is_kept_for_a_second():
    """Then there is another date in it; and for the status that it was made for."""
    now = [784111777.0]
    origin = Origin("appd", clock=lambda: now[0])
    prepared = prepare([("Content-Length", "1")])

    def said(status):
        one = Connection(LIMITS, origin)
        one.receive(GET)
        one.next()
        return one.whole(status, prepared, b"x").decode().split("\r\n")

    assert said(200)[0] == "HTTP/1.1 200 OK"
    assert said(200)[2] == "Date: Sun, 06 Nov 1994 08:49:37 GMT"
    assert said("200 Fine")[0] == "HTTP/1.1 200 Fine"
    assert said(200)[0] == "HTTP/1.1 200 OK"
    now[0] += 1
    assert said(200)[2] == "Date: Sun, 06 Nov 1994 08:49:38 GMT"
