"""Heads of responses as field blocks: RFC 7541, without the dynamic table.

Every field is literal, with its name and mostly its value from the static table or Huffman coded, so that a block means
the same on every connection and at every time, and is made once.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from appd.http.core.fields import is_secret
from appd.http.core.response import BARE, Prepared

__all__ = ["NO_TABLE", "encode_fields", "encode_head"]

NO_TABLE = b"\x20"
"""What begins the first block after a client has made its table smaller: ours has the size 0. RFC 7541, 4.2."""

_HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
_NAMES: dict[bytes, int] = {}
_WHOLE: dict[tuple[bytes, bytes], bytes] = {}
for _at, (_name, _value) in enumerate(HeaderTable.STATIC_TABLE, 1):
    _NAMES.setdefault(_name, _at)
    _WHOLE[(_name, _value)] = bytes((0x80 | _at,))
# Parts of blocks that were made: lines of a head, as they stand in `Prepared`. Whoever finds it full empties it.
_KNOWN: dict[str, bytes] = {}
_MOST, _LONGEST = 512, 1024
_STATUSES: dict[int, bytes] = {}
_LENGTHS: dict[int, bytes] = {}


def encode_head(status: int, prepared: Prepared, about: str, length: int | None) -> bytes:
    """The head of a response.

    Args:
        status: The status.
        prepared: What the application says.
        about: The lines of Server and Date that it does not say itself.
        length: Of the body, where it is known and not said.
    """
    text = prepared.text
    made = (
        (_STATUSES.get(status) or _encode_status(status))
        + (_KNOWN.get(text) or _encode_lines(text))
        + (_KNOWN.get(about) or _encode_lines(about))
    )
    if length is not None and prepared.length is None and status not in BARE:
        made += _LENGTHS.get(length) or _encode_length(length)
    return made


def encode_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """Any fields.

    Args:
        fields: Names and values, latin-1; names in any case.
    """
    return b"".join([_encode(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields])


def _encode_status(status: int) -> bytes:
    if len(_STATUSES) >= _MOST:
        _STATUSES.clear()
    made = _STATUSES[status] = _encode(b":status", b"%d" % status)
    return made


def _encode_length(length: int) -> bytes:
    if len(_LENGTHS) >= _MOST:
        _LENGTHS.clear()
    made = _LENGTHS[length] = _encode(b"content-length", b"%d" % length)
    return made


def _encode_lines(text: str) -> bytes:
    fields = [(name, value) for name, _colon, value in (one.partition(": ") for one in text.split("\r\n") if one)]
    made = encode_fields(fields)
    if len(text) <= _LONGEST and not any(is_secret(name.lower()) for name, _value in fields):
        if len(_KNOWN) >= _MOST:
            _KNOWN.clear()
        _KNOWN[text] = made
    return made


def _encode(name: bytes, value: bytes) -> bytes:
    found = _WHOLE.get((name, value))
    if found is not None:
        return found
    # Never indexed (RFC 7541, 7.1.3) where nobody in between may keep it; else without indexing.
    first = 0x10 if is_secret(name.decode("latin-1")) else 0
    at = _NAMES.get(name)
    named = _integer(first, 4, at) if at is not None else bytes((first,)) + _string(name)
    return named + _string(value)


def _string(data: bytes) -> bytes:
    # Longer ones are mostly random, and not worth the time.
    if len(data) <= 64:
        coded = _HUFFMAN.encode(data)
        if len(coded) < len(data):
            return _integer(0x80, 7, len(coded)) + coded
    return _integer(0, 7, len(data)) + data


def _integer(first: int, bits: int, value: int) -> bytes:
    """RFC 7541, 5.1."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    made = bytearray((first | most,))
    value -= most
    while value >= 0x80:
        made.append(0x80 | (value & 0x7F))
        value >>= 7
    made.append(value)
    return bytes(made)
