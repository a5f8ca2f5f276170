"""`<tac>`: the application of a .tac file."""

from __future__ import annotations

import os
from typing import Any

from twisted.application.service import IProcess, loadApplication
from twisted.logger import Logger
from zope.interface import implementer

from appd.errors import ConfigurationError
from appd.interfaces import IServerType, Section
from appd.servers.application import ApplicationService, make_application

__all__ = ["server_type"]

_log = Logger(namespace="appd.tac")


@implementer(IServerType)
class _TacType:
    kinds = frozenset({"stream", "datagram"})
    limits = frozenset[str]()
    outgoing = False
    starts_tls = False
    claims_later = True

    def create(
        self,
        name: str,
        db: Any,
        ip: str | None = None,
        port: int | None = None,
        backlog: int = 50,
        address: Any = None,
        section: Section | None = None,
    ) -> ApplicationService:
        """Makes it; see `appd.interfaces.IServerType.create`. It needs a section."""
        if section is None:
            raise TypeError("<tac> has a file: it is made from a section of the configuration")
        path = section.settings.file
        if not os.path.isfile(path):
            raise ConfigurationError(section.settings.problem(f"there is no file {path}", "file"))
        return make_application(name, "tac", section, path, "file", lambda: _load(name, path))


def _load(name: str, path: str) -> Any:
    application = loadApplication(path, "python")
    process = IProcess(application, None)
    if process is not None and (process.uid is not None or process.gid is not None):
        _log.warn(
            "{appd_server}: uid and gid of the application do not count: User= of the unit does", appd_server=name
        )
    return application


server_type = _TacType()
