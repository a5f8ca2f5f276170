"""The clients of bench/soak.py."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2Connection, H2ConnectionStateMachine
from h2.events import DataReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from tls import client_context
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Request

# After GOAWAY the streams that there are go on (RFC 9113, 6.8); the library would take nothing more of the connection.
_TRANSITIONS: Any = H2ConnectionStateMachine._transitions
_TRANSITIONS[ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY] = (None, ConnectionState.CLIENT_OPEN)


class Clients:
    """Threads that ask, each in its manner, while they are allowed to.

    Args:
        ports: `port` and `tls` of the server on the lane, `live` and `live_tls` of the one with every kind of mount.
        path: The UNIX socket of the lane.
    """

    def __init__(self, ports: Mapping[str, int], path: str) -> None:
        self.counts: Counter[str] = Counter()
        self._address = ("127.0.0.1", ports["port"])
        self._ports = ports
        self._context = client_context()
        self._h2_context = client_context()
        self._h2_context.set_alpn_protocols(["h2"])
        self._path = path
        self._allowed = threading.Event()
        self._busy: set[int] = set()
        self._end = False
        manners = [self.quick, self.quick, self.unix, self.upload, self.slow_reader, self.slow_writer, self.leaver]
        manners += [self.secure, self.mixed, self.websocket, self.http2, self.http2_leaver]
        self._threads = [threading.Thread(target=self._run, args=(one,), daemon=True) for one in manners * 2]
        for one in self._threads:
            one.start()

    def resume(self) -> None:
        self._allowed.set()

    def pause(self) -> None:
        """Returns when nobody asks any more."""
        self._allowed.clear()
        while self._busy:
            time.sleep(0.02)

    def close(self) -> None:
        self.pause()
        self._end = True
        self._allowed.set()
        for one in self._threads:
            one.join(20)

    def _run(self, manner) -> None:
        me = threading.get_ident()
        while True:
            self._allowed.wait()
            if self._end:
                return
            self._busy.add(me)
            try:
                if self._allowed.is_set():
                    manner()
                    self.counts[manner.__name__] += 1
            except (OSError, http.client.HTTPException, ProtocolError, AssertionError) as error:
                self.counts[f"LOST {manner.__name__}: {error!r}"] += 1
            finally:
                self._busy.discard(me)

    def _connect(self) -> socket.socket:
        return socket.create_connection(self._address, 20)

    def quick(self) -> None:
        """Some requests on a connection that stays."""
        connection = http.client.HTTPConnection(*self._address, timeout=20)
        try:
            for _ in range(10):
                path = random.choice(["/", "/sleep", "/fail", "/static/small", "/static/large", "/nowhere"])
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                assert response.status == (500 if path == "/fail" else 200), (path, response.status)
                # What a drain closes is opened again, as every client does.
        finally:
            connection.close()

    def unix(self) -> None:
        """Pipelined requests over the UNIX socket."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(self._path)
            request = b"GET / HTTP/1.1\r\nHost: x\r\n"
            client.sendall((request + b"\r\n") * 4 + request + b"Connection: close\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(65536), b""))
            assert answer.count(b"HTTP/1.1 200") == 5, answer[:200]

    def upload(self) -> None:
        """In chunks, through a file."""
        connection = http.client.HTTPConnection(*self._address, timeout=20)
        try:
            connection.request("POST", "/", body=iter([b"z" * 40_000] * 5), encode_chunked=True)
            assert connection.getresponse().read() == b"200000"
        finally:
            connection.close()

    def slow_reader(self) -> None:
        with self._connect() as client:
            path = random.choice([b"/large", b"/stream", b"/static/large"])
            client.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
            count = 0
            while part := client.recv(262144):
                count += len(part)
                time.sleep(0.005)
            assert count > 2_000_000, count

    def slow_writer(self) -> None:
        with self._connect() as client:
            for part in (
                b"POST / HT",
                b"TP/1.1\r\nHost: x\r\nConnection: close\r\n",
                b"Content-Length: 6\r\n\r\nab",
                b"cd",
                b"ef",
            ):
                client.sendall(part)
                time.sleep(0.02)
            assert b"\r\n\r\n6" in b"".join(iter(lambda: client.recv(65536), b""))

    def leaver(self) -> None:
        """Goes away, in the middle of anything, politely or not."""
        with self._connect() as client:
            start = random.choice(
                [
                    b"",
                    b"GET /lar",
                    b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
                    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nabc",
                ]
            )
            client.sendall(start)
            if random.random() < 0.5:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.01)

    def secure(self) -> None:
        """Over TLS, in the lane and on the loop."""
        for name, path in (("tls", "/"), ("tls", "/static/large"), ("live_tls", "/"), ("live_tls", "/live/large")):
            connection = http.client.HTTPSConnection("127.0.0.1", self._ports[name], timeout=20, context=self._context)
            try:
                for _ in range(3):
                    connection.request("GET", path)
                    response = connection.getresponse()
                    length = len(response.read())
                    assert response.status == 200 and (length > 2_000_000) == path.endswith("large"), (path, length)
            finally:
                connection.close()

    def mixed(self) -> None:
        """Every kind of mount on one connection, which goes from engine to engine."""
        connection = http.client.HTTPConnection("127.0.0.1", self._ports["live"], timeout=20)
        paths = ["/", "/live", "/live/large", "/shelf", "/shelf/large", "/up", "/up/large", "/static/large"]
        try:
            for _ in range(6):
                path = random.choice(paths)
                body = b"u" * random.choice([0, 10, 200_000]) if not path.endswith("large") else b""
                connection.request("POST" if body else "GET", path, body or None)
                response = connection.getresponse()
                answer = response.read()
                right = len(answer) > 2_000_000 if path.endswith("large") else answer == b"%d" % len(body)
                assert response.status == 200 and right, (path, response.status, len(answer))
        finally:
            connection.close()

    def websocket(self) -> None:
        """Some messages and their echoes, and a close that is answered."""
        with socket.create_connection(("127.0.0.1", self._ports["live"]), 20) as client:
            talk = WSConnection(ConnectionType.CLIENT)
            client.sendall(talk.send(Request(host="x", target="/live")))
            _next(client, talk, AcceptConnection)
            for size in (1, 1000, 100_000):
                client.sendall(talk.send(Message(b"m" * size)))
                got = b""
                while len(got) < size:
                    got += _next(client, talk, Message).data
                assert got == b"m" * size
            client.sendall(talk.send(CloseConnection(1000)))
            _next(client, talk, CloseConnection)

    def _http2(self) -> tuple[socket.socket, H2Connection]:
        plain = socket.create_connection(("127.0.0.1", self._ports["live_tls"]), 20)
        client = self._h2_context.wrap_socket(plain, server_hostname="x")
        talk = H2Connection(H2Configuration(header_encoding="utf-8"))
        talk.initiate_connection()
        return client, talk

    @staticmethod
    def _ask(talk: H2Connection, path: str, body: bytes = b"") -> int:
        stream: int = talk.get_next_available_stream_id()
        fields = [(":method", "POST" if body else "GET"), (":scheme", "https"), (":authority", "x"), (":path", path)]
        talk.send_headers(stream, fields, end_stream=not body)
        if body:
            talk.send_data(stream, body, end_stream=True)
        return stream

    def http2(self) -> None:
        """Many streams at once, for every kind of mount, small and large."""
        client, talk = self._http2()
        with client:
            paths = ["/", "/live", "/shelf", "/up", "/live/large", "/shelf/large", "/static/large", "/large"]
            wanted = {self._ask(talk, path): path for path in paths}
            wanted |= {self._ask(talk, path, b"u" * 1000): "posted" for path in ("/", "/live", "/shelf", "/up")}
            client.sendall(talk.data_to_send())
            bodies: Counter[int] = Counter()
            while wanted:
                data = client.recv(262144)
                assert data, f"ended with {sorted(wanted.values())} to come"
                for event in talk.receive_data(data):
                    if isinstance(event, DataReceived):
                        bodies[event.stream_id] += len(event.data)
                        talk.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, StreamEnded):
                        path = wanted.pop(event.stream_id)
                        length = bodies[event.stream_id]
                        assert (length > 2_000_000) == path.endswith("large"), (path, length)
                    else:
                        assert not isinstance(event, StreamReset), wanted[event.stream_id]
                client.sendall(talk.data_to_send())
            talk.close_connection()
            client.sendall(talk.data_to_send())

    def http2_leaver(self) -> None:
        """Resets some of its streams, and goes away in the middle of the others."""
        client, talk = self._http2()
        with client:
            streams = [
                self._ask(talk, path) for path in ("/live/large", "/large", "/up/large", "/sleep", "/shelf/large")
            ]
            client.sendall(talk.data_to_send())
            client.recv(65536)
            for stream in random.sample(streams, 2):
                talk.reset_stream(stream)
            client.sendall(talk.data_to_send())
            if random.random() < 0.5:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _next(client: socket.socket, talk: WSConnection, kind: type) -> Any:
    """The next event, which is of that kind."""
    while True:
        for event in talk.events():
            assert isinstance(event, kind), event
            return event
        data = client.recv(65536)
        talk.receive_data(data or None)
