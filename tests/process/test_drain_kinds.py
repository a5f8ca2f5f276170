"""What a reload and a stop do to connections, by their kind: idle, active, long-lived, datagrams."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from functools import partial
from http.client import HTTPResponse

import pytest
from support.running import ask, datagram, read_exactly, wait_until
from support.service import HTTP, Load, Service, gone

# Echoes with the PID in front, and knows nothing of draining.
STREAM = """
import os
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
class Streams(Protocol):
    def dataReceived(self, data):
        self.transport.write(b"%d " % os.getpid() + data)
def factory():
    return Factory.forProtocol(Streams)
"""
LONG = "<server s>\n type streams:factory\n address systemd:name=h\n{}</server>\n"
ECHO = "<echo e>\n address systemd:name=h\n</echo>\n"


@pytest.fixture
def service(start, tmp_path):
    """Starts a server; `streams` can be served."""
    (tmp_path / "streams.py").write_text(STREAM)
    return partial(Service, start, tmp_path)


class Talk:
    """A connection that stays."""

    def __init__(self, made):
        self.socket = socket.create_connection(made.passed.getsockname(), timeout=30)
        self.pid = self.say(b"hello")

    def say(self, data=b"x"):
        """Says something; returns who answers."""
        self.socket.sendall(data)
        answer = b""
        while not answer.endswith(data):
            more = self.socket.recv(100)
            assert more, "the connection has ended"
            answer += more
        return int(answer.split()[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


@pytest.mark.parametrize("processes", ["one", "all"])
def test_a_long_lived_connection_stays_in_its_generation(service, processes):
    """It goes on in the old one while the new one serves, until reload-drain-timeout cuts it with a line."""
    made = service("reload-drain-timeout 6s\n", LONG.format(f" processes {processes}\n"))
    with Talk(made) as old:
        began = time.monotonic()
        assert made.reload().returncode == 0
        with Talk(made) as new:
            assert new.pid != old.pid and old.say() == old.pid and new.say() == new.pid
            made.running.wait_said("s: connections that were still open when the drain ended and are cut: 1")
            assert time.monotonic() - began > 5.9
            with pytest.raises(ConnectionResetError):
                old.socket.recv(1)
            assert new.say() == new.pid
    wait_until(lambda: gone(old.pid))


def test_a_third_generation_ends_the_oldest(service):
    """Two may drain; the third reload ends the first generation at once, with a line, and no other."""
    made = service(servers=LONG.format(""))
    talks = []
    for _ in range(3):
        talks.append(Talk(made))
        assert made.reload().returncode == 0
    with Talk(made) as last:
        made.running.wait_said("generation 1 still drains, and two later ones do: it ends at once")
        wait_until(lambda: gone(talks[0].pid))
        with pytest.raises(ConnectionResetError):
            talks[0].socket.recv(1)
        assert [one.say() for one in talks[1:]] == [one.pid for one in talks[1:]]
        assert len({last.pid, *(one.pid for one in talks)}) == 4
        assert [one["generation"] for one in made.status()["draining"]] == [2, 3]
    for one in talks:
        one.socket.close()
    wait_until(lambda: made.status()["draining"] == [])


def test_a_stop_does_not_wait_for_reload_drain_timeout(service):
    """A connection of an earlier generation has what drain-timeout gives it, as the others have."""
    made = service("drain-timeout 1s\nreload-drain-timeout 1h\n", LONG.format(""))
    with Talk(made) as old:
        assert made.reload().returncode == 0
        assert old.say() == old.pid
        began = time.monotonic()
        assert made.running.stop() == 0
        assert 0.9 < time.monotonic() - began < 15
        with pytest.raises(ConnectionResetError):
            old.socket.recv(1)


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGQUIT,)], ids=["twice", "SIGQUIT"])
def test_leaving_at_once(service, numbers):
    """SIGTERM twice, or SIGQUIT: every generation is cut, and it leaves with 0."""
    made = service("drain-timeout 60s\n", LONG.format(""))
    with Talk(made) as old:
        assert made.reload().returncode == 0
        with Talk(made) as new:
            began = time.monotonic()
            for count, number in enumerate(numbers):
                if count:  # the kernel makes one of two that come at once
                    wait_until(lambda: any("STOPPING" in one for one in made.running.manager.read_all()))
                made.running.process.send_signal(number)
            assert made.running.wait_exit() == 0
            assert time.monotonic() - began < 20
            for one in (old, new):
                with pytest.raises(ConnectionResetError):
                    one.socket.recv(1)


def test_a_signal_for_the_whole_control_group_is_one_stop(service):
    """KillMode=control-group: supervisor and workers get a SIGTERM each, which are not two of one sender."""
    made = service("drain-timeout 60s\n", LONG.format(""))
    with Talk(made) as talk:
        os.killpg(made.running.process.pid, signal.SIGTERM)
        wait_until(
            lambda: made.running.manager.read(0.1) and "draining" in made.running.manager.messages[-1].get("STATUS", "")
        )
        assert talk.say() == talk.pid
    assert made.running.wait_exit() == 0


@pytest.mark.parametrize("kind", ["http", "echo"])
def test_reloads_under_load_reset_nothing(service, kind):
    """Idle connections end in peace: what arrives while they linger is answered, and no unread byte is met by a close."""
    made = service(servers=HTTP if kind == "http" else ECHO)
    lost, ended = [], threading.Event()

    def talk():
        while not ended.is_set():
            try:
                assert ask(made.passed, b"x" * 1000) == b"x" * 1000
            except (OSError, AssertionError) as error:
                lost.append(error)

    if kind == "http":
        with Load(made.passed, threads=4, keep=True) as load:
            for _ in range(3):
                assert made.reload().returncode == 0
        assert set(load.results) == {"ok"}, load.results
        return
    clients = [threading.Thread(target=talk) for _ in range(4)]
    for one in clients:
        one.start()
    for _ in range(3):
        assert made.reload().returncode == 0
    ended.set()
    for one in clients:
        one.join()
    assert lost == []


def ask_on(client, request):
    """Asks, and reads the answer: that of the echo, or one of HTTP with its length."""
    client.sendall(request)
    if not request.startswith(b"GET"):
        return read_exactly(client, len(request))
    answer = HTTPResponse(client)
    answer.begin()
    return answer.read()


def test_an_idle_connection_ends_after_the_linger(service):
    """Of http and of echo: at a reload it is closed by us, not reset, though nobody has left."""
    for servers, request in ((HTTP, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), (ECHO, b"x")):
        made = service(servers=servers)
        with socket.create_connection(made.passed.getsockname(), timeout=30) as client:
            # To its end: what is left of it would be taken for more.
            assert ask_on(client, request)
            assert made.reload().returncode == 0
            assert client.recv(1) == b""
        wait_until(lambda made=made: made.status()["draining"] == [])
        assert "are cut" not in made.running.errors
        assert made.running.stop() == 0


def test_a_busy_echo_connection_is_not_ended_under_its_bytes(service):
    """While a client sends, the old generation sends back, and ends the connection when it has been silent."""
    made = service(servers=ECHO)
    with socket.create_connection(made.passed.getsockname(), timeout=30) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        done = []
        asker = threading.Thread(target=lambda: done.append(made.reload().returncode))
        asker.start()
        sent = got = 0
        while not done or sent < 200_000:
            client.sendall(b"y" * 1000)
            sent += 1000
            while got < sent:
                more = client.recv(65536)
                assert more, f"ended after {got} of {sent} bytes"
                got += len(more)
        asker.join()
        assert done == [0]
        assert client.recv(1) == b""


def test_datagrams_go_to_the_new_generation(start, tmp_path):
    """A socket for datagrams is read by one generation: while a stream keeps the old one, the new one answers all."""
    # Echo's datagrams, answered with the PID.
    (tmp_path / "streams.py").write_text(
        STREAM + "from appd.servers.echo import echo\n"
        "def answer(self, data, peer):\n    self.transport.write(b'%d' % os.getpid(), peer)\n"
        "echo._EchoDatagrams.datagramReceived = answer\n"
    )
    udp = datagram()
    made = Service(
        start, tmp_path, servers=LONG.format("") + "<echo d>\n address systemd:name=d\n</echo>\n", more=[("d", udp)]
    )
    with Talk(made) as old, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(30)
        client.connect(udp.getsockname())
        assert made.reload().returncode == 0
        (new,) = made.workers()
        assert old.say() == old.pid
        answers = set()
        for _ in range(50):
            client.send(b"x")
            answers.add(int(client.recv(100)))
        assert answers == {new}
