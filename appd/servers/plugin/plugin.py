"""`<plugin>`: any installed twistd plugin, with its own options."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError

from appd.errors import ConfigurationError
from appd.lending import Section
from appd.servers.application import ApplicationService, make_application
from appd.servers.sectioned import SectionedServerType

__all__ = ["arguments", "server_type"]


def arguments(text: str) -> list[str]:
    """Arguments, split as POSIX shells do it; the datatype of the key."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r} are no arguments: {str(error).lower()}") from None


class _PluginType(SectionedServerType):
    kinds = frozenset({"stream", "datagram"})
    claims_later = True
    processes_note = "`all` is refused: what binds by itself runs in one process"
    section_says = "names a plugin"

    def make(self, name: str, section: Section) -> ApplicationService:
        """See SectionedServerType."""
        settings = section.settings
        makers = {one.tapname: one for one in getPlugins(IServiceMaker)}
        wanted = settings.plugin
        if wanted == "appd" or wanted not in makers:
            near = difflib.get_close_matches(wanted, sorted(makers), n=3)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise ConfigurationError(
                settings.problem(
                    f"no plugin of twistd is called {wanted!r}: {hint}`twistd --help` lists them", "plugin"
                )
            )
        return make_application(
            name, "plugin", section, f"plugin {wanted}", "arguments", lambda: _make(makers[wanted], settings.arguments)
        )


def _make(maker: Any, words: Sequence[str]) -> Any:
    options = maker.options()
    try:
        options.parseOptions(list(words))
    except UsageError as error:
        raise ValueError(f"{error} (`twistd {maker.tapname} --help` lists its options)") from None
    return maker.makeService(options)


server_type = _PluginType()
