"""A file to a connection: read by a thread, so that a disk holds up nobody, and no faster than the client takes it."""

from __future__ import annotations

import os
from typing import Any

from appd.http.core.errors import Incomplete

__all__ = ["Disconnected", "pump"]

# Bytes that are read at once.
_READ = 262144


class Disconnected(OSError):
    """The client has left, so that nothing can be sent to it. ASGI 2.4: `send` raises an OSError then."""


async def pump(line: Any, fd: int, at: int, left: int) -> None:
    """Sends a part of a file.

    Args:
        line: Where to.
        fd: The file, which stays open.
        at: Where the part begins.
        left: How many bytes.

    Raises:
        Incomplete: The file is shorter.
        Disconnected: The client has left.
        OSError: It cannot be read.
    """
    while left:
        data = await line.loop.run_in_executor(None, os.pread, fd, min(_READ, left), at)
        if not data:
            raise Incomplete(f"{left} bytes of the file are missing")
        at += len(data)
        left -= len(data)
        if line.broken:
            raise Disconnected("the client has left")
        line.data(data)
        if line.blocked is not None:
            await line.drained()
