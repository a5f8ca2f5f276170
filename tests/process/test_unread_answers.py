"""Who asks and asks and takes no answer: is not read any more, costs the process no memory, and gets every answer when it reads."""

from __future__ import annotations

import select
import socket
import ssl
import struct

import pytest
from support.authority import Authority
from support.running import listening

ZONE = "$TTL 60\n@ IN SOA ns h 1 60 60 60 60\n IN NS ns\nns IN A 192.0.2.1\nt IN TXT " + '"' + "x" * 200 + '"\n'
QUERY = b"\x01\x02\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01t\x07example\x03org\x00\x00\x10\x00\x01"
TEXTS = {
    "dns": "<dns d>\n {address} systemd:name=h\n zone example.org {folder}/zone\n {tls}\n</dns>\n",
    "smtp": "<smtp s>\n {address} systemd:name=h\n domains example.org\n maildir {folder}/%u\n {tls}\n</smtp>\n",
    "amp": "<amp a>\n {address} systemd:name=h\n responder squares:Squares\n {tls}\n</amp>\n",
    "ftp": "<ftp f>\n {address} systemd:name=h\n anonymous on\n root {folder}\n {tls}\n</ftp>\n",
}
BOX = ("_ask", "1", "_command", "Square", "number", "12", "")
REQUESTS = {
    "amp": b"".join(struct.pack("!H", len(one)) + one.encode() for one in BOX),
    "dns": struct.pack("!H", len(QUERY)) + QUERY,
    "ftp": b"NOOP\r\n",
    "smtp": b"NOOP\r\n",
}
# What comes back for each: the text that is in it once.
ANSWERS = {"amp": b"144", "dns": QUERY[12:], "ftp": b"200 ", "smtp": b"nothing done"}
ENOUGH = 4_000_000
SQUARES = """
from twisted.protocols import amp
class Square(amp.Command):
    arguments = ((b"number", amp.Integer()),)
    response = ((b"square", amp.Integer()),)
class Squares(amp.CommandLocator):
    @Square.responder
    def square(self, number):
        return {"square": number * number}
"""


@pytest.fixture
def serve(start, tmp_path):
    """Starts a server with small buffers in the kernel; gives a connection to it."""
    authority = Authority("ca")
    authority.issue("localhost").write(tmp_path / "server.pem")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "zone").write_text(ZONE)
    (tmp_path / "squares.py").write_text(SQUARES)
    made = []

    def begin(kind, tls):
        listener = listening()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        text = TEXTS[kind].format(
            folder=tmp_path,
            address="tls-address" if tls else "address",
            tls=f"<tls>\n  certificate {tmp_path}/server.pem\n </tls>" if tls else "",
        )
        start(f"python-path {tmp_path}\n{text}", ("h", listener)).wait_ready()
        client = socket.socket()
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            client.setsockopt(socket.SOL_SOCKET, option, 16384)
        client.settimeout(20)
        client.connect(listener.getsockname())
        if tls:
            context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
            client = context.wrap_socket(client, server_hostname="localhost")
        made.append(client)
        return client

    yield begin
    for one in made:
        one.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("kind", sorted(TEXTS))
def test_who_reads_nothing_is_not_read(serve, kind, tls):
    client = serve(kind, tls)
    if kind in ("ftp", "smtp"):
        client.recv(1000)
    if kind == "ftp":
        client.sendall(b"USER anonymous\r\nPASS x\r\n")
        seen = b""
        while b"230 " not in seen:
            seen += client.recv(1000)
    request = REQUESTS[kind]
    block = request * (8192 // len(request))
    client.setblocking(False)
    sent, rest = 0, b""

    def send():
        nonlocal sent, rest
        rest = rest or block
        try:
            count = client.send(rest)
        except (BlockingIOError, ssl.SSLWantWriteError):
            return False
        sent, rest = sent + count, rest[count:]
        return True

    # Two seconds in which nothing more is taken are the end of it; a busy machine makes it no worse.
    while sent < ENOUGH and (send() or select.select([], [client], [], 2)[1]):
        pass
    assert sent < ENOUGH, f"{sent} bytes were taken, and no answer read"
    # All that was asked is answered in the end.
    wanted, answers, tail = ANSWERS[kind], 0, b""
    while answers < (sent + len(rest)) // len(request):
        assert select.select([client], [], [], 20)[0], "no answer"
        if rest:
            send()
        try:
            data = client.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            continue
        assert data, "the end, too early"
        answers += (tail + data).count(wanted)
        tail = (tail + data)[-(len(wanted) - 1) :]
