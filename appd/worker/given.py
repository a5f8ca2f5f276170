"""What a supervisor gives a worker beside its sockets: descriptors, which variables tell of.

Hosted code finds none of these variables, and none of the descriptors of what has been read.
"""

from __future__ import annotations

from appd.startup.records import NamedTuple
from appd.supervisor.spawn import CHANNEL, MATERIAL, READING, STACKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

__all__ = ["Given", "take_given"]


class Given(NamedTuple):
    """What there is.

    Attributes:
        channel: The line to the supervisor; None without one.
        stacks: The descriptor, as text, that the stacks of a hung worker go to; "" without one.
        texts: What the files said when another worker of the same generation read them.
        material: The certificates and keys that others of it had last, as `appd.tls.kept` has them.
    """

    channel: int | None = None
    stacks: str = ""
    texts: Mapping[str, str] | None = None
    material: tuple[bytes, ...] = ()


def take_given(environ: MutableMapping[str, str]) -> Given:
    """Takes what there is out of the environment; what has been read is closed.

    Args:
        environ: The environment.
    """
    channel, stacks, reading = (environ.pop(key, "") for key in (CHANNEL, STACKS, READING))
    descriptors = [int(environ.pop(key)) for key in MATERIAL if key in environ]
    texts: Mapping[str, str] | None = None
    material: tuple[bytes, ...] = ()
    if reading:
        from appd.config.texts import read_texts

        texts = read_texts(int(reading))
    if descriptors:
        from appd.sealed import read_sealed

        material = tuple(read_sealed(one) for one in descriptors)
    return Given(int(channel) if channel else None, stacks, texts, material)
