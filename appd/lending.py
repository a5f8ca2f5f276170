"""What a server type gets when it makes a server: its section, and what the process lends it."""

from __future__ import annotations

from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from appd.config.settings import Settings
    from appd.journal import Log
    from appd.listening.listeners import Listener
    from appd.tls.keeping import Keeping
    from appd.tls.termination import Termination

__all__ = ["Host", "Section"]


class Host(NamedTuple):
    """What the process lends its servers.

    Attributes:
        reactor: The reactor.
        threads: A twisted.python.threadpool.ThreadPool for blocking calls. The process starts and stops it.
        settings: The settings of the file as a whole.
        log: The log of the process; None where there is none yet (`appd check`).
        shared: What servers of the process share among themselves, by dotted name of whoever put it there; and from
            appd `replace`, `inheritance`, `notifier`, `folder` and `keeping`, see `appd.worker.assembly.build`.
    """

    reactor: Any
    threads: Any
    settings: Settings
    log: Log | None = None
    shared: dict[str, Any] = {}  # noqa: RUF012  # whoever makes a Host gives it its own

    def many_serve(self, processes: str | None) -> bool:
        """Whether other processes serve what a server of this one does, which has such `processes`."""
        return processes == "all" and "folder" in self.shared and getattr(self.settings, "workers", 1) > 1

    def keeping(self) -> Keeping | None:
        """What keeps certificates for the worker after this one, for `make_outgoing`; None without a supervisor."""
        make = self.shared.get("keeping")
        return make() if make is not None else None


class Section(NamedTuple):
    """A section of the file that becomes a server.

    Attributes:
        settings: Its keys.
        listeners: Its addresses, resolved and not yet listening.
        host: What the process lends it.
        tls: What its `<tls>` asks for; None without one. A type that `starts_tls` calls `tls.starter(host.reactor)`.
    """

    settings: Settings
    listeners: Sequence[Listener]
    host: Host
    tls: Termination | None = None
