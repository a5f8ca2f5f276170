"""Two workers that wait for the same socket share what comes, whatever accepts it."""

from __future__ import annotations

import selectors
import socket
import statistics
import time
from collections import Counter
from functools import partial
from typing import Any

import pytest
from support.service import HTTP, Service

BURST = 64
ASGI = """
import os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""
SERVERS = {
    "lane": HTTP,
    "loop": "<http h>\n address systemd:name=h\n <asgi>\n  application live:app\n </asgi>\n</http>\n",
    "port": "<server h>\n type theirs:factory\n address systemd:name=h\n processes all\n</server>\n",
}


def burst(address: Any) -> list[int]:
    """Opens connections all at once, and then asks on each. Returns who answered."""
    answers = []
    clients = [socket.socket() for _ in range(BURST)]
    with selectors.DefaultSelector() as selector:
        for one in clients:
            one.setblocking(False)
            one.connect_ex(address)
            selector.register(one, selectors.EVENT_WRITE, b"")
        while len(answers) < BURST:
            for key, events in selector.select(20.0):
                one: Any = key.fileobj
                if events & selectors.EVENT_WRITE:
                    one.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    selector.modify(one, selectors.EVENT_READ, b"")
                elif data := one.recv(65536):
                    selector.modify(one, selectors.EVENT_READ, key.data + data)
                else:
                    selector.unregister(one)
                    one.close()
                    answers.append(int(key.data.rpartition(b"\r\n\r\n")[2]))
    return answers


@pytest.mark.parametrize("accepts", SERVERS)
def test_a_burst_is_shared(start, tmp_path, accepts):
    """The busier of two workers has at most four fifths of 64 connections, in the median of 20 bursts."""
    (tmp_path / "live.py").write_text(ASGI)
    made = partial(Service, start, tmp_path)("workers 2\n", SERVERS[accepts])
    address = made.passed.getsockname()
    shares = []
    for _ in range(20):
        counts = Counter(burst(address))
        assert len(counts) <= 2 and sum(counts.values()) == BURST
        shares.append(max(counts.values()) / BURST)
        time.sleep(0.05)  # a lull: portions that have grown are small again
    assert statistics.median(shares) <= 0.8, shares
