"""Twisted's events as entries."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogBeginner, Logger, LogLevel, LogPublisher
from twisted.python import log as legacy
from twisted.python.failure import Failure

from appd.journal import CRITICAL, DEBUG, ERROR, INFO, WARNING, Entry, Log
from appd.journal.events import EventObserver


class KeptLog(Log):
    """A log that keeps entries instead of writing them."""

    def __init__(self) -> None:
        super().__init__("prefix", environ={})
        self.entries: list[Entry] = []

    def put(self, entry: Entry) -> None:
        self.entries.append(entry)


@pytest.fixture
def kept() -> KeptLog:
    """A log."""
    return KeptLog()


@pytest.fixture
def logger(kept: KeptLog) -> Logger:
    """A Twisted logger whose events end there."""
    return Logger("shop.cart", observer=kept.observer())


def fail(depth: int = 2) -> None:
    """Raise something from some calls below."""
    if depth:
        fail(depth - 1)
    raise ValueError("no such thing")


@pytest.mark.parametrize(
    ("name", "priority"),
    [("debug", DEBUG), ("info", INFO), ("warn", WARNING), ("error", ERROR), ("critical", CRITICAL)],
)
def test_levels(kept: KeptLog, logger: Logger, name: str, priority: int) -> None:
    """Each level has its priority."""
    kept.configure("prefix", "debug")
    getattr(logger, name)("{a} is {b}", a=1, b="x")
    (entry,) = kept.entries
    assert (entry.message, entry.priority, entry.fields) == ("1 is x", priority, {"LOGGER": "shop.cart"})
    assert entry.time > 1e9


def test_unwanted_events_are_not_formatted(kept: KeptLog, logger: Logger) -> None:
    """An event below the level costs no formatting."""

    class Costly:
        def __str__(self) -> str:
            raise AssertionError

    logger.debug("{costly}", costly=Costly())
    assert kept.entries == []


def test_fields(kept: KeptLog, logger: Logger) -> None:
    """Keys that are journal fields become fields; others do not."""
    logger.info(
        "GET /",
        appd_server="http:shop",
        appd_type="http",
        appd_socket="web",
        appd_peer=("127.0.0.1", 5),
        message_id="0" * 32,
        http_method="GET",
        http_path=b"/\xff",
        http_status=200,
        http_bytes=7,
        duration_usec=11,
        appd_secret="x",
        secret=None,
    )
    assert kept.entries[0].fields == {
        "LOGGER": "shop.cart",
        "APPD_SERVER": "http:shop",
        "APPD_TYPE": "http",
        "APPD_SOCKET": "web",
        "APPD_PEER": "('127.0.0.1', 5)",
        "MESSAGE_ID": "0" * 32,
        "HTTP_METHOD": "GET",
        "HTTP_PATH": b"/\xff",
        "HTTP_STATUS": 200,
        "HTTP_BYTES": 7,
        "DURATION_USEC": 11,
    }


def test_failure_is_one_entry_and_an_error(kept: KeptLog, logger: Logger) -> None:
    """An exception is one entry with its traceback, causes and place; the process lives, so it is not critical."""
    try:
        try:
            fail()
        except ValueError as error:
            raise KeyError("outer") from error
    except KeyError:
        logger.failure("while {doing}", doing="this")
    (entry,) = kept.entries
    assert entry.priority == ERROR
    assert isinstance(entry.message, str)
    first, *_, last = entry.message.splitlines()
    assert (first, last) == ("while this", "KeyError: 'outer'")
    assert "ValueError: no such thing" in entry.message
    assert entry.message.count("while this") == 1
    assert entry.fields["EXCEPTION_TYPE"] == "KeyError"
    assert entry.fields["CODE_FILE"] == __file__
    assert entry.fields["CODE_FUNC"] == "test_failure_is_one_entry_and_an_error"


def test_place_is_the_innermost_frame(kept: KeptLog, logger: Logger) -> None:
    """CODE_FUNC is where it was raised, not where it was caught."""
    try:
        fail()
    except ValueError:
        logger.failure("")
    assert kept.entries[0].fields["CODE_FUNC"] == "fail"


def test_cleaned_failure(kept: KeptLog, logger: Logger) -> None:
    """A failure that no longer has its real traceback shows what it has."""
    try:
        fail()
    except ValueError:
        failure = Failure()
    failure.cleanFailure()
    logger.failure("cleaned", failure=failure)
    (entry,) = kept.entries
    assert isinstance(entry.message, str)
    assert entry.message.endswith("ValueError: no such thing")
    assert (entry.fields["EXCEPTION_TYPE"], entry.fields["CODE_FUNC"]) == ("ValueError", "fail")


def test_failure_without_traceback(kept: KeptLog, logger: Logger) -> None:
    """One that was never raised has a type and no place."""
    logger.failure("made", failure=Failure(RuntimeError("made")))
    (entry,) = kept.entries
    assert isinstance(entry.message, str)
    assert "RuntimeError: made" in entry.message
    assert entry.fields == {"LOGGER": "shop.cart", "EXCEPTION_TYPE": "RuntimeError"}


def test_failure_at_a_level_of_its_own(kept: KeptLog, logger: Logger) -> None:
    """Who logs a failure as a warning gets a warning."""
    try:
        fail()
    except ValueError:
        logger.failure("expected", level=LogLevel.warn)
    assert kept.entries[0].priority == WARNING


class Unspeakable(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


def test_unformattable_events_are_not_lost(kept: KeptLog, logger: Logger) -> None:
    """What cannot be formatted is still an entry."""
    logger.info("{missing.attribute}", missing=1)
    logger.info("{value}", value=Unspeakable())
    logger.info("peer", appd_peer=Unspeakable())
    try:
        raise Unspeakable
    except Unspeakable:
        logger.failure("failure")
    messages = [str(entry.message) for entry in kept.entries]
    assert len(messages) == 4
    assert "missing" in messages[0]
    assert "value" in messages[1]
    assert "a log event cannot be formatted (RuntimeError): 'peer' with appd_peer" in messages[2]
    assert "Unspeakable" in messages[3]
    assert kept.entries[3].fields["EXCEPTION_TYPE"] == f"{__name__}.Unspeakable"


@pytest.mark.parametrize("event", [{}, {"log_level": 3}, {"log_level": LogLevel.info, "log_format": 5}, {1: 2}])
def test_odd_events(kept: KeptLog, event: dict[str, Any]) -> None:
    """An event from somebody who knows no rules is logged too."""
    EventObserver(kept)(event)
    assert len(kept.entries) == 1


def publish(kept: KeptLog, act: Callable[[legacy.LogPublisher], None]) -> Entry:
    """Let a publisher of twisted.python.log publish something."""
    new = LogPublisher(kept.observer())
    act(legacy.LogPublisher(observerPublisher=new, publishPublisher=new))
    (entry,) = kept.entries
    return entry


def test_legacy_message(kept: KeptLog) -> None:
    """twisted.python.log.msg arrives."""
    entry = publish(kept, lambda publisher: publisher.msg("one", "two"))
    assert (entry.message, entry.priority, entry.fields["LOGGER"]) == ("one two", INFO, "log_legacy")


def test_legacy_failure(kept: KeptLog) -> None:
    """What twisted.python.log.err publishes is one error with one traceback."""
    try:
        fail()
    except ValueError:
        failure = Failure()
    entry = publish(kept, lambda publisher: publisher.msg(failure=failure, why="why", isError=1))
    assert entry.priority == ERROR
    assert isinstance(entry.message, str)
    assert entry.message.startswith("why\nTraceback")
    assert entry.message.count("ValueError: no such thing") == 1
    assert (entry.fields["EXCEPTION_TYPE"], entry.fields["CODE_FUNC"]) == ("ValueError", "fail")


class Streams:
    """Stands for the module sys."""

    def __init__(self) -> None:
        import io

        self.stdout, self.stderr = io.StringIO(), io.StringIO()


class Warnings:
    """Stands for the module warnings."""

    @staticmethod
    def showwarning(*arguments: object) -> None:
        raise AssertionError


def test_begin_logging_to(kept: KeptLog) -> None:
    """Twisted's own redirection gives line by line; what was logged before comes first; a warning has its place."""
    import io

    publisher, streams, warnings = LogPublisher(), Streams(), Warnings()
    beginner = LogBeginner(publisher, io.StringIO(), streams, warnings)
    Logger("early", observer=publisher).info("before")
    beginner.beginLoggingTo([kept.observer()])
    print("one\ntwo", file=streams.stdout)
    print("half", end="", file=streams.stdout)
    print("bad", file=streams.stderr)
    print(" whole", file=streams.stdout)
    beginner.showwarning("old", DeprecationWarning, "shop.py", 7)
    assert [(entry.message, entry.priority, entry.fields["LOGGER"]) for entry in kept.entries[:-1]] == [
        ("before", INFO, "early"),
        ("one", INFO, "stdout"),
        ("two", INFO, "stdout"),
        ("bad", WARNING, "stderr"),
        ("half whole", INFO, "stdout"),
    ]
    warning = kept.entries[-1]
    assert warning.priority == WARNING
    assert (warning.fields["CODE_FILE"], warning.fields["CODE_LINE"]) == ("shop.py", 7)


def test_unhandled_error_in_deferred(kept: KeptLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error that nobody handled is one entry."""
    import gc

    from twisted.internet import defer

    monkeypatch.setattr(defer, "log", Logger("twisted.internet.defer", observer=kept.observer()))

    def forget() -> None:
        deferred: Deferred[None] = Deferred()
        deferred.addCallback(lambda _: fail())
        deferred.callback(None)

    forget()
    gc.collect()
    entries = [entry for entry in kept.entries if entry.fields.get("EXCEPTION_TYPE") == "ValueError"]
    assert len(entries) == 1
    assert entries[0].priority == ERROR
    assert "no such thing" in str(entries[0].message)


def test_observer_in_many_threads(kept: KeptLog, logger: Logger) -> None:
    """The observer may be called by any thread."""

    def log_many() -> None:
        for _ in range(200):
            logger.info("x")

    threads = [threading.Thread(target=log_many) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept.entries) == 1000
