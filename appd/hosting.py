"""Hosted code: where it is found, and how it is imported by its dotted name.

Hosted code may do anything when it is imported: raise, call sys.exit(), not be there. Whatever it does becomes a
problem with the line of the file that names it, and its own traceback below that line.
"""

from __future__ import annotations

import os
import sys

from appd.access import folder_refusal
from appd.config.settings import Settings
from appd.ending import leave_fork
from appd.errors import AppdError, ConfigurationError, Place, Problem, of_the_host
from appd.signals import Stopped
from appd.startup.bare import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping
    from types import ModuleType
    from typing import Any

__all__ = ["apply_surroundings", "call", "called", "guard", "load", "missing_options", "with_arguments", "with_options"]


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
            refusal = folder_refusal(directory) or error.strerror
            problems.append(settings.problem(f"working-directory {directory}: {refusal}", "working_directory"))
    front: list[str] = []
    for number, folder in enumerate(settings.python_path):
        refusal = folder_refusal(folder)
        if refusal:
            problems.append(settings.problem(f"python-path {folder}: {refusal}", "python_path", number))
        else:
            front.append(folder)
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
    refusal = folder_refusal(virtualenv)
    if refusal:
        raise ValueError(refusal)
    if not os.path.isfile(os.path.join(virtualenv, "pyvenv.cfg")):
        raise ValueError("it is no virtual environment (it has no pyvenv.cfg)")
    wanted = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = os.path.join(virtualenv, "lib", wanted, "site-packages")
    if os.path.isdir(packages):
        return packages
    folder = os.path.join(virtualenv, "lib")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = sorted(one for one in names if one.startswith("python")) or ["none"]
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
        dotted: `package.module:name`, or `/path/file.py:name`.
        settings: The section that names it.
        attribute: The key that does.
        number: Which value of the key.

    Returns:
        The object.

    Raises:
        ConfigurationError: It does not import; the problem carries the line, and the traceback of the hosted code.
    """
    module_name, _, path = dotted.rpartition(":")
    importing = _import_file if "/" in module_name else _import_module
    module = call(f"{dotted} cannot be imported", lambda: importing(module_name), settings, attribute, number)
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


def _import_module(name: str) -> ModuleType:
    """What importlib.import_module does, without importing that."""
    __import__(name)
    return sys.modules[name]


def _import_file(path: str) -> ModuleType:
    """Imports a file that need not lie on the module search path, once."""
    import zlib
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    # Two files may be called wsgi.py, and a module of that name may be installed besides.
    name = f"{os.path.splitext(os.path.basename(path))[0]}_{zlib.crc32(os.fsencode(path)):08x}"
    if name in sys.modules:
        return sys.modules[name]
    # What lies beside it is found as if it were started as a script, but nothing is hidden by it.
    folder = os.path.dirname(path)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = spec_from_loader(name, SourceFileLoader(name, path))
    assert spec is not None, "a loader that is given makes a spec"
    module = module_from_spec(spec)
    # Before it runs, as import does it: what it defines names its module, and looks it up.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)  # type: ignore[union-attr]  # the one above
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


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
    return guard(what, hosted, settings.where(attribute, number))


def guard(what: str, hosted: Callable[[], Any], place: Place | None = None) -> Any:
    """As `call`, for hosted code that no key of the file names.

    Args:
        what: What has failed when it fails, as the start of a line.
        hosted: The call.
        place: Where it was asked for.

    Raises:
        AppdError: It raised, or called sys.exit(); an AppdError of its own passes.
    """
    try:
        return _called(hosted)
    except (AppdError, Stopped):
        raise
    except SystemExit as error:
        reason = f"it called sys.exit({error.code!r})"
        raised: BaseException = error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            raise  # a person's, not theirs
        refused = of_the_host(error)
        if refused is not None:
            raise refused from None
        reason = (f"{type(error).__name__}: {error}".splitlines() or [""])[0] + _where_it_is_looked_for(error, what)
        raised = error
    raise ConfigurationError(Problem(f"{what}: {reason}", place, _their_traceback(raised))) from None


def _where_it_is_looked_for(error: BaseException, what: str) -> str:
    """Which key says where modules lie, when the very module that the file names is not found."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    named = what.partition(":")[0]
    return (
        " (a `python-path` line names the folder that it lies in)" if f"{named}.".startswith(f"{error.name}.") else ""
    )


def _called(hosted: Callable[[], Any]) -> Any:
    """Calls it. What it forks is a process of its own: what is raised there is no problem of the file."""
    process = os.getpid()
    try:
        return hosted()
    except BaseException as error:
        if os.getpid() != process:
            leave_fork(error)
        raise


# Whose frames are no part of a hosted traceback: appd's, and those of the import system.
_OURS = (
    os.path.dirname(__file__) + os.sep,
    os.path.join(os.path.dirname(os.__file__), "importlib") + os.sep,
    "<frozen importlib",
)


def _their_traceback(error: BaseException) -> str:
    """The traceback without the frames of appd and of the import system, and nothing when no frame is theirs."""
    import traceback

    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_OURS)]
    if not frames and not isinstance(error, SyntaxError):
        return ""
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)] if frames else []
    return "".join([*lines, *traceback.format_exception_only(type(error), error)])


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
    import inspect

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


def with_arguments(settings: Settings, attribute: str) -> Callable[[], Any]:
    """What calls the hosted code that a key names, with the section's `<options>`.

    Args:
        settings: The section, with `options`.
        attribute: The key, whose value is a dotted name.

    Raises:
        ConfigurationError: It does not import, is not callable, or takes other options.
    """
    dotted = settings.values[attribute]
    hosted = load(dotted, settings, attribute)
    if not callable(hosted):
        raise ConfigurationError(settings.problem(f"{dotted} is not callable: it is {hosted!r}", attribute))
    arguments = with_options(hosted, settings.options, dotted)
    missing = missing_options(hosted, arguments)
    if missing:
        raise ConfigurationError(settings.problem(f"{dotted} needs <options> {', '.join(missing)}", attribute))
    from functools import partial

    return partial(hosted, **arguments)


def called(settings: Settings, attribute: str) -> Any:
    """Calls the hosted code that a key names; arguments as for `with_arguments`.

    Raises:
        ConfigurationError: As that; or it raised.
    """
    make = with_arguments(settings, attribute)
    return call(f"{settings.values[attribute]} failed", make, settings, attribute)


def missing_options(hosted: Callable[..., Any], arguments: Mapping[str, Any]) -> list[str]:
    """The names of the arguments that a callable needs and was not given."""
    import inspect

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
    import functools
    import inspect
    from typing import get_type_hints

    if isinstance(hosted, functools.partial):
        return _annotations(hosted.func)
    if inspect.isclass(hosted):
        target = hosted.__init__
    elif inspect.isroutine(hosted):
        target = hosted
    else:
        target = type(hosted).__call__
    try:
        return get_type_hints(target)
    except Exception:  # annotations are the hosted code's own, and may name what is not there
        return {}


def _converted(annotation: Any, text: str) -> Any:
    from types import UnionType
    from typing import Union, get_origin

    members = [one for one in getattr(annotation, "__args__", ()) if one is not type(None)]
    if len(members) == 1 and get_origin(annotation) in (Union, UnionType):
        annotation = members[0]
    if annotation is bool:
        from appd.config.datatypes import switch

        return switch(text)
    if annotation not in (int, float) and getattr(annotation, "__module__", "").partition(".")[0] != "pathlib":
        return text
    try:
        return annotation(text)
    except ValueError:
        raise ValueError(f"{text!r} is not of type {annotation.__name__}") from None
