"""Field blocks of clients: HPACK (RFC 7541) by the hpack library, and what was decoded before.

A client that asks again and again sends the same few bytes, which name entries of the dynamic table. As long as nothing
is added to that table, and nobody says anything of its size, the same bytes mean the same.
"""

from __future__ import annotations

import logging

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from appd.http.h2.codes import Code
from appd.http.h2.faults import ConnectionFault

__all__ = ["Blocks", "Head"]

# At DEBUG the library writes down every field, passwords and cookies too.
logging.getLogger("hpack").setLevel(logging.INFO)

# Blocks that are remembered for each connection, and how long one may be.
_MOST, _LONGEST = 32, 512
# A list beyond what we say that we take is decoded still, so that its stream can be told (431) and the others go on.
# One beyond this many times that is an attack.
_BEYOND = 4


class Head:
    """What a field block says.

    Attributes:
        fields: Names and values.
        size: As RFC 9113, 6.5.2 counts it: names, values and 32 bytes for each.
        checked: Whether it is known to be well-formed as the head of a request.
        good: Whether it has begun and ended a request before, as a whole.
        length: What Content-Length says, when it is checked; -1 where there is none.
        protocol: What the tunnel is for that CONNECT asks for (RFC 8441); b"" for any other request.
        made: For whoever makes something of it, and is given the same head again.
    """

    __slots__ = ("checked", "fields", "good", "length", "made", "protocol", "size")

    def __init__(self, fields: tuple[tuple[bytes, bytes], ...]) -> None:
        self.fields = fields
        self.size = sum([len(name) + len(value) for name, value in fields]) + 32 * len(fields)
        self.checked = self.good = False
        self.length = -1
        self.protocol = b""
        self.made: object = None


class _Table(HeaderTable):
    """The dynamic table, which tells when it is no longer what it was."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = False

    def add(self, name: bytes, value: bytes) -> None:
        self.changed = True
        super().add(name, value)


class Blocks:
    """Decodes the field blocks of a connection, in order.

    Args:
        most: The largest field list that is taken, as `Head.size` counts.

    Attributes:
        most: As given.
        known: What blocks meant that were decoded, as long as they mean it.
    """

    __slots__ = ("_decoder", "_table", "known", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._decoder = Decoder(max_header_list_size=most * _BEYOND)
        self._table = self._decoder.header_table = _Table()
        self.known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """Decodes a block.

        Args:
            block: The block, complete.

        Raises:
            ConnectionFault: It is none, or so large that the state of the compression is lost.
        """
        found = self.known.get(block)
        return found if found is not None else self._decode(block)

    def _decode(self, block: bytes) -> Head:
        table = self._table
        # RFC 7541, 6.3: a size may be said and taken back within one block, which empties the table on the way.
        table.changed = block[:1] != b"" and block[0] & 0xE0 == 0x20
        try:
            head = Head(tuple([(bytes(one[0]), bytes(one[1])) for one in self._decoder.decode(block, raw=True)]))
        except OversizedHeaderListError:
            reason = f"a field list of more than {self._decoder.max_header_list_size} bytes"
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, reason) from None
        except (HPACKError, IndexError, TypeError, ValueError) as error:
            # Its text may hold an address in our memory.
            reason = f"a field block that is none: {type(error).__name__}"
            raise ConnectionFault(Code.COMPRESSION_ERROR, reason) from None
        known = self.known
        if table.changed:
            known.clear()
        elif len(block) <= _LONGEST:
            if len(known) >= _MOST:
                known.clear()
            known[block] = head
        return head
