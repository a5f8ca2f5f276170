"""Hosted code: where it is found, and how it is imported by its dotted name.

Hosted code may do anything when it is imported: raise, call sys.exit(), not be there. Whatever it does becomes a
problem with the line of the file that names it, and its own traceback below that line.
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, get_type_hints

from appd.config.settings import Settings
from appd.errors import ConfigurationError, Problem
from appd.signals import Stopped

__all__ = ["apply_surroundings", "call", "load", "with_options"]


def apply_surroundings(
    settings: Settings, environ: MutableMapping[str, str] = os.environ, path: list[str] = sys.path
) -> None:
    """Sets what hosted code finds: `<environment>`, `working-directory`, `python-path` and `virtualenv`.

    Args:
        settings: The settings of the file.
        environ: The environment to add to.
        path: The module search path, whose front is extended.

    Raises:
        ConfigurationError: A folder is missing, or the virtual environment is of another Python.
    """
    problems: list[Problem] = []
    if settings.environment is not None:
        environ.update(settings.environment.values["values"])
    directory = settings.working_directory
    if directory is not None:
        try:
            os.chdir(directory)
        except OSError as error:
            problems.append(settings.problem(f"working-directory {directory}: {error.strerror}", "working_directory"))
    front: list[str] = []
    for number, folder in enumerate(settings.python_path):
        if os.path.isdir(folder):
            front.append(folder)
        else:
            problems.append(settings.problem(f"python-path {folder}: there is no such folder", "python_path", number))
    if settings.virtualenv is not None:
        try:
            packages = _site_packages(settings.virtualenv)
        except ValueError as error:
            problems.append(settings.problem(f"virtualenv {settings.virtualenv}: {error}", "virtualenv"))
        else:
            front += _with_path_files(packages)
    if problems:
        raise ConfigurationError(*problems)
    path[:0] = [folder for folder in front if folder not in path]


def _site_packages(virtualenv: str) -> str:
    if not os.path.isfile(os.path.join(virtualenv, "pyvenv.cfg")):
        raise ValueError("it is no virtual environment (it has no pyvenv.cfg)")
    wanted = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = os.path.join(virtualenv, "lib", wanted, "site-packages")
    if os.path.isdir(packages):
        return packages
    found = sorted(one.name for one in Path(virtualenv, "lib").glob("python*")) or ["none"]
    raise ValueError(f"it is of {', '.join(found)}, but appd runs on {wanted}: make it with the same minor version")


def _with_path_files(packages: str) -> list[str]:
    """The folder and those that its .pth files add (editable installs)."""
    import site

    before = list(sys.path)
    site.addsitedir(packages)
    added = [one for one in sys.path if one not in before]
    sys.path[:] = before
    return [packages, *(one for one in added if one != packages)]


def load(dotted: str, settings: Settings, attribute: str, number: int = 0) -> Any:
    """Imports hosted code.

    Args:
        dotted: `package.module:name`.
        settings: The section that names it.
        attribute: The key that does.
        number: Which value of the key.

    Returns:
        The object.

    Raises:
        ConfigurationError: It does not import; the problem carries the line, and the traceback of the hosted code.
    """
    from importlib import import_module

    module_name, _, path = dotted.partition(":")
    module = call(f"{dotted} cannot be imported", lambda: import_module(module_name), settings, attribute, number)
    found = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            where = getattr(module, "__file__", None) or module_name
            raise ConfigurationError(
                settings.problem(f"{dotted}: {module_name} ({where}) has no {path!r}", attribute, number)
            ) from None
    return found


def call(what: str, hosted: Callable[[], Any], settings: Settings, attribute: str, number: int = 0) -> Any:
    """Calls hosted code and turns whatever it raises into a problem.

    Args:
        what: What has failed when it fails, as the start of a line.
        hosted: The call.
        settings: The section that asks for it.
        attribute: The key that does; "" is the section.
        number: Which value of the key.

    Raises:
        ConfigurationError: It raised, or called sys.exit().
    """
    try:
        return hosted()
    except (ConfigurationError, Stopped):
        raise
    except SystemExit as error:
        reason = f"it called sys.exit({error.code!r})"
        raised: BaseException = error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raised = error
    raise ConfigurationError(
        settings.problem(f"{what}: {reason}", attribute, number, _their_traceback(raised))
    ) from None


def _their_traceback(error: BaseException) -> str:
    """The traceback without the frames of appd and of the import system, and nothing when no frame is theirs."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((os.path.dirname(__file__), "<frozen importlib"))
        and "importlib" not in frame.filename
    ]
    if not frames and not isinstance(error, SyntaxError):
        return ""
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)] if frames else []
    return "".join([*lines, *traceback.format_exception_only(type(error), error)])


_CONVERTERS: dict[Any, Callable[[str], Any]] = {int: int, float: float, Path: Path, str: str}


def with_options(hosted: Callable[..., Any], options: Settings | None, what: str) -> dict[str, Any]:
    """Turns an `<options>` section into keyword arguments for a callable, converted by its annotations.

    Args:
        hosted: The callable.
        options: The section, None without one.
        what: What the callable is called in messages.

    Returns:
        The keyword arguments.

    Raises:
        ConfigurationError: An option that the callable does not take, or one that does not convert.
    """
    given: Mapping[str, str] = options.values["values"] if options is not None else {}
    try:
        parameters = inspect.signature(hosted).parameters
    except (TypeError, ValueError):
        return dict(given)
    free = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    named = {one.name: one for one in parameters.values() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    annotations = _annotations(hosted)
    problems: list[Problem] = []
    arguments: dict[str, Any] = {}
    for key, text in given.items():
        assert options is not None
        if key not in named and not free:
            takes = ", ".join(named) or "none"
            problems.append(options.problem(f"{what} has no option {key!r}, it takes {takes}", key))
            continue
        try:
            arguments[key] = _converted(annotations.get(key, str), text)
        except ValueError as error:
            problems.append(options.problem(f"{key}: {error}", key))
    if problems:
        raise ConfigurationError(*problems)
    return arguments


def missing_options(hosted: Callable[..., Any], arguments: Mapping[str, Any]) -> list[str]:
    """The names of the arguments that a callable needs and was not given."""
    try:
        parameters = inspect.signature(hosted).parameters.values()
    except (TypeError, ValueError):
        return []
    named = inspect.Parameter
    required = (named.POSITIONAL_ONLY, named.POSITIONAL_OR_KEYWORD, named.KEYWORD_ONLY)
    return [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind in required and one.name not in arguments
    ]


def _annotations(hosted: Any) -> dict[str, Any]:
    target = hosted.__init__ if inspect.isclass(hosted) else hosted
    try:
        return get_type_hints(target)
    except Exception:  # annotations are the hosted code's own, and may name what is not there
        return {}


def _converted(annotation: Any, text: str) -> Any:
    if annotation is bool:
        from appd.config.datatypes import switch

        return switch(text)
    members = getattr(annotation, "__args__", ())
    plain = next((one for one in members if one in _CONVERTERS), annotation) if type(None) in members else annotation
    if plain not in _CONVERTERS:
        return text
    try:
        return _CONVERTERS[plain](text)
    except ValueError:
        raise ValueError(f"{text!r} is not of type {plain.__name__}") from None
