"""A ZConfig file → plain settings that know their lines, or every error in it at once."""

from __future__ import annotations

from appd.config.settings import Settings
from appd.startup.records import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appd.registry import Registry

__all__ = ["Loaded", "Settings", "load", "load_kept"]


class Loaded(NamedTuple):
    """What has become of a configuration file.

    Attributes:
        settings: Its settings.
        keep: To call when there is time: keeps them for the next start.
        texts: Says what its files said, by path; None when that is not known.
        current: Whether they still said that.
    """

    settings: Settings
    keep: Callable[[], object]
    texts: Callable[[], Mapping[str, str] | None]
    current: bool = True


def load(path: str, registry: Registry | None = None) -> Settings:
    """Reads a configuration file.

    Args:
        path: The file.
        registry: Where server types are found.

    Returns:
        The settings of the file.

    Raises:
        ConfigurationError: Every problem of the file and of those it includes, in the order of their lines.
    """
    # ZConfig costs more to import than all else of a start: whoever finds the settings in the cache does without.
    from appd.config.loader import Loader
    from appd.registry import Registry

    return Loader(registry or Registry()).load(path)


def load_kept(path: str, texts: Mapping[str, str] | None = None) -> Loaded:
    """Reads a configuration file, from the cache when nothing has changed.

    Args:
        path: The file.
        texts: What its files said when another worker of the same generation read them: that counts.

    Returns:
        The settings of the file.

    Raises:
        ConfigurationError: As for `load`.
    """
    from appd.config.cache import SettingsCache

    current = True
    if texts is not None:
        from appd.config.texts import are_current

        current = are_current(texts)
    cache = SettingsCache(path)
    kept = cache.read() if current else None
    if kept is not None:
        return Loaded(kept, lambda: None, cache.texts)
    from appd.config.loader import Loader
    from appd.registry import Registry

    loader = Loader(Registry(), texts)
    settings = loader.load(path)
    return Loaded(
        settings,
        lambda: cache.write(settings, loader.inputs) if current else None,
        lambda: loader.inputs.texts,
        current,
    )
