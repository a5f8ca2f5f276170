"""What a worker writes to its log of its own start, and how the file says that it should."""

from __future__ import annotations

from appd.messages import CANNOT_START

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appd.config.settings import Settings
    from appd.errors import AppdError
    from appd.journal import Log
    from appd.worker.assembly import Built

__all__ = ["configure_log", "log_settings", "report", "tell_warnings"]

_ERROR, _WARNING = 3, 4


def report(log: Log, error: AppdError) -> None:
    """Logs each problem as one entry, the traceback of hosted code below the line."""
    for problem in error.problems:
        text = f"{problem}\n{problem.traceback.rstrip()}" if problem.traceback else str(problem)
        log.write(text, _ERROR, MESSAGE_ID=CANNOT_START)


def configure_log(log: Log, settings: Settings) -> None:
    """Applies the `<log>` section."""
    log.configure(*log_settings(settings))


def log_settings(settings: Settings) -> tuple[str, str, dict[str, str]]:
    """The format, the general level, and the levels of namespaces that a file asks for."""
    section = settings.log
    if section is None:
        return "auto", "info", {}
    return section.format, section.level, dict(section.levels.values["values"]) if section.levels is not None else {}


def tell_warnings(log: Log, built: Built, supervised: bool) -> None:
    """Logs what an administrator should know.

    Args:
        log: The log.
        built: The servers.
        supervised: Whether there is a supervisor.
    """
    for warning in built.plan.warnings:
        log.write(str(warning), _WARNING)
    keys = [key for key in ("max_requests", "max_memory") if built.settings.values[key] is not None]
    if keys and not supervised:
        names = " and ".join(key.replace("_", "-") for key in keys)
        line = f"{names}: without effect, as there is no supervisor to start a fresh worker (`appd run`, not --single)"
        log.write(str(built.settings.problem(line, keys[0])), _WARNING)
