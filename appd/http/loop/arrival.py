"""A connection over TLS on the loop, until its transport is there.

    PREFACE (where proxies say who comes) ─▶ HANDSHAKE ─▶ LoopClient

asyncio begins TLS with the first byte that it reads, so what comes before is read here, from the socket itself: the
header of the PROXY protocol to the byte, and a look at the byte behind it, which tells TLS from plain HTTP. Until there
is one OpenSSL is not asked for anything, so that a client that says nothing costs no more than a plain one. From the
first moment on it is one of the server's connections: it is counted, limited, drained and cut like the others.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

from appd.http.core.errors import Refused
from appd.http.core.proxyprotocol import read_proxy_header
from appd.http.lane.client import DRAIN_LINGER
from appd.http.lane.leaving import Phase
from appd.http.lane.tlsclient import HANDSHAKE, PLAIN_ANSWER
from appd.http.log.peer import peer_text
from appd.http.loop.client import LoopClient
from appd.http.loop.scope import tls_extension
from appd.journal import DEBUG

if TYPE_CHECKING:
    from appd.http.loop.driver import Driver

__all__ = ["Arrival"]

# So much of what lies in the socket is looked at for the end of a PROXY header.
_PEEK = 16384
# How long a transport waits for the client's close_notify is for `parting` to say.
_FOR_EVER = 86400.0


class Arrival:
    """A connection that has been accepted.

    Args:
        driver: What has it.
        door: Where it came in; its `security` is what makes it speak TLS.
        sock: The socket, non-blocking.
        host: The address of the peer, "" when it has none.
        port: Its port.

    Attributes:
        counted: See `Server.lost`.
        deadline: See `Deadlines`.
        tick: See `Deadlines`.
        secure: Whether the client speaks TLS with a proxy in front.
        is_beyond: Whether the client is one of a proxy's UNIX socket.

    Resource handling: owns the socket until the transport does.
    """

    __slots__ = (
        "_client",
        "_closed",
        "_phase",
        "_preface",
        "_reading",
        "_task",
        "counted",
        "deadline",
        "door",
        "driver",
        "host",
        "is_beyond",
        "port",
        "secure",
        "server",
        "sock",
        "tick",
    )

    def __init__(self, driver: Driver, door: Any, sock: socket.socket, host: str, port: int) -> None:
        self.driver = driver
        self.door = door
        self.server = door.server
        self.sock = sock
        self.host = host
        self.port = port
        self.counted = ""
        self.deadline, self.tick = 0.0, 0
        self.secure = self.is_beyond = False
        self._phase = Phase.PREFACE if self.server.proxy_protocol else Phase.HANDSHAKE
        self._preface = b""
        self._reading = self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._client: LoopClient | None = None

    def begin(self) -> None:
        """Begins, in the thread of the loop."""
        self.server.welcome(self)
        if not self._closed:
            self._look()

    # What `Server.welcome` asks for.

    @property
    def patience(self) -> float:
        """How long the first step may take, in seconds."""
        limits = self.server.limits
        wait: float = limits.header_timeout if self._phase == Phase.PREFACE else limits.handshake_timeout
        return wait

    def settle(self, wait: float) -> None:
        """Begins to wait for the first byte.

        Args:
            wait: How long, in seconds.
        """
        self.driver.alarm.deadlines.put(self, time.monotonic() + wait)

    def turn_away(self) -> None:
        """Ends a connection that is one too many: before the handshake there is nothing that it could be told."""
        self.close()

    # What comes before TLS.

    def _look(self) -> None:
        """Looks at what lies in the socket, and goes on with it as far as that goes."""
        try:
            if self._phase == Phase.PREFACE and not self._take_header():
                return
            first = self.sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            self._poll()
            return
        except (OSError, Refused):
            self.close()
            return
        if not first:
            self.close()
        elif first[0] == HANDSHAKE or first.isalpha():
            self._stop_polling()
            if self.server.draining:
                # A client that said nothing had a moment left, and now speaks.
                self.settle(self.patience)
            self._task = self.driver.keep(self._connect(tls=first[0] == HANDSHAKE))
            # Not at the end of its coroutine: a task that is cancelled early enough never begins.
            self._task.add_done_callback(self._connected)
        else:
            self._tell("it speaks no TLS")
            self.close()

    def _take_header(self) -> bool:
        """Takes what the proxy in front says, and not a byte of what is behind it.

        Returns:
            Whether it is complete and the connection goes on.

        Raises:
            BlockingIOError: More of it is to come.
            Refused: It is none.
        """
        known = self._preface
        data = self.sock.recv(_PEEK, socket.MSG_PEEK)
        proxied = read_proxy_header(known + data) if data else None
        taken = self.sock.recv(proxied.used - len(known) if proxied is not None else len(data))
        if proxied is None:
            if not data:
                self.close()
                return False
            self._preface = known + taken
            raise BlockingIOError
        self._preface = b""
        if not self.server.introduce(self, proxied):
            self.close()
            return False
        self._phase = Phase.HANDSHAKE
        self.settle(self.patience)
        return True

    def _poll(self) -> None:
        if not self._reading:
            self._reading = True
            self.driver.loop.add_reader(self.sock.fileno(), self._look)

    def _stop_polling(self) -> None:
        if self._reading:
            self._reading = False
            self.driver.loop.remove_reader(self.sock.fileno())

    # The handshake.

    async def _connect(self, *, tls: bool) -> None:
        """Has asyncio make the transport; `connection_made` of the client is called when the handshake is through."""
        context = self.door.security.contexts().default if tls else None
        times: dict[str, Any] = {}
        if tls:
            times["ssl_handshake_timeout"] = self.server.limits.handshake_timeout
            times["ssl_shutdown_timeout"] = _FOR_EVER
        client = LoopClient(self.driver, self.door, self.host, self.port, self)
        try:
            await self.driver.loop.connect_accepted_socket(lambda: client, self.sock, ssl=context, **times)
        except ssl.SSLError as error:
            self._tell((error.reason or str(error)).replace("_", " ").lower())
        except OSError:
            # A client that left at once.
            pass

    def _connected(self, _task: asyncio.Task[None]) -> None:
        if self._client is None:
            self.sock.close()
            self._forget()

    def introduce(self, client: LoopClient) -> None:
        """The transport is there: from now on the connection is the client's.

        Args:
            client: What it is now.
        """
        client.counted, client.is_beyond, client.secure = self.counted, self.is_beyond, self.secure
        self._client = client
        self._closed = True
        self.driver.alarm.deadlines.drop(self)
        self.server.clients.add(client)
        self.server.replace(self, client)
        session = client.transport.get_extra_info("ssl_object")
        if session is None:
            self._tell("it speaks no TLS")
            client.transport.write(PLAIN_ANSWER)
            client.finish()
            return
        client.secure = True
        if not hasattr(session, "asked_name"):
            session.asked_name = ""
        client.alpn = session.selected_alpn_protocol() or ""
        client.variables = self.door.security.variables(session)
        client.tls = tls_extension(client.variables)
        # Python has no call to let the handshake fail for it.
        client.forbidden = not self.door.security.admits(session)
        wait = client.patience
        client.settle(min(wait, DRAIN_LINGER) if self.server.draining else wait)

    def _tell(self, reason: str) -> None:
        """Anybody may connect and say anything, so that it is not worth more."""
        peer = peer_text(self.host, self.port) or "a UNIX peer"
        what = f"{peer}: no handshake: {reason}"
        self.server.log.write(what, DEBUG, LOGGER="appd.tls", APPD_SERVER=self.server.name)

    # The end.

    def expired(self) -> None:
        """The deadline has passed."""
        self.close()

    def close(self) -> None:
        """Ends the connection without a word. In the thread of the loop."""
        if self._closed:
            return
        self._closed = True
        self._stop_polling()
        if self._task is not None:
            self._task.cancel()
        else:
            self.sock.close()
            self._forget()

    def _forget(self) -> None:
        self._closed = True
        self.driver.alarm.deadlines.drop(self)
        self.server.lost(self)

    def drain(self, _ends: float) -> None:
        """A drain begins: a handshake that has begun may end, who says nothing has a moment. Any thread may call."""
        self.driver.post(self._drain)

    def _drain(self) -> None:
        if not self._closed and self._task is None:
            self.settle(DRAIN_LINGER)

    def abort(self) -> None:
        """Cuts the connection at once. Any thread may call."""
        self.driver.post(self._abort)

    def _abort(self) -> None:
        if self._client is not None:
            self._client.reset()
        else:
            self.close()
