"""What the files of a configuration said when they were read, passed on from one worker of a generation to the next.

A worker that is replaced or recycled belongs to its generation, whatever somebody has done to the file since: an edit
counts from the next reload on, and one that is half done harms nobody.
"""

from __future__ import annotations

from appd.config.reading import read_text
from appd.sealed import read_sealed, write_sealed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["are_current", "read_texts", "write_texts"]


def write_texts(texts: Mapping[str, str]) -> int | None:
    """Writes the texts into a memfd that nobody can change any more.

    Args:
        texts: Path → text of each file that was read.

    Returns:
        Its descriptor, which is the caller's; None when there is no descriptor or no memory for it.
    """
    import json

    try:
        return write_sealed("reading", json.dumps(dict(texts)).encode("ascii"))
    except OSError:
        return None


def read_texts(descriptor: int) -> dict[str, str] | None:
    """Reads what `write_texts` wrote, and closes the descriptor. None when it is something else: hosted code may pass
    anything to the supervisor."""
    import json

    try:
        found = json.loads(read_sealed(descriptor))
    except (ValueError, RecursionError):
        return None
    plain = isinstance(found, dict) and all(isinstance(one, str) for one in found.values())
    return found if plain else None


def are_current(texts: Mapping[str, str]) -> bool:
    """Whether the files still say the same."""
    try:
        return all(read_text(path) == text for path, text in texts.items())
    except ValueError:
        return False
