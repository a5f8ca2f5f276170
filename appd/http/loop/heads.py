"""What an ASGI application says of its response → a head that can be sent."""

from __future__ import annotations

from typing import Any

from appd.http.core.fields import OF_THE_CONNECTION, is_secret
from appd.http.core.response import Prepared, prepare, status_line

__all__ = ["make_head"]

# Heads of responses that are remembered for each mount, and how long one may be.
_MOST, _LONGEST = 256, 1024


def make_head(mount: Any, status: Any, headers: Any) -> tuple[int, Prepared]:
    """Looks at status and header fields.

    Args:
        mount: The mount: it adds fields of its own, and remembers heads, as most responses have one of a few.
        status: The status.
        headers: Names and values in bytes.

    Raises:
        Misuse: They cannot be sent.
        TypeError: They are none.
    """
    try:
        key = (status, *headers)
        found: tuple[int, Prepared] | None = mount.heads.get(key)
    except TypeError:  # pairs may be lists, which are not hashable
        headers = [(bytes(name), bytes(value)) for name, value in headers]
        key = (status, *headers)
        found = mount.heads.get(key)
    if found is not None:
        return found
    if type(status) is not int:
        status = int(status)
    status_line(status)
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in key[1:]]
    # What is of the connection is the server's: the specification has it ignored.
    fields = [one for one in fields if one[0].lower() not in OF_THE_CONNECTION]
    made = (status, prepare(mount.with_headers(fields)))
    if not any(is_secret(name.lower()) for name, _value in fields) and len(made[1].text) <= _LONGEST:
        if len(mount.heads) >= _MOST:
            mount.heads.clear()
        mount.heads[key] = made
    return made
