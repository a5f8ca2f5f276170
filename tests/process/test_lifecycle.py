"""What the manager is told and when; the stop, from the first line on; the watchdog."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from support.running import ask, listening, read_exactly, wait_until
from support.service import GATE

ECHO = "<echo e>\n  address systemd:name=e\n</echo>\n"

SLOW_PROTOCOL = """
from twisted.internet.protocol import Factory, Protocol

class Slow(Protocol):
    def dataReceived(self, data):
        if data == b"block":
            import time
            time.sleep(30)
        self.transport.write(data)

def factory():
    return Factory.forProtocol(Slow)
"""


@pytest.fixture
def slow(start, tmp_path):
    """A server whose factory knows nothing of draining."""
    (tmp_path / "slow.py").write_text(SLOW_PROTOCOL)

    def begin(more: str = "", **options):
        passed = listening()
        text = f"python-path {tmp_path}\n{more}<server s>\n type slow:factory\n address systemd:name=s\n</server>\n"
        return start(text, ("s", passed), **options), passed

    return begin


def test_ready_once_and_stopping_once(start):
    """READY=1 with a STATUS=, then nothing more until STOPPING=1; exit 0."""
    running = start(ECHO, ("e", listening())).wait_ready()
    assert running.stop() == 0
    messages = running.manager.told()
    assert [one["READY"] for one in messages if "READY" in one] == ["1"]
    assert [one["STOPPING"] for one in messages if "STOPPING" in one] == ["1"]
    assert "READY" in messages[0] and "STOPPING" in messages[-1]


def test_no_manager(start):
    """Without NOTIFY_SOCKET it is silent and serves."""
    passed = listening()
    running = start(ECHO, ("e", passed), environ={"NOTIFY_SOCKET": ""})
    running.wait_said("ready: serving 1 server")
    assert ask(passed, b"x") == b"x"


def test_ready_means_that_every_address_listens(start, tmp_path):
    """When READY=1 comes, each of many addresses answers at once."""
    passed = [(f"n{number}", listening()) for number in range(40)]
    text = "".join(f"<echo e{number}>\n address systemd:name=n{number}\n</echo>\n" for number in range(40))
    start(text, *passed).wait_ready()
    assert all(ask(sock, b"x") == b"x" for _name, sock in passed)


def test_start_record(start):
    """zope.app.twisted's record, with the real address below it."""
    passed = listening()
    running = start(ECHO, ("e", passed)).wait_ready()
    running.wait_said("-- e Server started.")
    running.wait_said("(systemd:name=e)")
    where = f"127.0.0.1:{passed.getsockname()[1]}"
    assert (
        f"Hostname: 127.0.0.1\n<6>\tPort: {passed.getsockname()[1]}\n<6>\tAddress: {where} (systemd:name=e)"
        in running.errors
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_that_stop(start, number):
    """SIGTERM and Ctrl-C: exit 0."""
    running = start(ECHO, ("e", listening())).wait_ready()
    assert running.stop(number) == 0


def test_a_stop_waits_for_open_connections(slow):
    """A connection that is open is served to its end; who connects meanwhile stays in the queue of the socket."""
    running, passed = slow()
    running.wait_ready()
    with socket.create_connection(passed.getsockname(), timeout=30) as client:
        client.sendall(b"one")
        assert read_exactly(client, 3) == b"one"
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: running.manager.read(0.1) and "draining" in running.manager.messages[-1].get("STATUS", ""))
        late = socket.create_connection(passed.getsockname(), timeout=30)
        late.sendall(b"late")
        client.sendall(b"two")
        assert read_exactly(client, 3) == b"two"
    assert running.wait_exit() == 0
    draining = [one for one in running.manager.told() if "EXTEND_TIMEOUT_USEC" in one]
    assert draining and "1 connection" in draining[0]["STATUS"]
    # The next process takes it from the queue.
    accepted, _peer = passed.accept()
    assert read_exactly(accepted, 4) == b"late"
    accepted.close()
    late.close()


def test_drain_timeout(slow):
    """What is left at the end of drain-timeout is cut, and one line says so."""
    running, passed = slow("drain-timeout 1s\n")
    running.wait_ready()
    with socket.create_connection(passed.getsockname(), timeout=30) as client:
        client.sendall(b"one")
        client.recv(10)
        began = time.monotonic()
        assert running.stop() == 0
        assert 0.9 < time.monotonic() - began < 20
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    assert "s: connections that were still open when the drain ended and are cut: 1" in running.errors


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_second_signal_ends_the_drain(slow, second):
    """Told twice, or SIGQUIT: it leaves at once."""
    running, passed = slow()
    running.wait_ready()
    with socket.create_connection(passed.getsockname(), timeout=30) as client:
        client.sendall(b"one")
        client.recv(10)
        running.process.send_signal(signal.SIGTERM)
        running.wait_said("stopping")
        began = time.monotonic()
        assert running.stop(second) == 0
        assert time.monotonic() - began < 25


def test_ctrl_c_of_a_terminal_drains(slow):
    """It reaches supervisor and workers alike, and is one stop, not two."""
    running, passed = slow()
    running.wait_ready()
    with socket.create_connection(passed.getsockname(), timeout=30) as client:
        client.sendall(b"one")
        assert read_exactly(client, 3) == b"one"
        os.killpg(running.process.pid, signal.SIGINT)
        running.wait_said("stopping")
        client.sendall(b"two")
        assert read_exactly(client, 3) == b"two"
    assert running.wait_exit() == 0


def test_idle_echo_connections_do_not_hold_a_stop(start):
    """A factory that knows how to finish (IDrainable) does not wait for its peers to leave."""
    passed = listening()
    running = start("drain-timeout 60s\n" + ECHO, ("e", passed)).wait_ready()
    with socket.create_connection(passed.getsockname(), timeout=30) as client:
        client.sendall(b"x")
        assert client.recv(10) == b"x"
        assert running.stop() == 0
        assert client.recv(10) == b""


def test_stop_while_hosted_code_is_imported(start, tmp_path):
    """SIGTERM before anything is served: it leaves with 0 at once, out of the import."""
    (tmp_path / "hosted.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    running = start(f"python-path {tmp_path}\napplication-object hosted:make\n{ECHO}", ("e", listening()))
    running.wait_said("importing")
    began = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - began < 25
    messages = running.manager.told()
    assert [one.get("STOPPING") for one in messages] == ["1"]


def test_stop_that_hosted_code_swallows(start, tmp_path):
    """An import that catches everything does not swallow the stop."""
    (tmp_path / "hosted.py").write_text(
        "import time\nprint('importing', flush=True)\ntry:\n    time.sleep(60)\nexcept BaseException:\n    pass\n"
        "def make():\n    return None\n"
    )
    running = start(f"python-path {tmp_path}\napplication-object hosted:make\n{ECHO}", ("e", listening()))
    running.wait_said("importing")
    assert running.stop() == 0
    assert all("READY" not in one for one in running.manager.read_all())


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: proc_pid_status(5)."""
    text = Path(f"/proc/{pid}/status").read_text()
    return bool(int(text.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4])
def test_stop_at_any_moment_of_the_start(start, delay):
    """SIGTERM at any moment ends with 0 and says nothing wrong, as soon as appd's own code has begun."""
    running = start(ECHO, ("e", listening()))
    # The interpreter and the entry point come before appd's first line: their default action is death by the signal.
    time.sleep(delay)
    if delay >= 0.3:
        wait_until(lambda: catches(running.process.pid, signal.SIGTERM))
    caught = catches(running.process.pid, signal.SIGTERM)
    code = running.stop()
    assert code in (0, -signal.SIGTERM)
    if caught:
        assert code == 0
    assert "Traceback" not in running.errors


def test_hangup_is_answered_in_one_line(start):
    """SIGHUP does not kill a worker alone: one line says what reload needs."""
    passed = listening()
    running = start(ECHO, ("e", passed), arguments=("--single",)).wait_ready()
    running.process.send_signal(signal.SIGHUP)
    line = running.wait_said("SIGHUP")
    assert "reload needs the supervisor" in line
    assert ask(passed, b"x") == b"x"


def test_hangup_while_it_loads_is_answered_as_well(start, tmp_path):
    """As soon as it serves: it has read the file by then."""
    (tmp_path / "gated.py").write_text(f"{GATE}def make():\n    pass\n")
    text = f"python-path {tmp_path}\napplication-object gated:make\n{ECHO}"
    running = start(text, ("e", listening()), arguments=("--single",))
    wait_until((tmp_path / "begun").exists)
    running.process.send_signal(signal.SIGHUP)
    (tmp_path / "go").touch()
    running.wait_ready().wait_said("SIGHUP: reload needs the supervisor")


def test_watchdog_comes_from_the_reactor(slow):
    """WATCHDOG=1 at half of WATCHDOG_USEC while the reactor turns, and none while it hangs."""
    running, passed = slow(environ={"WATCHDOG_USEC": "1200000"}, arguments=("--single",))
    running.wait_ready()
    times = []
    while len(times) < 6:
        message = running.manager.read(30)
        assert message is not None
        if "WATCHDOG" in message:
            times.append(time.monotonic())
    gaps = sorted(after - before for before, after in itertools.pairwise(times))
    assert gaps[len(gaps) // 2] < 1.2
    with socket.create_connection(passed.getsockname(), timeout=30) as client:
        client.sendall(b"block")
        # It hangs for thirty seconds, from soon on: three of them without a word are enough.
        wait_until(lambda: running.manager.read(3) is None, 20, lambda: "the watchdog was fed while the reactor hung")
        running.process.kill()


def test_watchdog_of_another_process(start):
    """WATCHDOG_PID of somebody else: no WATCHDOG=1."""
    running = start(ECHO, ("e", listening()), environ={"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}).wait_ready()
    running.manager.read(0.5)
    assert not any("WATCHDOG" in one for one in running.manager.read_all())


def test_blocking_calls_do_not_keep_the_process(start, tmp_path):
    """A WSGI call that never returns is cut at drain-timeout, and the process leaves."""
    (tmp_path / "app.py").write_text("import time\ndef app(environ, start_response):\n    time.sleep(600)\n")
    passed = listening()
    text = (
        f"python-path {tmp_path}\ndrain-timeout 1s\n"
        "<http h>\n address systemd:name=h\n <wsgi>\n  application app:app\n </wsgi>\n</http>\n"
    )
    running = start(text, ("h", passed)).wait_ready()
    client = socket.create_connection(passed.getsockname(), timeout=30)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: running.manager.read(0.1) and "1 connection" in running.manager.messages[-1].get("STATUS", ""))
    began = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - began < 25
    client.close()


def test_order_of_starting(start):
    """`after` decides; the record of each server shows the order."""
    text = """
<echo one>
  address systemd:name=a
  after three
</echo>
<echo two>
  address systemd:name=b
</echo>
<echo three>
  address systemd:name=c
  after TWO
</echo>
"""
    running = start(text, ("a", listening()), ("b", listening()), ("c", listening())).wait_ready()
    running.wait_said("ready:")
    started = [line.split()[1] for line in running.err if "Server started" in line]
    assert started == ["two", "three", "one"]


@pytest.mark.parametrize("first", [signal.SIGQUIT, signal.SIGTERM])
def test_told_twice_in_one_moment(slow, first):
    """SIGQUIT alone, or two signals at once: it leaves, and does not wait for the open connection."""
    running, passed = slow()
    running.wait_ready()
    with socket.create_connection(passed.getsockname(), timeout=30) as client:
        client.sendall(b"one")
        client.recv(10)
        began = time.monotonic()
        running.process.send_signal(first)
        if first == signal.SIGTERM:
            # Another one: the kernel makes one of two that are alike.
            running.process.send_signal(signal.SIGINT)
        assert running.wait_exit() == 0
        assert time.monotonic() - began < 25


START_FACTORY = """
import sys
from twisted.internet.protocol import Factory, Protocol

class Exits(Factory):
    protocol = Protocol
    def startFactory(self):
        sys.exit(3)

class Raises(Exits):
    def startFactory(self):
        raise RuntimeError("no database")

class Drains(Factory):
    protocol = Protocol

def drains():
    from zope.interface import directlyProvides
    from appd.interfaces import IDrainable
    factory = Drains()
    def drain():
        raise RuntimeError("cannot drain")
    factory.drain = drain
    directlyProvides(factory, IDrainable)
    return factory
"""


@pytest.mark.parametrize(
    ("name", "reason"), [("Exits", "it called sys.exit(3)"), ("Raises", "RuntimeError: no database")]
)
def test_factories_that_do_not_start(start, tmp_path, name, reason):
    """startFactory of a hosted factory raises or exits: 78, our line, their traceback, the manager told."""
    (tmp_path / "theirs.py").write_text(START_FACTORY)
    text = f"python-path {tmp_path}\n<server s>\n type theirs:{name}\n address systemd:name=s\n</server>\n"
    running = start(text, ("s", listening()))
    assert running.wait_exit() == 78
    assert f"server 's' cannot start: {reason}" in running.errors
    assert "theirs.py" in running.errors and "site-packages/appd/" not in running.errors.replace(str(tmp_path), "")
    assert any("cannot start" in one.get("STATUS", "") for one in running.manager.read_all())


def test_a_factory_that_fails_to_drain(start, tmp_path):
    """It is logged, and the others drain all the same."""
    (tmp_path / "theirs.py").write_text(START_FACTORY + SLOW_PROTOCOL)
    text = (
        f"python-path {tmp_path}\n<server bad>\n type theirs:drains\n address systemd:name=b\n</server>\n"
        "<server good>\n type theirs:factory\n address systemd:name=g\n</server>\n"
    )
    passed = listening()
    running = start(text, ("b", listening()), ("g", passed)).wait_ready()
    with socket.create_connection(passed.getsockname(), timeout=30) as client:
        client.sendall(b"one")
        assert read_exactly(client, 3) == b"one"
        running.process.send_signal(signal.SIGTERM)
        running.wait_said("cannot drain")
        client.sendall(b"two")
        assert read_exactly(client, 3) == b"two"
    assert running.wait_exit() == 0


def test_exit_functions_of_hosted_code_are_bounded(start, tmp_path):
    """An atexit handler that never ends is cut by the next signal."""
    (tmp_path / "theirs.py").write_text(
        "import atexit, time\natexit.register(lambda: (open('at-exit', 'w').close(), time.sleep(600)))\ndef make():\n    pass\n"
    )
    running = start(f"python-path {tmp_path}\napplication-object theirs:make\n{ECHO}", ("e", listening())).wait_ready()
    running.process.send_signal(signal.SIGTERM)
    running.wait_said("Main loop terminated")
    wait_until((tmp_path / "run0" / "at-exit").exists)
    began = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - began < 25


def test_a_child_of_hosted_code(start, tmp_path):
    """multiprocessing's fork prints and dies by SIGTERM as any process does."""
    (tmp_path / "theirs.py").write_text(
        "import multiprocessing, time\n"
        "def child(begun):\n    print('from the child', flush=True)\n    begun.set()\n    time.sleep(600)\n"
        "def make():\n"
        "    context = multiprocessing.get_context('fork')\n    begun = context.Event()\n"
        "    process = context.Process(target=child, args=(begun,))\n    process.start()\n"
        "    begun.wait(30)\n    process.terminate()\n    process.join(30)\n    print('child ended', process.exitcode)\n"
    )
    running = start(f"python-path {tmp_path}\napplication-object theirs:make\n{ECHO}", ("e", listening())).wait_ready()
    running.wait_said("child ended -15")
    assert running.process.stdout is not None
    running.stop()
    assert "from the child" in running.process.stdout.read().decode()
