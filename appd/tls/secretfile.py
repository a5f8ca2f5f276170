"""Secrets in memory as files, for libraries that take paths only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["as_file"]


@contextmanager
def as_file(data: bytes) -> Iterator[str]:
    """A path that holds some bytes as long as the context lasts; they never come near a disk: memfd_create(2).

    Args:
        data: The bytes.
    """
    fd = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
