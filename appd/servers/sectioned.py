"""Server types whose servers are made from a section of the file, and from nothing else."""

from __future__ import annotations

from appd.access import folder_refusal
from appd.declaring import implements
from appd.limits import StreamLimits, read_stream_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from appd.address import Address
    from appd.config.settings import Settings
    from appd.errors import Problem
    from appd.lending import Section

__all__ = ["SectionedServerType", "read_limits", "root_problems"]


@implements("IServerType")
class SectionedServerType:
    """A server type that has a section for each server; a subclass has `make`.

    Attributes:
        kinds: See `appd.interfaces.IServerType`, as for the next three.
        limits: Its keys of `<limits>`.
        outgoing: Whether its servers open connections.
        starts_tls: Whether its protocol begins TLS by itself.
        processes: `all` when its servers keep nothing between connections, so that each worker may run one; else `one`.
        processes_note: What else is to be said of that, for people.
        section_says: What a section is needed for, for people: `<pb> needs a section of the file, which …`.
    """

    kinds = frozenset({"stream"})
    limits = frozenset[str]()
    outgoing = False
    starts_tls = False
    processes = "one"
    processes_note = ""
    section_says = "says what is served"

    def create(
        self,
        name: str,
        db: Any,
        ip: str | None = None,
        port: int | None = None,
        backlog: int = 50,
        address: Address | str | None = None,
        section: Section | None = None,
    ) -> Any:
        """Makes a server; see `appd.interfaces.IServerType.create`.

        Raises:
            TypeError: There is no section.
            appd.errors.ConfigurationError: The settings are wrong; every problem at once.
        """
        if section is None:
            raise TypeError(f"server {name!r}: this type needs a section of the file, which {self.section_says}")
        return self.make(name, section)

    def make(self, name: str, section: Section) -> Any:
        """Makes a server that is not started.

        Args:
            name: What it is called.
            section: Its section.

        Raises:
            appd.errors.ConfigurationError: The settings are wrong; every problem at once.
        """
        raise NotImplementedError  # each type has its own


def read_limits(section: Section, usual: StreamLimits) -> StreamLimits:
    """The limits of a section, kept by its `<tls>` too, whoever begins TLS.

    Args:
        section: The section of a server.
        usual: What holds where nothing was written.
    """
    limits = read_stream_limits(section.settings.limits, usual)
    if section.tls is not None:
        section.tls.handshake = limits.handshake_timeout
    return limits


def root_problems(settings: Settings) -> list[Problem]:
    """What is wrong with the folder that a section serves; one of each user, with %u in it, is not looked for.

    Args:
        settings: A section with the key `root`.
    """
    root = settings.root
    refusal = folder_refusal(root) if root and "%" not in root else ""
    return [settings.problem(f"root {root}: {refusal}", "root")] if refusal else []
