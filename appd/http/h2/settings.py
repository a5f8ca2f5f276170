"""What a client says of itself in SETTINGS: RFC 9113, 6.5."""

from __future__ import annotations

import struct

from appd.http.h2.codes import Code, Setting
from appd.http.h2.faults import ConnectionFault

__all__ = ["LARGEST_WINDOW", "read_settings"]

LARGEST_WINDOW = 2**31 - 1
_EACH = struct.Struct(">HL")
# The least and the most of each, and what is said when it is something else.
_RANGES = {
    Setting.ENABLE_PUSH: (0, 1, Code.PROTOCOL_ERROR),
    Setting.INITIAL_WINDOW_SIZE: (0, LARGEST_WINDOW, Code.FLOW_CONTROL_ERROR),
    Setting.MAX_FRAME_SIZE: (2**14, 2**24 - 1, Code.PROTOCOL_ERROR),
    Setting.ENABLE_CONNECT_PROTOCOL: (0, 1, Code.PROTOCOL_ERROR),
}


def read_settings(data: bytes) -> list[tuple[int, int]]:
    """Reads what a SETTINGS frame carries.

    Args:
        data: That.

    Returns:
        Identifiers, also such that are not known, and values, in order.

    Raises:
        ConnectionFault: One is not allowed.
    """
    if len(data) % _EACH.size:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS of a size that is no multiple of 6")
    found = list(_EACH.iter_unpack(data))
    for key, value in found:
        least, most, code = _RANGES.get(key, (0, value, Code.NO_ERROR))
        if not least <= value <= most:
            raise ConnectionFault(code, f"{Setting(key).name} is {value}: {least} to {most} is allowed")
    return found
