"""The supervisor's side of the control socket: who may call what, and what becomes of it.

A connection costs a descriptor and at most one message of memory; there are at most so many, each has so long to say
something, and who comes when there is no room takes that of who has been silent for longest. None is ever waited for.
"""

from __future__ import annotations

import os
import select
import socket
import struct

from appd import __version__
from appd.control import (
    DESCRIPTION,
    INTERFACE,
    Call,
    ControlError,
    Framing,
    decode_call,
    encode_error,
    encode_reply,
)
from appd.startup.bare import deque, suppress
from appd.supervisor.overview import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from appd.supervisor.poller import Poller
    from appd.supervisor.supervisor import Supervisor

__all__ = ["Operator"]

_MOST_CONNECTIONS = 64
# How long a connection may say nothing, in seconds, while nothing is being done for it.
_IDLE = 30.0
# How long nobody is accepted when there was no descriptor for one, in seconds.
_PAUSE = 1.0
# More of it would not fit into the line to a worker at once.
_MAX_NAMESPACE = 200
_SO_PEERGROUPS = 59
_LEVELS = ("debug", "info", "warning", "error", "critical")


class Operator:
    """Serves the control socket.

    Args:
        supervisor: What is controlled.
        poller: The loop.
        path: The path of the socket.
        listener: The socket, listening: of `appd.supervisor.places.control_listener`.

    Resource handling: `close` closes everything and removes the path.
    """

    def __init__(self, supervisor: Supervisor, poller: Poller, path: str, listener: socket.socket) -> None:
        self._supervisor = supervisor
        self._poller = poller
        self._path = path
        self._made = _identity(path)
        self._connections: set[_Connection] = set()
        self._listener = listener
        self._listen()

    def _listen(self) -> None:
        if self._listener.fileno() >= 0:
            self._poller.register(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _address = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # No descriptor is left: who waits in the queue is heard when there may be one again. accept(2)
            self._poller.unregister(self._listener.fileno())
            self._poller.call_later(_PAUSE, self._listen)
            return
        if len(self._connections) >= _MOST_CONNECTIONS:
            silent = [one for one in self._connections if not one.busy]
            if not silent:
                connection.close()
                return
            min(silent, key=lambda one: one.since).close()
        self._adopt(connection)

    def _adopt(self, connection: socket.socket) -> _Connection:
        connection.setblocking(False)
        made = _Connection(connection, self._poller, self._called, self._connections.discard)
        self._connections.add(made)
        return made

    def keep(self) -> dict[str, Any]:
        """What a later version of the supervisor needs to know, as JSON has it."""
        return {
            "path": self._path,
            "listener": self._listener.fileno(),
            "connections": [one.keep() for one in self._connections],
        }

    def go_on(self, known: Mapping[str, Any]) -> None:
        """Goes on where an earlier version stopped: who asked for the reload that brought this one is answered.

        Args:
            known: What `keep` said.
        """
        for one in known["connections"]:
            connection = self._adopt(socket.socket(fileno=one["fd"]))
            connection.go_on(one)
            if connection.busy:
                connection.answer(self._reloaded())

    def _called(self, call: Call, connection: _Connection) -> None:
        if not may_control(connection.socket):
            connection.reply(encode_error("org.varlink.service.PermissionDenied", {}))
            return
        method = _METHODS.get(call.method)
        if method is None:
            name = call.method.rpartition(".")[0]
            known = name in (INTERFACE, "org.varlink.service")
            error, parameters = (
                ("MethodNotFound", {"method": call.method}) if known else ("InterfaceNotFound", {"interface": name})
            )
            connection.reply(encode_error(f"org.varlink.service.{error}", parameters))
            return
        method(self, call, connection)

    def _reload(self, _call: Call, connection: _Connection) -> None:
        connection.busy = True

        def verdict(code: int, reason: str) -> None:
            failed = encode_error("ReloadFailed", {"reason": reason, "exit": code})
            connection.answer(failed if code else self._reloaded())

        self._supervisor.rollout.reload(verdict)

    def _reloaded(self) -> bytes:
        serving = self._supervisor.rollout.serving
        return encode_reply({"generation": serving.number if serving is not None else 0})

    def _status(self, _call: Call, connection: _Connection) -> None:
        connection.reply(encode_reply(report(self._supervisor)))

    def _log_level(self, call: Call, connection: _Connection) -> None:
        level, namespace = call.parameters.get("level"), call.parameters.get("namespace") or ""
        if level not in _LEVELS or not _is_namespace(namespace):
            wrong = "level" if level not in _LEVELS else "namespace"
            connection.reply(encode_error("org.varlink.service.InvalidParameter", {"parameter": wrong}))
            return
        for generation in self._supervisor.rollout.generations():
            generation.set_level(level, namespace)
        connection.reply(encode_reply({}))

    def _info(self, _call: Call, connection: _Connection) -> None:
        info = {
            "vendor": "appd",
            "product": "appd",
            "version": __version__,
            "url": "",
            "interfaces": ["org.varlink.service", INTERFACE],
        }
        connection.reply(encode_reply(info))

    def _describe(self, call: Call, connection: _Connection) -> None:
        if call.parameters.get("interface") != INTERFACE:
            connection.reply(
                encode_error(
                    "org.varlink.service.InterfaceNotFound", {"interface": str(call.parameters.get("interface"))}
                )
            )
            return
        connection.reply(encode_reply({"description": DESCRIPTION}))

    def detach(self) -> None:
        """In a forked child: forgets its descriptors without closing them."""
        self._listener.detach()
        for one in self._connections:
            one.socket.detach()

    def close(self) -> None:
        """Closes every connection and removes the path, if it is still of this socket."""
        self._poller.unregister(self._listener.fileno())
        self._listener.close()
        for one in list(self._connections):
            one.close()
        with suppress(OSError):
            if _identity(self._path) == self._made:
                os.unlink(self._path)


_METHODS: dict[str, Callable[[Operator, Call, Any], None]] = {
    f"{INTERFACE}.Reload": Operator._reload,
    f"{INTERFACE}.Status": Operator._status,
    f"{INTERFACE}.SetLogLevel": Operator._log_level,
    "org.varlink.service.GetInfo": Operator._info,
    "org.varlink.service.GetInterfaceDescription": Operator._describe,
}


class _Connection:
    """One client.

    Attributes:
        busy: Whether something is being done for it, which is to be answered.
        since: When it last called, or came, in monotonic seconds.
    """

    def __init__(
        self,
        connection: socket.socket,
        poller: Poller,
        called: Callable[[Call, _Connection], None],
        gone: Callable[[_Connection], None],
    ) -> None:
        self.socket = connection
        self.busy = False
        self.since = poller.clock()
        self._oneway = False
        self._poller = poller
        self._called = called
        self._gone = gone
        self._framing = Framing()
        self._out = b""
        self._waiting: deque[bytes] = deque()
        self._taking = False
        self._open = True
        self._watch()
        self._cancel = poller.call_later(_IDLE, self._idle)

    def keep(self) -> dict[str, Any]:
        """What a later version needs to know: also what was not answered yet, and what not taken."""
        unread = b"".join(one + b"\0" for one in self._waiting) + self._framing.rest
        texts = {"out": self._out.decode("latin-1"), "unread": unread.decode("latin-1")}
        return {"fd": self.socket.fileno(), "busy": self.busy, "oneway": self._oneway, **texts}

    def go_on(self, known: Mapping[str, Any]) -> None:
        """Goes on where an earlier version stopped."""
        self.busy, self._oneway = known["busy"], known.get("oneway", False)
        self._out = known["out"].encode("latin-1")
        self._waiting += self._framing.feed(known["unread"].encode("latin-1"))
        self._poller.call_later(0.0, self._take_calls)

    def _idle(self) -> None:
        left = _IDLE if self.busy else self.since + _IDLE - self._poller.clock()
        if left > 0:
            self._cancel = self._poller.call_later(left, self._idle)
        else:
            self.close()

    def _ready(self) -> None:
        if self._out:
            self._flush()
        elif self.busy or self._waiting:
            # Nothing was to be read now: poll(2) says so when the other end has gone. A reload goes on all the same.
            self.close()
        else:
            self._read()
        self._take_calls()

    def _read(self) -> None:
        try:
            data = self.socket.recv(65536)
            self._waiting += self._framing.feed(data)
        except BlockingIOError:
            return
        except (OSError, ControlError):
            self.close()
            return
        if not data:
            # Who hangs up while a reload is under way gets no answer; the reload goes on.
            self.close()

    def _take_calls(self) -> None:
        """Answers one call after the other; what an answer brings about does not come back in here."""
        if self._taking:
            return
        self._taking = True
        while self._waiting and self._open and not self.busy and not self._out:
            try:
                call = decode_call(self._waiting.popleft())
            except ControlError:
                self.close()
                break
            self.since, self._oneway = self._poller.clock(), call.oneway
            self._called(call, self)
        self._taking = False
        self._watch()

    def reply(self, data: bytes) -> None:
        """Sends an answer, as fast as the client takes it, if it wants one."""
        if self._open and not self._oneway:
            self._out += data
            self._flush()

    def answer(self, data: bytes) -> None:
        """Sends the answer to a call that took its time, and goes on with the next call in the next turn.

        Args:
            data: The message.
        """
        self.busy = False
        self.reply(data)
        # Not now: whoever answers is in the middle of something that a call may change.
        self._poller.call_later(0.0, self._take_calls)

    def _flush(self) -> None:
        try:
            sent = self.socket.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self._out = self._out[sent:]
        self._watch()

    def _watch(self) -> None:
        """Reads no further while there is something to do or to say."""
        if self._open:
            events = select.POLLOUT if self._out else 0 if self.busy or self._waiting else select.POLLIN
            self._poller.unregister(self.socket.fileno())
            self._poller.register(self.socket.fileno(), self._ready, events)

    def close(self) -> None:
        """Ends the connection."""
        if self._open:
            self._open = False
            self._cancel()
            self._poller.unregister(self.socket.fileno())
            self.socket.close()
            self._gone(self)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_namespace(text: object) -> bool:
    return (
        isinstance(text, str)
        and len(text) <= _MAX_NAMESPACE
        and all(one.isprintable() and not one.isspace() for one in text)
    )


def may_control(connection: socket.socket) -> bool:
    """Whether the peer is root, the same user, or a member of the group that this process runs as.

    Under PrivateUsers= strangers appear as 65534, and the group is what tells an operator: unix(7), SO_PEERGROUPS.
    """
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, gid = struct.unpack("3i", credentials)
    if uid in (0, os.geteuid()) or (gid == os.getegid() and gid != 65534):
        return True
    try:
        # Python allows 1024 bytes: 256 groups. ERANGE says that there are more.
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 1024)
    except OSError:
        return False
    groups = struct.unpack(f"{len(raw) // 4}I", raw)
    return os.getegid() in groups and os.getegid() != 65534
