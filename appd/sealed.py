"""What one process leaves for others in memory: a memfd that nobody can change any more, memfd_create(2)."""

from __future__ import annotations

import os

__all__ = ["read_sealed", "write_sealed"]

_LARGEST = 256 * 1024**2


def write_sealed(name: str, data: bytes) -> int:
    """Writes some bytes where they never come near a disk.

    Args:
        name: What /proc calls it; nobody finds it by that.
        data: The bytes.

    Returns:
        The descriptor, which is the caller's.

    Raises:
        OSError: There is no descriptor or no memory for it.
    """
    import fcntl

    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_sealed(descriptor: int) -> bytes:
    """Reads what `write_sealed` wrote, and closes the descriptor. It may be something else, as hosted code may pass
    anything to the supervisor; what cannot be read is empty."""
    try:
        # Others read from the same descriptor: its place in the file is nobody's.
        return os.pread(descriptor, min(os.fstat(descriptor).st_size, _LARGEST), 0)
    except (OSError, OverflowError):
        return b""
    finally:
        os.close(descriptor)
