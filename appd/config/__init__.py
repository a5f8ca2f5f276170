"""A ZConfig file → plain settings that know their lines, or every error in it at once."""

from __future__ import annotations

from appd.config.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from appd.registry import Registry

__all__ = ["Settings", "load", "load_kept"]


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


def load_kept(path: str) -> tuple[Settings, Callable[[], object]]:
    """Reads a configuration file, from the cache when nothing has changed.

    Args:
        path: The file.

    Returns:
        The settings of the file, and what to call when there is time: it keeps them for the next start.

    Raises:
        ConfigurationError: As for `load`.
    """
    from appd.config.cache import SettingsCache

    cache = SettingsCache(path)
    kept = cache.read()
    if kept is not None:
        return kept, lambda: None
    from appd.config.loader import Loader
    from appd.registry import Registry

    loader = Loader(Registry())
    settings = loader.load(path)
    return settings, lambda: cache.write(settings, loader.inputs)
