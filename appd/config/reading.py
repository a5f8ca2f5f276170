"""A file → its text, whatever the file turns out to be."""

from __future__ import annotations

import os
import stat

__all__ = ["read_text"]

_LARGEST = 16 * 1024**2


def read_text(path: str) -> str:
    """Reads a configuration file.

    Args:
        path: The path of the file.

    Returns:
        Its text; each line ends in LF, also where the file has CR or CR LF.

    Raises:
        ValueError: It cannot be read, or is no text; the message says why, without the path.
    """
    try:
        # Asked before it is opened: a FIFO would wait for its writer, and a device may do anything.
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            raise ValueError("it is a directory, not a file")
        if not stat.S_ISREG(kind):
            raise ValueError("it is no regular file")
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    if len(data) > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST // 1024**2} MB")
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("it starts with a byte order mark: save it as UTF-8 without one")
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise ValueError(f"it contains a NUL byte in line {line}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"it is not UTF-8: byte 0x{data[error.start]:02x} in line {line}") from None
