"""The supervisor's end of the workers' NOTIFY_SOCKET: sd_notify(3) messages with their senders and descriptors."""

from __future__ import annotations

import os
import sys

from appd.startup.bare import socket, suppress
from appd.startup.records import NamedTuple
from appd.systemd.notify import MARK, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Letter", "Mailbox", "extension_of", "number_of", "pack", "unpack"]

# struct ucred of unix(7): three numbers, of which the first is the process ID.
_CREDENTIALS = 12
_MOST_FDS = 64
# The longest datagram that can be sent at all: net.core.wmem_default is less than this.
_MOST_BYTES = 1 << 18
# So many are taken at a time, or one who writes as fast as this process reads would keep it from all else. No more than
# that can wait: net.unix.max_dgram_qlen, which is 512 at most as systemd sets it.
_MOST_LETTERS = 1024
# What a worker may ask of systemd's patience at a time, in seconds.
_MOST_EXTENSION = 60.0


class Letter(NamedTuple):
    """One message.

    Attributes:
        pid: Who sent it, as the kernel says.
        words: Variable → value.
        fds: The descriptors that came along; whoever takes the letter closes them.
    """

    pid: int
    words: dict[str, str]
    fds: list[int]


def number_of(words: Mapping[str, str], key: str, otherwise: int) -> int:
    """A number among the words. Hosted code may write to NOTIFY_SOCKET too, and anything.

    Args:
        words: Variable → value.
        key: The variable.
        otherwise: What counts when it is not there, or no number.
    """
    text = words.get(key, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else otherwise


def extension_of(words: Mapping[str, str]) -> float | None:
    """How much more of systemd's patience a worker is to have, in seconds; None when it asks for none."""
    if "EXTEND_TIMEOUT_USEC" not in words:
        return None
    return min(_MOST_EXTENSION, number_of(words, "EXTEND_TIMEOUT_USEC", 0) / 1e6)


def pack(texts: Mapping[str, str]) -> str:
    """Writes names and values as one word, without a blank: `notify.compose` makes one of several."""
    import json

    return json.dumps(dict(texts), separators=(",", ":")).replace(" ", "\\u0020")


def unpack(word: str) -> dict[str, str]:
    """Reads what `pack` wrote; what nobody packed is empty."""
    import json

    try:
        found = json.loads(word)
    except (ValueError, RecursionError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


class Mailbox:
    """A datagram socket in a folder that nobody else may enter.

    Args:
        folder: The folder, of mode 0700.
        made: The socket, when it is there already.

    Attributes:
        path: What NOTIFY_SOCKET says.
    """

    def __init__(self, folder: str, made: int | None = None) -> None:
        self.path = os.path.join(folder, "notify")
        if made is not None:
            self.socket = socket.socket(fileno=made)
            return
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(self.path)

    def read(self) -> Iterator[Letter]:
        """What has come, up to a number that covers all that can wait at a time.

        A message that does not say `notify.MARK` is hosted code's own, and one that was cut is nobody's: both come
        without words.
        """
        from array import array

        space = socket.CMSG_SPACE(_CREDENTIALS) + socket.CMSG_SPACE(_MOST_FDS * 4)
        for _ in range(_MOST_LETTERS):
            try:
                data, ancillary, flags, _address = self.socket.recvmsg(_MOST_BYTES, space, socket.MSG_CMSG_CLOEXEC)
            except OSError:  # nothing more, or no memory now
                return
            pid, fds = 0, array("i")
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(value) >= _CREDENTIALS:
                    pid = int.from_bytes(value[:4], sys.byteorder, signed=True)
                elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(value[: len(value) - len(value) % fds.itemsize])
            # Not taken apart first: it may be long, and is none of ours.
            words = parse(data) if MARK.encode() in data and not flags & socket.MSG_TRUNC else {}
            key, _sign, marked = MARK.partition("=")
            yield Letter(pid, words if words.get(key) == marked else {}, list(fds))

    def close(self) -> None:
        """Closes the socket and removes its path, if nobody has."""
        self.socket.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)
