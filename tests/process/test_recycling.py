"""max-requests and max-memory: a worker is replaced by a fresh one, and nobody notices."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import threading
import time
from functools import partial

import pytest
from support.running import ask, listening, wait_until
from support.service import GATE, HTTP, Load, Service, gone

GROWING = """
import os
kept = []
def app(environ, start_response):
    kept.append(bytearray(os.urandom(1)) * 4_000_000)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
WAITING = """
import os, time
def app(environ, start_response):
    while environ["PATH_INFO"] == "/wait" and not os.path.exists("go"):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
CHAT = """
import os
from twisted.internet.protocol import Factory, Protocol
class Member(Protocol):
    def connectionMade(self):
        self.factory.room.append(self)
        self.transport.write(b"%d\\n" % os.getpid())
    def dataReceived(self, data):
        for one in self.factory.room:
            one.transport.write(data)
    def connectionLost(self, reason):
        self.factory.room.remove(self)
class Chat(Factory):
    protocol = Member
    def __init__(self):
        self.room = []
"""
ROOM = "<server s>\n type chat:Chat\n address systemd:name=h\n</server>\n"


@pytest.fixture
def service(start, tmp_path):
    """Starts a server that answers with its PID."""
    return partial(Service, start, tmp_path)


def recycled(made):
    """How many workers were recycled."""
    return made.status()["recycled"]


def worker(made, pid):
    """What Status says of a worker."""
    return next(one for one in made.status()["workers"] if one["pid"] == pid)


@pytest.mark.parametrize("keep", [False, True], ids=["new connections", "keep-alive"])
def test_nothing_is_lost(service, keep):
    """Five recyclings and more under load: no request is refused, reset or cut; it is neither death nor failure."""
    made = service("workers 2\nmax-requests 150\n")
    first = made.workers()
    with Load(made.passed, keep=keep) as load:
        wait_until(lambda: recycled(made) >= 6, 60, lambda: made.running.errors)
    assert set(load.results) == {"ok"}, load.results
    if keep:
        assert load.connections < load.results["ok"] / 4, "the connections were not kept"
    assert not made.workers() & first
    assert made.status()["restarts"] == 0 and made.status()["generation"] == 1
    wait_until(lambda: all(gone(pid) for pid in first))

    def told():
        return [line for line in made.running.err if "is recycled" in line]

    # One that is on its way when the load ends is told of a moment later.
    wait_until(lambda: len(told()) == recycled(made))
    lines = told()
    found = re.search(r"worker (\d) is recycled, as it has served (\d+) requests \(max-requests 150\): PID ", lines[0])
    assert found and int(found[2]) >= 135
    assert made.running.stop() == 0


def test_an_idle_worker_is_not_recycled_and_the_limits_differ(service):
    """It takes requests, not time; two workers draw limits of their own within the last tenth."""
    made = service("workers 1\nmax-requests 40\n")
    first = made.pid()
    for _ in range(34):
        assert made.pid() == first
    time.sleep(1.5)  # two looks of the worker at itself
    assert made.pid() == first
    while (at := made.status()["workers"][0])["pid"] == first and at["requests"] < 41:
        made.pid()
    wait_until(lambda: made.workers() and first not in made.workers())


def test_one_at_a_time(service, tmp_path):
    """Both ask in the same moment; the second is replaced when the first has been."""
    (tmp_path / "hosted.py").write_text(
        "import time\ntime.sleep(0.7)\nimport os\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n    return [str(os.getpid()).encode()]\n"
    )
    made = service("workers 2\nmax-requests 20\n")
    first = made.workers()
    with Load(made.passed):
        deadline, seen, status = time.monotonic() + 60, {0}, {"recycled": 0}
        while (status["recycled"] < 2 or seen == {0}) and time.monotonic() < deadline:
            status = made.status()
            seen.add(sum(one["state"] in ("loading", "prepared", "starting") for one in status["workers"]))
    assert max(seen) == 1
    assert not made.workers() & first, "the one that had been replaced was replaced again before the other"


def test_memory(service, tmp_path):
    """An application that keeps 4 MB of each request is replaced when it has grown to max-memory."""
    (tmp_path / "hosted.py").write_text(GROWING)
    made = service("max-memory 100MB\n")
    first = made.pid()
    for _ in range(25):
        made.pid()
    line = made.running.wait_said("is recycled")
    assert re.search(r"it has grown to \d+ MB \(max-memory 100 MB\)", line)
    # Until it has been told it may accept one more.
    wait_until(lambda: gone(first))
    assert made.pid() != first
    assert made.status()["workers"][0]["rss"] < 100 << 20


def test_a_memory_limit_below_what_a_worker_starts_with(service):
    """One line says that it has no effect, and there is no end of replacing."""
    made = service("max-memory 2MB\n")
    first = made.pid()
    assert "max-memory 2 MB has no effect: a worker has " in made.running.wait_said("has no effect")
    time.sleep(2.5)  # two looks of the worker at itself
    assert made.pid() == first and recycled(made) == 0


def test_a_replacement_that_cannot_start(service, tmp_path):
    """The old one goes on, the supervisor says so once, tries again, and recycles it once the code is mended."""
    made = service("max-requests 10\n")
    good = (tmp_path / "hosted.py").read_text()
    first = made.pid()
    (tmp_path / "hosted.py").write_text("raise RuntimeError('broken release')\n")
    with Load(made.passed) as load:
        line = made.running.wait_said("cannot be recycled and goes on")
        assert "RuntimeError: broken release" in line and "though it has served" in line
        # The second attempt; its application says in the log why it cannot be imported.
        wait_until(lambda: sum("hosted:app" in one for one in made.running.err) >= 3, 30, lambda: made.running.errors)
        assert made.workers() == {first}
        (tmp_path / "hosted.py").write_text(good)
        made.running.wait_said("is recycled", 30)
    assert set(load.results) == {"ok"}, load.results
    assert sum("cannot be recycled" in one for one in made.running.err) == 1
    assert made.status()["restarts"] == 0 and made.pid() != first


def read_line(client):
    """A line of a chat."""
    data = b""
    while not data.endswith(b"\n"):
        more = client.recv(1)
        assert more, f"the connection ended after {data!r}"
        data += more
    return data


def test_what_keeps_state_has_one_process(service, tmp_path):
    """A chat with a recycling: who comes later finds one room, who was there goes on in the old one until it leaves."""
    (tmp_path / "chat.py").write_text(CHAT)
    made = service("workers 2\nmax-requests 10\n", ROOM)
    old = [socket.create_connection(made.passed.getsockname(), 30) for _ in range(10)]
    pids = {int(read_line(one)) for one in old}
    assert len(pids) == 1
    made.running.wait_said("is recycled")
    new = [socket.create_connection(made.passed.getsockname(), 30) for _ in range(5)]
    moved = {int(read_line(one)) for one in new}
    assert len(moved) == 1 and moved != pids
    for room in (new, old):
        room[0].sendall(b"hello\n")
        assert all(read_line(one) == b"hello\n" for one in room)
    assert "1 recycled worker draining" in made.status()["status"]
    for one in (*old, *new):
        one.close()
    wait_until(lambda: gone(*pids))
    assert "draining" not in made.status()["status"]


def test_the_old_one_goes_on_with_its_only_process(service, tmp_path):
    """The fresh one fails when it is told to go, after the old one was paused: the old one accepts again."""
    (tmp_path / "chat.py").write_text(
        CHAT + "    def startFactory(self):\n        if os.path.exists('full'):\n            raise OSError('full')\n"
    )
    made = service("max-requests 10\n", ROOM)
    made.file.with_name("full").touch()
    clients = [socket.create_connection(made.passed.getsockname(), 30) for _ in range(10)]
    (pid,) = {int(read_line(one)) for one in clients}
    assert "OSError: full" in made.running.wait_said("cannot be recycled and goes on")
    clients.append(socket.create_connection(made.passed.getsockname(), 30))
    assert int(read_line(clients[-1])) == pid
    for one in clients:
        one.close()


def test_a_request_in_flight_is_answered_by_the_old_one(service, tmp_path):
    """It ends its connection by saying so; one that is idle is closed after the linger."""
    (tmp_path / "hosted.py").write_text(WAITING)
    made = service("max-requests 10\n")
    first = made.pid()
    kept = http.client.HTTPConnection(*made.passed.getsockname(), timeout=30)
    kept.request("GET", "/")
    assert int(kept.getresponse().read()) == first
    slow = http.client.HTTPConnection(*made.passed.getsockname(), timeout=30)
    for _ in range(7):
        made.pid()
    slow.request("GET", "/wait")
    made.pid()
    made.running.wait_said("is recycled")
    wait_until(lambda: worker(made, first)["state"] == "draining")
    made.file.with_name("go").touch()
    answer = slow.getresponse()
    assert (int(answer.read()), answer.getheader("Connection")) == (first, "close")
    assert kept.sock.recv(1) == b""
    for one in (kept, slow):
        one.close()
    wait_until(lambda: gone(first))


def test_the_old_one_dies_while_its_replacement_starts(service, tmp_path):
    """The fresh one has the place then, and no third one is started."""
    made = service("max-requests 10\n")
    first = made.pid()
    text = (tmp_path / "hosted.py").read_text()
    (tmp_path / "hosted.py").write_text(GATE + text)
    for _ in range(10):
        made.pid()
    wait_until(lambda: len(made.status()["workers"]) == 2)
    fresh = max(made.status()["workers"], key=lambda one: -one["age"])["pid"]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: gone(first))
    (tmp_path / "go").touch()
    made.running.wait_said("was killed by SIGKILL; it is replaced")
    assert made.pid() == fresh
    assert made.workers() == {fresh} and made.status()["workers"][0]["restarts"] == 1


def test_a_reload_while_a_replacement_starts(service, tmp_path):
    """The new generation replaces all of them; the fresh worker that was on its way is ended, which is no failure."""
    made = service("max-requests 10\n")
    text = (tmp_path / "hosted.py").read_text()
    (tmp_path / "hosted.py").write_text("import time\ntime.sleep(1)\n" + text)
    with Load(made.passed, threads=2) as load:
        wait_until(lambda: len(made.status()["workers"]) == 2)
        assert made.reload().returncode == 0
    assert set(load.results) == {"ok"}, load.results
    assert "cannot be recycled" not in made.running.errors and made.status()["restarts"] == 0
    assert made.running.stop() == 0


def test_a_stop_while_a_replacement_starts(service, tmp_path):
    """All of them leave."""
    made = service("max-requests 10\n")
    (tmp_path / "hosted.py").write_text("import time\ntime.sleep(30)\n")
    for _ in range(11):
        made.pid()
    wait_until(lambda: len(made.status()["workers"]) == 2)
    pids = [one["pid"] for one in made.status()["workers"]]
    assert made.running.stop() == 0
    assert all(gone(pid) for pid in pids)


def test_two_old_ones_may_drain(service, tmp_path):
    """A third recycling of the same place waits until one of them has gone; nothing is cut for it."""
    (tmp_path / "chat.py").write_text(CHAT)
    made = service("max-requests 10\n", ROOM)
    clients = []
    for number in range(1, 3):
        clients.append([socket.create_connection(made.passed.getsockname(), 30) for _ in range(10)])
        wait_until(lambda number=number: recycled(made) == number)
    clients.append([socket.create_connection(made.passed.getsockname(), 30) for _ in range(10)])
    pids = [int(read_line(group[0])) for group in clients]
    time.sleep(2.5)  # it has asked by then
    assert recycled(made) == 2 and len(made.status()["workers"]) == 3
    for one in clients[0]:
        one.close()
    wait_until(lambda: recycled(made) == 3)
    wait_until(lambda: gone(pids[0]))
    for group in clients[1:]:
        group[0].sendall(b"still here\n")
        assert read_line(group[0]) == b"still here\n"
    for one in (*clients[1], *clients[2]):
        one.close()


@pytest.mark.parametrize("how", ["single", "twistd"])
def test_without_a_supervisor(start, tmp_path, how):
    """One line says that both keys have no effect."""
    from support.running import TWISTD

    text = f"python-path {tmp_path}\nmax-requests 5\nmax-memory 1GB\n<echo e>\n address systemd:name=e\n</echo>\n"
    passed = listening()
    if how == "twistd":
        file = tmp_path / "run0" / "appd.conf"
        command = [TWISTD, "-n", "--pidfile=", "appd", "--config", str(file)]
        running = start(text, ("e", passed), command=command).wait_ready()
    else:
        running = start(text, ("e", passed), arguments=("--single",)).wait_ready()
    line = running.wait_said("max-requests")
    assert "appd.conf:2: max-requests and max-memory: without effect, as there is no supervisor" in line
    for _ in range(8):
        assert ask(passed, b"x") == b"x"
    assert running.stop() == 0
    assert sum("without effect" in one for one in running.err) == 1


def test_keys(start):
    """What is no number, or no size of a process, is refused with its line."""
    running = start("max-requests 0\nmax-memory 4KB\n<echo e>\n address 127.0.0.1:0\n</echo>\n")
    assert running.wait_exit() == 78
    assert "appd.conf:1: max-requests: '0' is not a whole number from 1 on" in running.errors
    assert "appd.conf:2: max-memory: '4KB' is less than 1MB" in running.errors


def test_connections_count_where_there_are_no_requests(service):
    """A server without requests: each connection is one."""
    made = service("max-requests 10\n", "<echo e>\n address systemd:name=h\n</echo>\n")
    for _ in range(11):
        assert ask(made.passed, b"x") == b"x"
    made.running.wait_said("is recycled")
    assert ask(made.passed, b"x") == b"x"


def test_a_call_that_does_not_come_back(service, tmp_path):
    """Past request-timeout its client is told so, and the worker, which has a thread less, is replaced."""
    made = service(servers=HTTP.replace("<wsgi>", "<limits>\n  request-timeout 2s\n </limits>\n <wsgi>"))
    first = made.pid()
    answer = ask(made.passed, b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 504 ")
    made.running.wait_said("is recycled, as a request took longer than request-timeout")
    wait_until(lambda: made.workers() and first not in made.workers())
    assert made.pid() != first
    (tmp_path / "go").touch()
    assert made.running.stop() == 0


def test_the_wait_for_a_thread_is_no_part_of_a_call(service):
    """Who waits in the queue and then is answered in time is answered, though both together took longer."""
    servers = HTTP.replace("<wsgi>", "<limits>\n  request-timeout 4s\n </limits>\n <wsgi>")
    made = service("threads 1\n", servers)
    answers = []
    began = time.monotonic()
    slow = b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    clients = [threading.Thread(target=lambda: answers.append(ask(made.passed, slow, timeout=60))) for _ in range(3)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    assert time.monotonic() - began > 3.0
    assert [one[:13] for one in answers] == [b"HTTP/1.1 200 "] * 3


HANGS = """
import os, sys, time
def hang(frame, event, what):
    if event == "c_call" and what.__name__ == "poll":
        time.sleep(60)
def app(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        sys.setprofile(hang)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


def test_a_lane_that_hangs(start, tmp_path):
    """Nobody polls any more though the reactor turns: the worker is dumped, with the line where it is, and replaced.

    A profiler that a call leaves behind in its thread stops that thread when it is about to poll; by then it leads, and
    the lead of one that polls is not taken away.
    """
    (tmp_path / "hosted.py").write_text(HANGS)
    made = Service(start, tmp_path, "watchdog 3s\nthreads 1\n")
    first = made.pid()
    ends = time.monotonic() + 60
    # A thread that has lost the lead by the end of its call does not poll: then it is the other one's turn.
    while made.pid() == first and time.monotonic() < ends:
        made.pid("/hang")
    made.running.wait_said("has not answered for 3 s: it is killed")
    made.running.wait_said("its stacks:")
    made.running.wait_said('hosted.py", line 5 in hang')
    wait_until(lambda: made.workers() and first not in made.workers())
    assert made.running.stop() == 0
