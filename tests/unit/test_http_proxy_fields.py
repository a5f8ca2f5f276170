"""What of a request goes to an upstream, and of its response to the client."""

from __future__ import annotations

from appd.http.proxy.fields import hops_of, request_fields, response_fields


def scope(*headers, kind="http", scheme="http", client=("192.0.2.1", 4711)):
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return {"type": kind, "scheme": scheme, "client": client, "http_version": "1.1", "headers": raw}


def test_what_is_said_of_one_connection_stays():
    """RFC 9110, 7.6.1: the usual names, and those that Connection lists."""
    fields = request_fields(
        scope(
            ("host", "shop"),
            ("connection", "close, X-Here"),
            ("x-here", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
            ("cookie", "a=b"),
            ("cookie", "c=d"),
            ("content-length", "5"),
        )
    )
    assert fields[:4] == [("accept", "*/*"), ("cookie", "a=b"), ("cookie", "c=d"), ("content-length", "5")]
    assert [name for name, _value in fields[4:]] == [
        "host",
        "via",
        "x-forwarded-proto",
        "x-forwarded-for",
        "x-forwarded-host",
        "forwarded",
    ]


def test_what_a_client_claims_is_replaced():
    """By what appd knows; whoever trusts us trusts nobody else."""
    named = dict(
        request_fields(
            scope(
                ("host", "shop"),
                ("x-forwarded-for", "1.2.3.4"),
                ("x-forwarded-prefix", "/admin"),
                ("x-real-ip", "1.2.3.4"),
                ("forwarded", "for=1.2.3.4"),
                scheme="https",
            )
        )
    )
    assert named["x-forwarded-for"] == "192.0.2.1"
    assert named["forwarded"] == 'for=192.0.2.1;host="shop";proto=https'
    assert "x-forwarded-prefix" not in named and "x-real-ip" not in named


def test_a_client_of_ipv6_and_one_without_an_address():
    """RFC 7239, 6: brackets and quotes; nothing where nothing is known."""
    assert 'for="[2001:db8::1]"' in dict(request_fields(scope(("host", "x"), client=("2001:db8::1", 1))))["forwarded"]
    unix = dict(request_fields(scope(("host", "x"), client=None)))
    assert "x-forwarded-for" not in unix and unix["forwarded"] == 'host="x";proto=http'


def test_via_and_circles():
    """RFC 9110, 7.6.3."""
    asked = scope(("host", "x"), ("via", "1.0 squid"), ("via", "1.1 appd, 1.1 appd"))
    assert dict(request_fields(asked))["via"] == "1.0 squid, 1.1 appd, 1.1 appd, 1.1 appd"
    assert hops_of(asked["headers"]) == 2


def test_the_host_of_the_upstream():
    """preserve-host off; the client's stays known."""
    named = dict(request_fields(scope(("host", "shop")), "backend:9000"))
    assert (named["host"], named["x-forwarded-host"]) == ("backend:9000", "shop")


def test_a_websocket_has_a_handshake_of_its_own():
    """Nothing of the client's key goes on."""
    named = dict(
        request_fields(
            scope(
                ("host", "x"),
                ("sec-websocket-key", "k"),
                ("sec-websocket-version", "13"),
                ("origin", "http://x"),
                kind="websocket",
                scheme="wss",
            )
        )
    )
    assert "sec-websocket-key" not in named and named["origin"] == "http://x" and named["x-forwarded-proto"] == "https"


def test_a_response():
    """Names in lower case, fields of the connection gone, all else in its order."""
    raw = [
        (b"Server", b"other"),
        (b"Connection", b"keep-alive, X-Here"),
        (b"X-Here", b"1"),
        (b"Set-Cookie", b"a=b"),
        (b"Set-Cookie", b"c=d"),
        (b"Transfer-Encoding", b"chunked"),
    ]
    assert response_fields(raw) == [(b"server", b"other"), (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")]
