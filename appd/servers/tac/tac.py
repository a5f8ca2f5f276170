"""`<tac>`: the application of a .tac file."""

from __future__ import annotations

import os
from typing import Any

from twisted.application.service import IProcess, loadApplication
from twisted.logger import Logger

from appd.errors import ConfigurationError
from appd.lending import Section
from appd.servers.application import ApplicationService, make_application
from appd.servers.sectioned import SectionedServerType

__all__ = ["server_type"]

_log = Logger(namespace="appd.tac")


class _TacType(SectionedServerType):
    kinds = frozenset({"stream", "datagram"})
    claims_later = True
    processes_note = "`all` is refused: what binds by itself runs in one process"
    section_says = "has a file"

    def make(self, name: str, section: Section) -> ApplicationService:
        """See SectionedServerType."""
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
