"""The control protocol: varlink (https://varlink.org/), pure: bytes in, calls out, bytes out.

A message is a JSON object that ends in a NUL. `varlinkctl` of systemd 257 and later speaks it too.
"""

from __future__ import annotations

import os

from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = [
    "DESCRIPTION",
    "INTERFACE",
    "MAX_MESSAGE",
    "Call",
    "ControlError",
    "Framing",
    "control_path",
    "decode_call",
    "decode_reply",
    "encode_call",
    "encode_error",
    "encode_reply",
]

INTERFACE = "io.appd"
# Nothing that is asked here is long; who sends more without an end means harm.
MAX_MESSAGE = 65536

DESCRIPTION = """\
# Control of one appd service.
interface io.appd

type Worker (
  number: int,
  pid: int,
  generation: int,
  state: string,
  age: float,
  connections: int,
  rss: int,
  requests: int,
  running: int,
  queued: int,
  threads: int,
  restarts: int,
  recycled: int
)

# The calls of a mount in all workers; one that has none is not there.
# refused: answered 503, as the queue was full; cancelled: they have waited, and their client left or the drain ended.
type Calls (
  server: string,
  mount: string,
  running: int,
  queued: int,
  threads: int,
  refused: int,
  cancelled: int
)

# What an address says of itself, and in parentheses the address as the file has it.
type Listening (
  server: string,
  type: string,
  addresses: []string
)

type Draining (
  generation: int,
  workers: int,
  connections: int
)

# expires: seconds since the epoch; newer: the file that a credential was read from, when that has changed since;
# begins: when a certificate becomes valid that is taken into use then, and 0 for one that is in use
type Certificate (
  server: string,
  name: string,
  path: string,
  expires: int,
  newer: string,
  begins: int
)

# What is wrong with a server that serves on, and since when, in seconds since the epoch.
type Trouble (
  server: string,
  what: string,
  since: int,
  reason: string
)

type Reload (
  at: float,
  exit: int,
  reason: string
)

# Starts a new generation with the file and the code as they are now. Answers when it serves, or the old one was kept.
method Reload() -> (generation: int)

method Status() -> (
  version: string,
  pid: int,
  generation: int,
  status: string,
  restarts: int,
  recycled: int,
  dropped: int,
  workers: []Worker,
  calls: []Calls,
  servers: []string,
  listening: []Listening,
  draining: []Draining,
  sockets: []string,
  certificates: []Certificate,
  troubles: []Trouble,
  reload: ?Reload
)

# debug, info, warning, error or critical; for one namespace of loggers or for all.
method SetLogLevel(level: string, namespace: ?string) -> ()

error ReloadFailed (reason: string, exit: int)
"""


class ControlError(ValueError):
    """What was sent is no varlink; the connection cannot go on."""


class Call(NamedTuple):
    """One method call.

    Attributes:
        method: `interface.Method`.
        parameters: Its parameters.
        oneway: Whether no reply is wanted.
    """

    method: str
    parameters: Mapping[str, Any]
    oneway: bool = False


class Framing:
    """Cuts a stream of bytes into messages.

    Args:
        most: How long one may be, in bytes.
    """

    def __init__(self, most: int = MAX_MESSAGE) -> None:
        self._most = most
        self._rest = b""

    @property
    def rest(self) -> bytes:
        """What has come of a message that is not whole."""
        return self._rest

    def feed(self, data: bytes) -> list[bytes]:
        """Takes bytes and returns the messages that are whole now.

        Raises:
            ControlError: A message is too long.
        """
        *messages, self._rest = (self._rest + data).split(b"\0")
        if len(self._rest) > self._most or any(len(one) > self._most for one in messages):
            raise ControlError(f"a message is longer than {self._most} bytes")
        return messages


def decode_call(message: bytes) -> Call:
    """Reads a call.

    Raises:
        ControlError: It is none.
    """
    found = _object(message)
    method, parameters = found.get("method"), found.get("parameters")
    parameters = {} if parameters is None else parameters
    if not isinstance(method, str) or not isinstance(parameters, dict):
        raise ControlError("a call has a method, a string, and parameters, an object")
    return Call(method, parameters, found.get("oneway") is True)


def decode_reply(message: bytes) -> tuple[str | None, Mapping[str, Any]]:
    """Reads a reply: the name of its error, None without one, and its parameters.

    Raises:
        ControlError: It is none.
    """
    found = _object(message)
    error, parameters = found.get("error"), found.get("parameters") or {}
    if not isinstance(error, str | None) or not isinstance(parameters, dict):
        raise ControlError("a reply has an error, a string, or parameters, an object")
    return error, parameters


def encode_call(method: str, parameters: Mapping[str, Any]) -> bytes:
    """Writes a call."""
    return _encode({"method": method, "parameters": parameters})


def encode_reply(parameters: Mapping[str, Any]) -> bytes:
    """Writes a reply."""
    return _encode({"parameters": parameters})


def encode_error(name: str, parameters: Mapping[str, Any]) -> bytes:
    """Writes an error; names without a dot in front of the last part are of this interface."""
    return _encode({"error": name if "." in name else f"{INTERFACE}.{name}", "parameters": parameters})


def control_path(environ: Mapping[str, str]) -> str | None:
    """Where the control socket of this process belongs: in RUNTIME_DIRECTORY, the first of a list, else in
    XDG_RUNTIME_DIR/appd; None without either."""
    runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if runtime:
        return os.path.join(runtime, "control")
    user = environ.get("XDG_RUNTIME_DIR")
    return os.path.join(user, "appd", "control") if user else None


def _encode(message: Mapping[str, Any]) -> bytes:
    import json

    return json.dumps(message, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\0"


def _object(message: bytes) -> dict[str, Any]:
    import json

    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        raise ControlError("a message is no JSON") from None
    if not isinstance(found, dict):
        raise ControlError("a message is no JSON object")
    return found
