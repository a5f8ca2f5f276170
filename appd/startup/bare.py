"""`socket` and `signal` as they are written in C.

What Python adds makes enumerations of their constants, which takes a start 3 ms with all that is imported for it. So
what runs before the first answer takes them from here. A socket made of these has no `accept`, `makefile`, `dup` or
`with`, its family and type are numbers; whoever hands one to a library makes a whole one of its descriptor.
"""

from __future__ import annotations

__all__ = ["signal", "socket"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
else:
    import _signal as signal
    import _socket as socket
