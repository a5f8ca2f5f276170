"""Records of ``logging``, warnings and printed lines as entries."""

import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from appd.journal import CRITICAL, DEBUG, ERROR, INFO, NOTICE, WARNING, Entry, Log
from appd.journal.prints import PrintStream


class KeptLog(Log):
    """A log that keeps entries instead of writing them."""

    def __init__(self) -> None:
        super().__init__("prefix", environ={})
        self.entries: list[Entry] = []

    def put(self, entry: Entry) -> None:
        self.entries.append(entry)


class Unspeakable(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError


def fail() -> None:
    """Raise something."""
    raise ValueError("no such thing")


@pytest.fixture
def kept() -> Iterator[KeptLog]:
    """A log that has ``logging`` installed; what was before is restored."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    show = warnings.showwarning
    kept = KeptLog()
    kept.install_stdlib()
    yield kept
    logging.captureWarnings(False)
    kept.configure("prefix")
    warnings.showwarning = show
    root.handlers[:] = handlers
    root.setLevel(level)


def without_pytest(kept: KeptLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the handlers that pytest adds for each test: they format records as well."""
    assert kept._handler is not None
    monkeypatch.setattr(logging.getLogger(), "handlers", [kept._handler])


@pytest.mark.parametrize(
    ("level", "priority"),
    [(10, DEBUG), (5, DEBUG), (20, INFO), (25, NOTICE), (30, WARNING), (35, WARNING), (40, ERROR), (50, CRITICAL)],
)
def test_levels(kept: KeptLog, level: int, priority: int) -> None:
    """Each level has its priority, levels between the named ones too."""
    kept.configure("prefix", "debug")
    logging.getLogger("shop").setLevel(1)
    logging.getLogger("shop").log(level, "%s is %d", "x", 1)
    logging.getLogger("shop").setLevel(logging.NOTSET)
    (entry,) = kept.entries
    assert (entry.message, entry.priority) == ("x is 1", priority)
    assert entry.fields["LOGGER"] == "shop"
    assert entry.fields["CODE_FILE"] == __file__
    assert entry.fields["CODE_FUNC"] == "test_levels"


def test_levels_from_the_file(kept: KeptLog) -> None:
    """Levels of namespaces hold for ``logging`` too, and end with the file that had them."""
    kept.configure("prefix", "warning", {"shop.cart": "debug"})
    assert not logging.getLogger("shop").isEnabledFor(logging.INFO)
    logging.getLogger("shop.cart.items").debug("wanted")
    logging.getLogger("shop").info("unwanted")
    kept.configure("prefix", "info")
    logging.getLogger("shop.cart.items").debug("unwanted")
    logging.getLogger("shop").info("wanted too")
    assert [entry.message for entry in kept.entries] == ["wanted", "wanted too"]


def test_extra_in_upper_case_are_fields(kept: KeptLog) -> None:
    """``extra`` makes fields of names that the journal takes, and cannot replace the message."""
    extra = {"ORDER": 7, "PEER": b"\xff", "OBJECT": [1], "lower": 1, "_PID": 1, "MESSAGE": "x", "PRIORITY": 0}
    record = logging.getLogger().makeRecord("shop", 20, "f", 1, "hello", (), None)
    record.__dict__.update(extra)
    logging.getLogger().handle(record)
    fields = kept.entries[0].fields
    assert fields["ORDER"] == 7
    assert fields["PEER"] == b"\xff"
    assert fields["OBJECT"] == "[1]"
    assert not {"lower", "_PID", "MESSAGE", "PRIORITY"} & set(fields)
    assert (kept.entries[0].message, kept.entries[0].priority) == ("hello", INFO)


def test_exception_is_one_entry(kept: KeptLog) -> None:
    """The traceback is in the entry, and the place is where it was raised."""
    try:
        fail()
    except ValueError:
        logging.getLogger("shop").exception("while this", stack_info=True)
    (entry,) = kept.entries
    assert isinstance(entry.message, str)
    assert entry.message.startswith("while this\nTraceback (most recent call last):")
    assert "ValueError: no such thing\nStack (most recent call last):" in entry.message
    assert (entry.fields["EXCEPTION_TYPE"], entry.fields["CODE_FUNC"]) == ("ValueError", "fail")


def test_exc_info_without_exception(kept: KeptLog) -> None:
    """``exc_info`` outside of an exception is no traceback."""
    logging.getLogger("shop").error("hello", exc_info=True)
    assert kept.entries[0].message == "hello"
    assert "EXCEPTION_TYPE" not in kept.entries[0].fields


def test_unformattable_records_are_not_lost(kept: KeptLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record whose arguments do not fit is an entry all the same."""
    without_pytest(kept, monkeypatch)
    logging.getLogger("shop").error("%d items", "many")
    logging.getLogger("shop").error(Unspeakable())
    assert len(kept.entries) == 2
    assert str(kept.entries[0].message).startswith("%d items (a log record cannot be formatted)\nTraceback")
    assert "Unspeakable" in str(kept.entries[1].message)
    assert [entry.priority for entry in kept.entries] == [ERROR, ERROR]


def test_warnings(kept: KeptLog) -> None:
    """A warning is an entry that names its place."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    (entry,) = kept.entries
    assert (entry.priority, entry.fields) == (WARNING, {"LOGGER": "py.warnings"})
    assert str(entry.message).startswith(f"{__file__}:")
    assert "DeprecationWarning: old thing" in str(entry.message)


def test_installed_once(kept: KeptLog) -> None:
    """Asking twice does not log twice."""
    kept.install_stdlib()
    logging.getLogger().warning("x")
    assert len(kept.entries) == 1


def test_logging_while_formatting(kept: KeptLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument that logs when it is formatted does not lock up."""
    without_pytest(kept, monkeypatch)

    class Talkative:
        def __str__(self) -> str:
            logging.getLogger("inner").warning("inner")
            return "outer"

    logging.getLogger("shop").warning("%s", Talkative())
    assert [entry.message for entry in kept.entries] == ["inner", "outer"]


def test_printed_lines() -> None:
    """A line is an entry when it ends; empty ones are none; bytes come out as they went in."""
    kept = KeptLog()
    stream = PrintStream(kept, "stdout", INFO, 1)
    print("one\ntwo", 3, file=stream)
    print("begun", end=" ", file=stream, flush=True)
    print(file=stream)
    print(file=stream)
    stream.buffer.write(b"raw \xff\n")
    stream.write("left over")
    assert [str(entry.message) for entry in kept.entries] == ["one", "two 3", "begun ", "raw \udcff"]
    stream.drain()
    assert kept.entries[-1].message == "left over"
    assert kept.entries[-1].fields == {"LOGGER": "stdout"}
    assert not stream.isatty()
    assert stream.writable()
    assert stream.fileno() == 1
    stream.close()
    assert not stream.closed
    with pytest.raises(TypeError):
        stream.write(b"x")  # type: ignore[arg-type]


def test_a_line_without_end_is_not_collected_for_ever() -> None:
    """Text without newline is an entry once it is as long as journald would take."""
    kept = KeptLog()
    stream = PrintStream(kept, "stdout", INFO, 1)
    for _ in range(100):
        stream.write("x" * 1000)
    assert len(kept.entries) == 2


def test_threads_do_not_mix_their_lines() -> None:
    """Each thread prints lines of its own."""
    kept = KeptLog()
    stream = PrintStream(kept, "stdout", INFO, 1)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=lambda name=name: [print(name, name, file=stream) for _ in range(2000)])
            for name in "abcd"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(kept.entries) == 8000
    assert {entry.message for entry in kept.entries} == {"a a", "b b", "c c", "d d"}


def test_install_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both streams are replaced, once; stderr is a warning."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    kept = KeptLog()
    kept.install_prints()
    out = sys.stdout
    kept.install_prints()
    assert sys.stdout is out
    print("out")
    print("err", file=sys.stderr)
    sys.stdout.write("left")
    kept.close(1)
    assert [(entry.message, entry.priority, entry.fields["LOGGER"]) for entry in kept.entries] == [
        ("out", INFO, "stdout"),
        ("err", WARNING, "stderr"),
        ("left", INFO, "stdout"),
    ]
