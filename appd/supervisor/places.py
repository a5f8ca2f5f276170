"""Where the supervisor is spoken to: a private folder for its workers, the control socket for everybody who may."""

from __future__ import annotations

import os
import stat
import sys
from errno import EADDRINUSE, EEXIST

from appd.errors import HostError
from appd.startup.bare import socket, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["control_listener", "private_folder", "remove_folder", "who_answers"]

# What fits into sun_path with its final NUL: unix(7).
_MAX_PATH = 107


def private_folder(environ: Mapping[str, str]) -> str:
    """Makes a folder of mode 0700 for the sockets of this process; the caller has it removed by `remove_folder`.

    Args:
        environ: RUNTIME_DIRECTORY (systemd.exec(5), the first of a list), else XDG_RUNTIME_DIR, else /tmp holds it.

    Raises:
        HostError: It cannot be made.
    """
    runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    base = runtime or environ.get("XDG_RUNTIME_DIR") or "/tmp"
    folder = os.path.join(base, f"appd-{os.getpid()}-{os.urandom(6).hex()}")
    if len(folder) + len("/control") > _MAX_PATH:
        raise HostError(f"{base}: its path is too long to hold a socket: set RUNTIME_DIRECTORY to a shorter one")
    try:
        os.mkdir(folder, 0o700)
    except OSError as error:
        hint = "RuntimeDirectory= of the unit makes one, XDG_RUNTIME_DIR names one"
        raise HostError(f"no folder for sockets in {base}: {error.strerror} ({hint})", number=error.errno) from None
    return folder


def remove_folder(folder: str) -> None:
    """Removes a folder with what is in it. Whoever removed it already has done what is done here."""
    with suppress(OSError):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


def who_answers(path: str) -> str:
    """Whose a control socket is, for people; "" when nobody listens there, or that cannot be known.

    Args:
        path: Its path.
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        client.connect(path)
        # Of whoever called listen(2): unix(7). It is 0 when that is in another namespace.
        pid = int.from_bytes(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
    except BlockingIOError:  # its queue is full
        pid = 0
    except OSError:
        return ""
    finally:
        client.close()
    return f"another service answers there{f' (PID {pid})' if pid else ''}"


def control_listener(path: str) -> socket.socket:
    """Makes the control socket; one that nobody answers at any more is replaced.

    Args:
        path: Where.

    Raises:
        HostError: It cannot be made, or is another service's.
    """
    who = who_answers(path)
    if who:
        mend = "--control PATH, or RuntimeDirectory= of the unit, gives this one its own"
        raise HostError(f"control socket {path}: {who}: {mend}", number=EADDRINUSE)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return _listen_at(path)
    except OSError as error:
        raise HostError(f"control socket {path}: {error.strerror}", number=error.errno) from None


def _listen_at(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if os.path.exists(path):
            if not stat.S_ISSOCK(os.stat(path).st_mode):
                raise FileExistsError(EEXIST, "there is a file that is no socket")
            os.unlink(path)
        listener.bind(path)
        # Who may do what is decided by the peer's credentials, of which a group is one way in.
        os.chmod(path, 0o660)
        listener.listen(64)
    except OSError:
        listener.close()
        raise
    return listener
