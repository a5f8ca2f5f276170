"""Server types by name.

Those that appd brings come from a table, so that a start imports nothing to find them. Others are installed packages
with an entry point in the group `appd.server_types`; the installed distributions are searched only when a file asks for
a name that is not in the table.
"""

from __future__ import annotations

import sys

from appd.errors import ConfigurationError
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from appd.interfaces import IServerType

__all__ = ["GROUP", "Registration", "Registry"]

GROUP = "appd.server_types"


class Registration(NamedTuple):
    """What is known of a server type before it is imported.

    Attributes:
        name: What the section of the file is called, lower case.
        target: `package.module:object`, an IServerType.
        distribution: Who brings it, for people.
    """

    name: str
    target: str
    distribution: str

    def __str__(self) -> str:
        return f"server type {self.name!r} of {self.distribution}"

    @property
    def package(self) -> str:
        """The package that component.xml lies in: the module when it is a package, else the package around it.

        Raises:
            ConfigurationError: The module cannot be found, or lies in no package.
        """
        from importlib.util import find_spec

        module = self.target.partition(":")[0]
        try:
            spec = find_spec(module)
        except Exception as error:  # the package's own import may raise anything
            raise ConfigurationError(f"{self}: {module} does not import: {error}") from error
        if spec is None:
            raise ConfigurationError(f"{self}: there is no module {module}")
        package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
        if not package:
            raise ConfigurationError(f"{self}: {module} must lie in a package, beside its component.xml")
        return package

    @property
    def is_ours(self) -> bool:
        """Whether appd brings it."""
        return _BUILT_IN.get(self.name) is self

    def load(self) -> IServerType:
        """Imports the server type.

        Raises:
            ConfigurationError: It does not import, or is no IServerType.
        """
        module, _, attribute = self.target.partition(":")
        try:
            # What import_module does, without importing that.
            __import__(module)
            found: Any = sys.modules[module]
            for part in attribute.split("."):
                found = getattr(found, part)
        except Exception as error:
            raise ConfigurationError(f"{self}: {self.target} does not import: {error}") from error
        if not self.is_ours:
            # zope.interface costs a start, and of ours a test has asked.
            from appd.interfaces import IServerType

            if not IServerType.providedBy(found):
                raise ConfigurationError(f"{self}: {self.target} is no IServerType")
        server_type: IServerType = found
        return server_type


_NAMES = (
    "amp",
    "datagram",
    "dns",
    "echo",
    "ftp",
    "http",
    "pb",
    "plugin",
    "portforward",
    "process",
    "server",
    "smtp",
    "ssh",
    "syslog",
    "tac",
    "timer",
)
_BUILT_IN = {name: Registration(name, f"appd.servers.{name}.{name}:server_type", "appd") for name in _NAMES} | {
    # Read as a <server>; see `appd.config.former`.
    name: Registration(name, "appd.servers.server.server:server_type", "appd")
    for name in ("sshserver", "sslserver")
}


class Registry:
    """Finds registrations.

    Args:
        built_in: Name → registration, looked at first.
        entry_points: What finds the entry points of the group; asked once, when the first of them is wanted.
    """

    def __init__(
        self,
        built_in: Mapping[str, Registration] = _BUILT_IN,
        entry_points: Callable[[], Iterable[Any]] | None = None,
    ) -> None:
        self._built_in = built_in
        self._search = entry_points or _installed_entry_points
        self._found: list[Any] | None = None

    def find(self, name: str) -> Registration | None:
        """The server type of that name, in any case; None when there is none.

        Raises:
            ConfigurationError: Two installed packages bring it.
        """
        name = name.lower()
        return self._built_in.get(name) or _only_one(name, [self._registration(one) for one in self._matching(name)])

    def all(self) -> list[Registration]:
        """Every server type, by name.

        Raises:
            ConfigurationError: Two packages bring the same name.
        """
        found: dict[str, list[Registration]] = {name: [one] for name, one in self._built_in.items()}
        for entry_point in self._entry_points:
            one = self._registration(entry_point)
            found.setdefault(one.name, []).append(one)
        clashes = [problem for name, those in sorted(found.items()) if (problem := _clash(name, those))]
        if clashes:
            raise ConfigurationError(*clashes)
        return [those[0] for _, those in sorted(found.items())]

    def nearest(self, name: str, others: Iterable[str] = ()) -> list[str]:
        """The known names that are spelled most like one that is unknown."""
        from difflib import get_close_matches

        known = {*self._built_in, *(one.name.lower() for one in self._entry_points), *others}
        return get_close_matches(name.lower(), sorted(known), n=3, cutoff=0.6)

    @property
    def _entry_points(self) -> list[Any]:
        # Searching the installed distributions takes milliseconds.
        if self._found is None:
            self._found = list(self._search())
        return self._found

    def _matching(self, name: str) -> list[Any]:
        # Entry points are named in any case and looked up in lower case: a search by exact name would miss some.
        return [one for one in self._entry_points if one.name.lower() == name]

    @staticmethod
    def _registration(entry_point: Any) -> Registration:
        distribution = entry_point.dist.name if entry_point.dist is not None else entry_point.value
        return Registration(entry_point.name.lower(), entry_point.value.replace(" ", ""), distribution)


def _only_one(name: str, found: list[Registration]) -> Registration | None:
    problem = _clash(name, found)
    if problem:
        raise ConfigurationError(problem)
    return found[0] if found else None


def _clash(name: str, found: list[Registration]) -> str:
    # An editable install beside a wheel shows the same entry point twice; that is no clash.
    if len(set(found)) < 2:
        return ""
    owners = " and ".join(sorted({f"{one.distribution} ({one.target})" for one in found}))
    return f"server type {name!r} is brought by {owners}: remove one of them"


def _installed_entry_points() -> Iterable[Any]:
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)
