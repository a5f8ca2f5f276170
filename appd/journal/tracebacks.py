"""An exception as the text, the type name and the place that an entry shows."""

from __future__ import annotations

import traceback
from types import TracebackType

from appd.journal.entry import Value

__all__ = ["code_fields", "exception_text", "type_name"]


def exception_text(error: BaseException) -> str:
    """Give the traceback with its causes, contexts and notes, as Python prints it.

    Args:
        error: The exception.

    Returns:
        The text without a newline at its end. An exception that cannot be formatted still names its type.
    """
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip("\n")
    except Exception as broken:
        return f"{type_name(type(error))} (its traceback cannot be formatted: {type_name(type(broken))})"


def type_name(kind: object) -> str:
    """Give the dotted name of a type, as a traceback has it: those of Python itself without ``builtins``.

    Args:
        kind: The type.

    Returns:
        The name.
    """
    module, name = getattr(kind, "__module__", ""), getattr(kind, "__qualname__", str(kind))
    return str(name) if module in ("", "builtins", "__main__") else f"{module}.{name}"


def code_fields(trace: TracebackType | None) -> dict[str, Value]:
    """Say where an exception was raised.

    Args:
        trace: A traceback.

    Returns:
        CODE_FILE, CODE_LINE and CODE_FUNC of its innermost frame, or nothing.
    """
    if trace is None:
        return {}
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return {"CODE_FILE": code.co_filename, "CODE_LINE": trace.tb_lineno, "CODE_FUNC": code.co_name}
