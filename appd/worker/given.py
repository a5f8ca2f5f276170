"""What others of its generation have left for a worker, in descriptors of its supervisor's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appd.config.texts import read_texts
from appd.sealed import read_sealed

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["read_given"]


def read_given(reading: str, *material: str) -> tuple[Mapping[str, str] | None, list[bytes]]:
    """Reads all of it, and closes the descriptors: hosted code gets none.

    Args:
        reading: The one that has what the files said when another worker read them; "" without one, like the others.
        material: Those that have certificates and keys that others had last, as `appd.tls.kept` writes them.
    """
    return read_texts(int(reading)) if reading else None, [read_sealed(int(one)) for one in material if one]
