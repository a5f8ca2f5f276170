"""A head of a response as HTTP/2 has it: no reason, names in lower case, no framing of its own."""

from __future__ import annotations

from appd.http.response import BARE, Prepared

__all__ = ["response_fields"]

_KNOWN: dict[str, list[tuple[str, str]]] = {}
_MOST = 512


def response_fields(status: int, prepared: Prepared, about: str, length: int | None) -> list[tuple[str, str]]:
    """The fields of a response.

    Args:
        status: The status.
        prepared: What the application says.
        about: The lines of Server and Date that it does not say itself.
        length: Of the body, where it is known and not said.
    """
    fields = [(":status", str(status)), *_lines(prepared.text), *_lines(about)]
    if length is not None and prepared.length is None and status not in BARE:
        fields.append(("content-length", str(length)))
    return fields


def _lines(text: str) -> list[tuple[str, str]]:
    found = _KNOWN.get(text)
    if found is None:
        pairs = (one.partition(": ") for one in text.split("\r\n") if one)
        found = [(name.lower(), value) for name, _colon, value in pairs]
        if len(_KNOWN) >= _MOST:
            _KNOWN.clear()
        _KNOWN[text] = found
    return found
