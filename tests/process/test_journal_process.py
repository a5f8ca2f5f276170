"""The log in a process of its own: what it imports, prints and leaves behind."""

import json
import os
import pty
import subprocess
import sys
import textwrap
import time

import pytest


def run(program: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program with standard error as a pipe."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


def test_import_is_cheap() -> None:
    """Importing and starting the log imports nothing that costs."""
    result = run("""
        import sys
        from appd.journal import Log
        expensive = {"twisted", "json", "logging", "traceback", "socket", "datetime", "zope", "asyncio", "systemd"}
        assert not expensive & set(sys.modules), expensive & set(sys.modules)
        log = Log("prefix")
        log.start()
        log.write("hello")
        log.close(5)
        assert not expensive & set(sys.modules), expensive & set(sys.modules)
    """)
    assert (result.returncode, result.stderr) == (0, b"<6>hello\n")


PROGRAM = """
    import sys, logging, warnings
    from appd.journal import Log
    log = Log(sys.argv[1])
    log.fields["APPD_WORKER"] = 1
    log.start()
    log.write("early")
    log.install_stdlib()
    from twisted.logger import Logger, globalLogBeginner
    if sys.argv[2] == "twisted":
        globalLogBeginner.beginLoggingTo([log.observer()])
    else:
        globalLogBeginner.beginLoggingTo([log.observer()], redirectStandardIO=False)
        log.install_prints()
    Logger("shop").info("event {n}", n=1)
    logging.getLogger("shop.cart").warning("record", extra={"ORDER": 7})
    print("printed\\ntwice")
    print("complaint", file=sys.stderr)
    warnings.warn("old")
    try:
        1 / 0
    except ZeroDivisionError:
        Logger("shop").failure("broken")
    sys.exit(0 if log.close(5) else 1)
"""


@pytest.mark.parametrize("prints", ["twisted", "own"])
def test_everything_once_as_json(prints: str) -> None:
    """Events, records, printed lines, warnings and exceptions are one entry each, in order."""
    program = textwrap.dedent(PROGRAM)
    result = subprocess.run(
        [sys.executable, "-c", program, "json", prints], capture_output=True, timeout=60, check=False
    )
    entries = [json.loads(line) for line in result.stderr.splitlines()]
    assert (result.returncode, result.stdout) == (0, b"")
    assert [(entry["LOGGER"], entry["PRIORITY"]) for entry in entries if "old" not in entry["MESSAGE"]] == [
        ("appd", 6),
        ("shop", 6),
        ("shop.cart", 4),
        ("stdout", 6),
        ("stdout", 6),
        ("stderr", 4),
        ("shop", 3),
    ]
    assert sum("old" in entry["MESSAGE"] for entry in entries) == 1
    assert {entry["APPD_WORKER"] for entry in entries} == {1}
    assert entries[2]["ORDER"] == 7
    assert entries[-1]["EXCEPTION_TYPE"] == "ZeroDivisionError"
    assert "ZeroDivisionError: division by zero" in entries[-1]["MESSAGE"]


def test_terminal() -> None:
    """On a terminal the log is text for a person, the same program on a pipe has priorities."""
    reader, terminal = pty.openpty()
    program = textwrap.dedent(PROGRAM)
    with subprocess.Popen([sys.executable, "-c", program, "auto", "own"], stderr=terminal, stdout=terminal) as process:
        os.close(terminal)
        shown = b""
        try:
            while piece := os.read(reader, 65536):
                shown += piece
        except OSError:  # EIO: the last writer has gone
            pass
        assert process.wait(30) == 0
    os.close(reader)
    assert b"INFO appd: early\r\n" in shown
    assert b"ERROR shop: broken\r\n    Traceback (most recent call last):\r\n" in shown
    piped = subprocess.run(
        [sys.executable, "-c", program, "auto", "own"], stderr=subprocess.PIPE, timeout=60, check=False
    )
    assert b"<6>early\n<6>event 1\n<4>record\n<6>printed\n<6>twice\n<4>complaint\n" in piped.stderr
    assert all(line[:1] == b"<" and line[2:3] == b">" for line in piped.stderr.splitlines())


def test_exit_with_a_stuck_reader() -> None:
    """A process whose standard error nobody reads logs on and leaves in time."""
    program = textwrap.dedent("""
        import os, sys, time
        from appd.journal import Log
        log = Log()
        log.start()
        began = time.monotonic()
        for number in range(30_000):
            log.write("x" * 200)
        assert time.monotonic() - began < 20
        assert not log.close(0.3)
        os.write(1, b"%d" % log.dropped)
    """)
    reader, writer = os.pipe()
    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", program], stderr=writer, stdout=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writer)
    os.close(reader)
    assert result.returncode == 0
    assert int(result.stdout) > 15_000
    assert time.monotonic() - began < 30


def test_exit_without_close() -> None:
    """A process that forgets to close its log ends all the same."""
    result = run("""
        from appd.journal import Log
        log = Log()
        log.start()
        log.write("hello")
        log.flush(5)
    """)
    assert (result.returncode, result.stderr) == (0, b"<6>hello\n")


def test_fork_with_a_log_of_the_childs_own() -> None:
    """A child that makes its own log writes, and its parent goes on writing."""
    result = run("""
        import os
        from appd.journal import Log
        log = Log()
        log.start()
        log.write("parent")
        assert log.close(5)
        child = os.fork()
        if child == 0:
            log = Log()
            log.start()
            log.write("child")
            os._exit(0 if log.close(5) else 1)
        assert os.waitpid(child, 0)[1] == 0
        log.start()
        log.write("parent again")
        assert log.close(5)
    """)
    assert (result.returncode, result.stderr) == (0, b"<6>parent\n<6>child\n<6>parent again\n")
