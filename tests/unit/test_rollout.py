"""A real supervisor whose workers are processes that only wait: what they would say is said for them."""

from __future__ import annotations

import errno
import faulthandler
import json
import os
import signal
import socket
import sys
from contextlib import closing

import pytest

from appd.config.texts import read_texts, write_texts
from appd.control import ControlError, Framing
from appd.sealed import write_sealed
from appd.supervisor import dumps
from appd.supervisor import spawn as module
from appd.supervisor.directlog import DirectLog
from appd.supervisor.generation import Generation
from appd.supervisor.mailbox import Letter, Mailbox
from appd.supervisor.operator import Operator
from appd.supervisor.overview import certificates
from appd.supervisor.places import control_listener
from appd.supervisor.poller import Poller, exit_code
from appd.supervisor.renewal import kept_descriptors
from appd.supervisor.spawn import ASKS, INSISTS
from appd.supervisor.supervisor import Supervisor
from appd.supervisor.worker import Worker
from appd.systemd.notify import Notifier
from appd.worker.rest import Rest

READY = {"READY": "1"}


def prepared(workers=1):
    return {"X_APPD_PREPARED": "1", "X_APPD_WORKERS": str(workers), "X_APPD_WATCHDOG": "60000"}


class Host:
    """A supervisor and what it needs; `refused` makes the next so many forks fail with EAGAIN."""

    def __init__(self, folder, monkeypatch):
        self.now, self.refused, self.said, self.pids = 100.0, 0, [], []
        log = DirectLog({})
        monkeypatch.setattr(log, "write", lambda text, *_args, **_fields: self.said.append(text))
        self.poller = Poller(lambda: self.now)
        self.told = []
        notifier = Notifier({"NOTIFY_SOCKET": "@x"}, lambda message, fds: self.told.append(message))
        self.supervisor = Supervisor([], lambda: None, Mailbox(str(folder)), log, notifier, self.poller)
        self.rollout = self.supervisor.rollout
        monkeypatch.setattr(module, "spawn", self.spawn)

    def spawn(self, *_arguments):
        if self.refused:
            self.refused -= 1
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        pid = os.fork()
        if pid == 0:
            faulthandler.disable()
            signal.pause()
            os._exit(0)
        self.pids.append(pid)
        return pid

    def says(self, words, generation=None):
        """Every worker of a generation says something."""
        generation = generation or self.rollout.coming
        for worker in list(generation.workers.values()):
            self.rollout.heard(generation, worker, words)

    def serve(self, workers=1):
        """The generation that is coming serves, and the one before says that it drains."""
        before = self.rollout.serving
        self.take_over(workers)
        if before is not None:
            self.says({"STOPPING": "1"}, before)

    def take_over(self, workers=1):
        """The generation that is coming serves; the one before has said nothing yet."""
        generation = self.rollout.coming
        self.says(prepared(workers))
        self.says(prepared(workers), generation)
        self.says(READY, generation)
        assert self.rollout.serving is generation

    def kill(self, worker):
        """Kills one and waits until that can be known, without waiting for it."""
        os.kill(worker.pid, signal.SIGKILL)
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)

    def pass_time(self, seconds):
        self.now += seconds
        self.poller.turn(0)


@pytest.fixture
def host(tmp_path, monkeypatch):
    made = Host(tmp_path, monkeypatch)
    yield made
    for pid in made.pids:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            continue
    for worker in made.rollout.workers():
        worker.channel.close()
        worker.take_stacks()
    made.supervisor.mailbox.close()
    made.poller.close()


def test_no_process_for_the_first_worker(host):
    """It ends with 69 and says why."""
    host.refused = 1
    host.rollout.start()
    assert host.rollout.stopping and host.rollout.exit_code == 69
    assert host.said == ["no further process can be started: Resource temporarily unavailable"]
    assert any("ERRNO=11" in one for one in host.told)


@pytest.mark.parametrize("refused_at", [1, 2])
def test_no_process_for_a_reload(host, refused_at):
    """69 as verdict, whether for the first worker or for the second, and the generation before goes on."""
    host.rollout.start()
    host.serve(2)
    verdicts = []
    before = len(os.listdir("/proc/self/fd"))
    host.refused = refused_at == 1
    host.rollout.reload(lambda code, reason: verdicts.append((code, reason)))
    if refused_at == 2:
        host.refused = 1
        host.says(prepared(2))
        host.kill(next(iter(host.rollout.draining[0].workers.values())))
        host.supervisor.reap()
    assert verdicts == [(69, "no further process can be started: Resource temporarily unavailable")]
    assert host.rollout.coming is None and host.rollout.serving.number == 1 and not host.rollout.draining
    assert len(os.listdir("/proc/self/fd")) == before
    host.rollout.reload(lambda code, reason: verdicts.append((code, reason)))
    host.serve(2)
    assert verdicts[1] == (0, "generation 3 serves")


def test_a_worker_that_dies_again_and_again(host):
    """It is replaced at once the first time, then later and later; one that has lived for a minute is the first again."""
    host.rollout.start()
    host.serve(2)
    serving = host.rollout.serving
    pauses = []
    for lived in (5, 5, 5, 5, 5, 5, 5, 5, 61, 5):
        worker = serving.workers[2]
        worker.started = worker.alive = host.now
        host.supervisor._last_tick = host.now = host.now + lived
        host.kill(worker)
        host.supervisor.reap()
        died = host.now
        host.pass_time(0)
        while 2 not in serving.workers:
            host.pass_time(0.5)
        pauses.append(host.now - died)
    assert pauses == [0, 1, 2, 4, 8, 15, 30, 30, 0, 1] and serving.restarts == {2: 10}
    assert set(serving.workers) == {1, 2} and serving.workers[1].pid == host.pids[0]


def test_no_process_for_a_replacement(host):
    """Tried again after 1, 1 and 2 seconds, a line each time; then there is one."""
    host.rollout.start()
    host.serve(2)
    host.refused = 3
    host.kill(host.rollout.serving.workers[2])
    host.supervisor.reap()
    for pause in (0, 1.01, 2.01):
        assert 2 not in host.rollout.serving.workers
        host.pass_time(pause)
    host.pass_time(4.01)
    assert sorted(host.rollout.serving.workers) == [1, 2] and not host.refused
    assert [text.rpartition("again in ")[2] for text in host.said if "cannot be started" in text] == [
        "1 s",
        "2 s",
        "4 s",
    ]


def test_a_timer_for_a_generation_that_has_gone(host):
    """A replacement that was due after the next generation took over is not made."""
    host.rollout.start()
    host.serve(2)
    first = host.rollout.serving
    for _ in range(2):
        host.kill(first.workers[2])
        host.supervisor.reap()
        host.pass_time(0)
    assert 2 not in first.workers
    host.rollout.reload(None)
    host.serve(2)
    host.pass_time(30)
    assert 2 not in first.workers and len(host.rollout.serving.workers) == 2


def test_a_process_that_has_been_waited_for_is_signalled(host):
    """Somebody else waited for it: no error, at a stop and at the end of a drain."""
    host.rollout.start()
    host.serve()
    (worker,) = host.rollout.serving.workers.values()
    host.kill(worker)
    os.waitpid(worker.pid, 0)
    for _ in range(4):
        host.rollout.reload(None)
        host.serve()
    host.rollout.stop()
    host.rollout.stop()


def test_a_generation_takes_over_with_the_last_word_of_the_dead(host):
    """A draining worker is dead and not waited for when the third generation takes over and wants the oldest to end."""
    host.rollout.start()
    host.serve()
    (worker,) = host.rollout.serving.workers.values()
    for _ in range(2):
        host.rollout.reload(None)
        host.serve()
    host.kill(worker)
    host.rollout.reload(None)
    host.serve()
    host.supervisor.reap()
    assert [one.number for one in host.rollout.draining] == [2, 3]


def test_superseded_generations_are_no_drains(host):
    """Three reloads that were superseded do not end the drain of the generation before."""
    host.rollout.start()
    host.serve()
    for _ in range(4):
        host.rollout.reload(None)
    host.serve()
    assert not [text for text in host.said if "it ends at once" in text]


def test_too_many_drain(host):
    """The oldest is told to end once, and one entry says so, though it takes its time."""
    host.rollout.start()
    for number in range(5):
        if number:
            host.rollout.reload(None)
        host.serve()
    oldest = [one.number for one in host.rollout.draining]
    said = [text.partition(",")[0] for text in host.said if "it ends at once" in text]
    assert oldest == [1, 2, 3, 4] and said == ["generation 1 still drains", "generation 2 still drains"]


def test_a_frozen_machine(host):
    """After a minute in which nobody ran, nobody is killed for having said nothing."""
    host.rollout.start()
    host.serve()
    host.supervisor._tick()
    host.now += 90
    host.supervisor._tick()
    assert not any("has not answered" in text for text in host.said)
    for _ in range(62):
        host.now += 1
        host.supervisor._tick()
    assert any("has not answered for 60 s" in text for text in host.said)


def test_words_out_of_turn(host):
    """READY twice, PREPARED while serving, STOPPING and READY after: the table passes over what does not fit."""
    host.rollout.start()
    host.says(READY)
    assert host.rollout.serving is None
    host.serve()
    serving = host.rollout.serving
    for words in (READY, prepared(9), READY, {"STOPPING": "1"}, READY, {"ERRNO": "9" * 5000}):
        host.says(words, serving)
    assert serving.wanted == 1 and [one.state for one in serving.workers.values()] == ["draining"]


def test_too_many_workers(host):
    """A number that no host has is the verdict of the reload, not ten thousand forks."""
    host.rollout.start()
    host.serve()
    verdicts = []
    host.rollout.reload(lambda code, reason: verdicts.append((code, reason)))
    host.says(prepared(999_999_999))
    assert verdicts == [(78, "the file wants 999999999 workers; at most 256 are possible")] and len(host.pids) == 2


def test_a_dying_worker_while_others_are_started(host):
    """The reload fails at once, what was started is ended, and what it wrote last is the reason."""
    host.rollout.start()
    host.serve()
    verdicts = []
    host.rollout.reload(lambda code, reason: verdicts.append((code, reason)))
    generation = host.rollout.coming
    host.says(prepared(3))
    assert len(generation.workers) == 3
    host.kill(generation.workers[1])
    host.supervisor.reap()
    assert verdicts == [(70, "worker was killed by SIGKILL")]
    host.rollout.stop()
    assert host.rollout.coming is None


def readies(host):
    return sum("READY=1" in one.splitlines() for one in host.told)


@pytest.mark.parametrize("ending", ["says", "gone", "late"])
def test_a_reload_is_done_when_the_one_before_accepts_nothing_more(host, ending):
    """Each worker has said that it drains, or has gone, or has had 5 s for it: then READY=1 and the verdict, once."""
    host.rollout.start()
    host.serve(2)
    first, second = host.rollout.serving.workers.values()
    verdicts = []
    host.rollout.reload(lambda code, reason: verdicts.append((code, reason)))
    before = host.rollout.serving
    host.take_over(2)
    host.rollout.heard(before, first, {"STOPPING": "1"})
    host.pass_time(4.9)
    assert verdicts == [] and readies(host) == 1
    if ending == "says":
        host.rollout.heard(before, second, {"STOPPING": "1"})
    elif ending == "gone":
        host.kill(second)
        host.supervisor.reap()
    else:
        host.pass_time(0.2)
    assert verdicts == [(0, "generation 2 serves")] and readies(host) == 2
    late = "worker 2 of generation 1 has not said within 5 s that it drains: it may still accept"
    assert (late in host.said) is (ending == "late")
    host.pass_time(10)
    assert len(verdicts) == 1 and readies(host) == 2


@pytest.mark.parametrize("ending", ["serves", "fails", "stops"])
def test_a_reload_before_anything_serves(host, ending):
    """It begins then; if that does not come, whoever asked is told why, and a SIGHUP is journaled."""
    host.rollout.start()
    (worker,) = host.rollout.coming.workers.values()
    verdicts = []
    for asker in ("first", "second"):
        host.rollout.reload(lambda code, reason, asker=asker: verdicts.append((asker, code, reason)))
    assert verdicts == [("first", 75, "a later reload took its place")] and len(host.pids) == 1
    if ending == "serves":
        host.serve()
        assert host.rollout.coming.number == 2 and "RELOADING=1" in host.told[-1]
        host.serve()
        assert verdicts[1:] == [("second", 0, "generation 2 serves")]
    elif ending == "fails":
        worker.note({"STATUS": "cannot start: it is broken"}, host.now)
        host.rollout.gone(host.rollout.coming, worker, 78 << 8)
        assert verdicts[1:] == [("second", 78, "it is broken")] and host.said == []
        assert host.rollout.exit_code == 78
    else:
        host.rollout.reload(None)
        host.rollout.stop()
        assert verdicts[1:] == [("second", 75, "a later reload took its place")]
        assert host.said == ["no reload: the service is being stopped"]
    host.rollout.stop()
    host.rollout.reload(lambda code, reason: verdicts.append(("third", code, reason)))
    assert verdicts[-1][:2] == ("third", 75) and len(verdicts) == 3


@pytest.mark.parametrize("ending", ["serves", "fails"])
def test_a_replacement_of_the_first_while_the_next_generation_starts(host, ending):
    """What runs in one process only is with the next one: it goes when that has failed, and not at all when it serves."""
    host.rollout.start()
    host.serve(2)
    before = host.rollout.serving
    host.rollout.reload(None)
    coming = host.rollout.coming
    for _ in range(2):
        host.says(prepared(2), coming)
    assert [one.state for one in coming.workers.values()] == ["starting"] * 2
    for number in (1, 2):
        host.kill(before.workers[number])
        host.supervisor.reap()
        host.pass_time(0)
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.settimeout(10)
        before.workers[1].channel.close()
        before.workers[1].channel = ours
        host.says(prepared(2), before)
        # The second has nothing of that kind.
        assert [before.workers[number].state for number in (1, 2)] == ["prepared", "starting"]
        if ending == "serves":
            host.says(READY, coming)
            host.says(READY, before)
            assert theirs.recv(99) == b"drain\n" and before.workers[1].state == "prepared"
        else:
            host.kill(coming.workers[1])
            host.supervisor.reap()
            heard = b""
            while not heard.endswith(b"go\n"):
                heard += theirs.recv(99)
            assert heard == b"resume\ngo\n" and before.workers[1].state == "starting"


def test_who_does_not_accept_is_not_waited_for(host):
    """A replacement that still loads hears the word only then, and accepts nothing."""
    host.rollout.start()
    host.serve(2)
    host.kill(host.rollout.serving.workers[2])
    host.supervisor.reap()
    host.pass_time(0.1)
    before = host.rollout.serving
    verdicts = []
    host.rollout.reload(lambda code, _reason: verdicts.append(code))
    assert before.workers[2].state == "loading"
    host.take_over(2)
    host.rollout.heard(before, before.workers[1], {"STOPPING": "1"})
    assert verdicts == [0]


def test_a_reload_or_a_stop_while_the_one_before_still_accepts(host):
    """Who waited hears that the generation serves, as it does; nothing of the first is told later on."""
    host.rollout.start()
    host.serve()
    verdicts = []
    for number in (2, 3):
        host.rollout.reload(lambda code, reason: verdicts.append((code, reason)))
        assert len(verdicts) == number - 2
        host.take_over()
    host.rollout.stop()
    assert verdicts == [(0, "generation 2 serves"), (0, "generation 3 serves")]
    host.pass_time(10)
    assert len(verdicts) == 2 and readies(host) == 1
    assert not any("it may still accept" in text for text in host.said)


def test_a_worker_that_never_ends_to_load(host, monkeypatch):
    """It is asked after a minute and then every ten where its threads are, and told to write it after 5 s; it is not killed."""
    host.rollout.start()
    (worker,) = host.rollout.coming.workers.values()
    begun = worker.started = worker.alive = host.supervisor._last_tick = host.now
    told, sent = [], []
    monkeypatch.setattr(dumps, "send_signal", lambda _workers, number: sent.append((host.now - begun, number)))
    while host.now < begun + 1500:
        host.now += 1
        before = len(host.said)
        host.supervisor._tick()
        told += [(host.now - begun, text) for text in host.said[before:]]
        # The third time it answers the first question.
        if worker.asking and host.now == worker.asked + (7 if len(told) < 2 else 2):
            os.write(worker.stacks, b"Stack (most recent call first):\n  at %d\n" % host.now)
    assert [when for when, _text in told] == [68, 668, 1263]
    for when, text in told:
        line = f"worker 1 has been loading for {when:.0f} s; its threads are at:\n"
        assert text == f"{line}Stack (most recent call first):\n  at {begun + when - 1:.0f}"
    asked = [(60, ASKS), (65, INSISTS), (660, ASKS), (665, INSISTS), (1260, ASKS)]
    assert sent == asked and not worker.killed and os.fstat(worker.stacks).st_size == 0


def test_a_stop_in_a_reload(host):
    """75 for the reload; the workers of both are told to end; a reload after that is refused."""
    host.rollout.start()
    host.serve()
    verdicts = []
    host.rollout.reload(lambda code, reason: verdicts.append(code))
    host.rollout.stop()
    host.rollout.reload(lambda code, reason: verdicts.append(code))
    assert verdicts == [75, 75] and len(host.rollout.workers()) == 2


def test_a_control_client_that_is_silent(host, tmp_path):
    """Thirty seconds after its last call it is told to go, not after the first."""
    path = str(tmp_path / "control")
    listener = socket.socket(fileno=control_listener(path).detach())
    operator = Operator(host.supervisor, host.poller, path, listener)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.settimeout(10)
        for _ in range(3):
            client.sendall(b'{"method": "org.varlink.service.GetInfo"}\0')
            for _turn in range(3):
                host.poller.turn(0)
            assert b"io.appd" in client.recv(65536)
            host.pass_time(29)
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        host.pass_time(2)
        assert client.recv(1) == b""
    operator.close()


def test_a_foreign_child(host):
    """A process that is no worker is waited for and forgotten."""
    host.rollout.start()
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    host.supervisor.reap()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
    assert len(host.rollout.workers()) == 1


def test_words_for_a_worker_that_reads_none(host):
    """They wait for room in its channel, in their order; the one that matters is not lost among log levels."""
    host.rollout.start()
    host.serve()
    (worker,) = host.rollout.workers()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(10)
    worker.channel.close()
    worker.channel = ours
    with theirs:
        count = 0
        while not worker.unsaid:
            worker.tell(f"log-level info namespace-{count}")
            count += 1
        worker.tell("drain")
        assert Worker.kept(worker.keep(), ours).unsaid == worker.unsaid
        heard = b""
        while not heard.endswith(b"drain\n"):
            heard += theirs.recv(65536)
            host.supervisor._tick()
        expected = [b"log-level info namespace-%d" % number for number in range(count)]
        assert heard.splitlines() == [*expected, b"drain"]
        for number in range(5000):
            worker.tell(f"log-level info namespace-{number}")
        worker.tell("stop")
        assert len(worker.unsaid) < 2000 and worker.unsaid[-1] == "stop"


def test_what_a_failed_generation_has_bound(host, tmp_path):
    """It is closed and taken out of systemd's store, also what is told of after that; what serves keeps its own."""
    host.rollout.start()
    host.serve()
    serving = host.rollout.serving
    with closing(socket.socket(socket.AF_UNIX)) as ours:
        host.supervisor.store.keep("appd-ours", os.dup(ours.fileno()))
    serving.learn({"X_APPD_KEEPS": "appd-ours"})
    host.rollout.reload(None)
    coming = host.rollout.coming
    with closing(socket.socket(socket.AF_UNIX)) as theirs:
        path = str(tmp_path / "theirs")
        theirs.bind(path)
        host.supervisor.store.keep("appd-theirs", os.dup(theirs.fileno()))
        host.kill(coming.workers[1])
        host.supervisor.reap()
        assert list(dict(host.supervisor.store.items())) == ["appd-ours"] and not os.path.exists(path)
        assert "FDSTOREREMOVE=1\nFDNAME=appd-theirs" in host.told
        host.rollout.reload(None)
        ended = host.rollout.coming
        host.rollout.reload(None)
        letter = Letter(ended.workers[1].pid, {"FDSTORE": "1", "FDNAME": "appd-late"}, [os.dup(theirs.fileno())])
    host.supervisor.mailbox.read = lambda: iter([letter])
    host.supervisor._read_letters()
    assert list(dict(host.supervisor.store.items())) == ["appd-ours"]
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(letter.fds[0])


@pytest.mark.parametrize(("ended", "code"), [(3, 70), (1, 70), (64, 64), (69, 69), (78, 78), (0, 70)])
def test_verdicts_are_exit_codes_of_appd(host, ended, code):
    """Hosted code may end a worker with anything; what `appd reload` ends with has a meaning."""
    host.rollout.start()
    host.serve()
    verdicts = []
    host.rollout.reload(lambda code, reason: verdicts.append(code))
    (worker,) = host.rollout.coming.workers.values()
    host.rollout.gone(host.rollout.coming, worker, ended << 8)
    host.pids.append(worker.pid)
    assert verdicts == [code]


@pytest.mark.parametrize("exit_code", [78, 0])
def test_who_cannot_go_on_need_not_have_gone(host, exit_code):
    """What a worker has accepted may take a while: that it stops is the verdict, with the reason and code that it told."""
    host.rollout.start()
    host.serve()
    verdicts = []
    host.rollout.reload(lambda *told: verdicts.append(told))
    coming = host.rollout.coming
    host.says(prepared())
    if exit_code:
        host.says({"STATUS": "cannot start: it is broken", "X_APPD_EXIT": str(exit_code)}, coming)
    assert verdicts == []
    host.says({"STOPPING": "1"}, coming)
    assert verdicts == [(78, "it is broken") if exit_code else (70, "worker was told to stop")]
    assert host.rollout.coming is None and host.rollout.draining == [coming] and not host.rollout.stopping


def test_a_hang_is_the_reason(host):
    """Who asked for a reload is told that the new worker did not answer, not by which signal it was ended."""
    host.rollout.start()
    host.serve()
    verdicts = []
    host.rollout.reload(lambda code, reason: verdicts.append(reason))
    coming = host.rollout.coming
    host.says(prepared())
    for _ in range(62):
        host.now += 1
        for worker in host.rollout.serving.workers.values():
            worker.alive = host.now
        host.supervisor._tick()
    host.kill(coming.workers[1])
    host.supervisor.reap()
    assert verdicts == ["worker has not answered for 60 s"]


def test_a_flood_of_letters(host):
    """Hosted code that writes to NOTIFY_SOCKET without end does not keep the supervisor from everything else."""
    host.rollout.start()
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(host.supervisor.mailbox.path)
            while True:
                try:
                    sender.send(b"READY=1")
                except OSError:
                    os._exit(0)
    host.pids.append(pid)
    taken = []
    read = host.supervisor.mailbox.read
    host.supervisor.mailbox.read = lambda: (taken.append(one) or one for one in read())
    while len(taken) < 5000:
        before = len(taken)
        host.supervisor._read_letters()
        assert len(taken) - before <= 1024
    assert not any(one.words for one in taken)


def test_a_storm_of_signals(host):
    """SIGTERM is heard among the ends of very many workers, as often as it came."""
    heard = []
    for number in (signal.SIGCHLD, signal.SIGTERM):
        host.poller.on_signal(number, lambda number=number: heard.append(number))
    try:
        for number in (*[signal.SIGCHLD] * 3000, signal.SIGTERM, signal.SIGTERM):
            signal.raise_signal(number)
        host.poller.turn(0)
    finally:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
    assert heard.count(signal.SIGTERM) == 2


def test_certificates_that_are_none():
    """Hosted code may say anything in their place."""
    for text in (
        "[" * 100_000,
        '[{"server": "", "name": "", "path": "", "newer": "", "expires": Infinity}]',
        "{}",
        "7",
    ):
        assert certificates(text) == []


def test_certificates_of_a_worker_of_an_earlier_version():
    """It does not say when one begins that is not in use yet; what it says is shown all the same."""
    row = {"server": "web", "name": "x.example", "path": "x.pem", "newer": "", "expires": 1_900_000_000}
    assert certificates(json.dumps([row])) == [{**row, "begins": 0}]
    assert certificates(json.dumps([{**row, "begins": 7}])) == [{**row, "begins": 7}]


def test_a_program_that_is_not_there(tmp_path, monkeypatch):
    """A worker whose interpreter has gone in an upgrade: the reason is told."""
    mailbox = Mailbox(str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    made = module.spawn_worker([], module.worker_environ(mailbox.path, 1, 1), None, lambda: None)
    try:
        _pid, status = os.waitpid(made.pid, 0)
        (letter,) = mailbox.read()
        assert (
            letter.words["STATUS"]
            == f"cannot start: {tmp_path}/no-python cannot be executed: No such file or directory"
        )
        assert letter.words["ERRNO"] == str(errno.ENOENT) and exit_code(status) == 69
    finally:
        made.channel.close()
        os.close(made.stacks)
        mailbox.close()


def test_the_reading_of_a_generation(host):
    """The first worker passes it up once; a renewed supervisor has it, and it goes with the generation."""
    host.rollout.start()
    generation = host.rollout.coming
    first, second = write_texts({"/x": "workers 1"}), write_texts({"/x": "workers 2"})
    read = host.supervisor.mailbox.read
    pid, words = generation.workers[1].pid, {"X_APPD_READING": "1"}
    host.supervisor.mailbox.read = lambda: [Letter(pid, words, [first]), Letter(pid, words, [second])]
    host.supervisor._read_letters()
    host.supervisor.mailbox.read = read
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(second)
    host.serve()
    state = {
        "inherited": [], "mailbox": 0, "control": {"listener": 1, "connections": []}, "rollout": host.rollout.keep(),
    }  # fmt: skip
    assert first in kept_descriptors(state) and state["rollout"]["serving"]["reading"] == first
    assert Generation.kept(generation.keep(), lambda _fd: None).reading == first
    host.rollout.reload(None)
    host.serve()
    host.kill(generation.workers[1])
    host.supervisor.reap()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(first)


def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_the_certificates_of_a_generation(host, monkeypatch):
    """What the first worker has passed last, and one of the others; who comes later gets both, until there is nobody to come."""
    host.rollout.start()
    generation = host.rollout.coming
    host.serve(3)
    made = [write_sealed("certificates", b"key") for _ in range(5)]

    def passes(number, descriptor):
        letter = Letter(generation.workers[number].pid, {"X_APPD_MATERIAL": "1"}, [descriptor])
        with monkeypatch.context() as patch:
            patch.setattr(host.supervisor.mailbox, "read", lambda: [letter])
            host.supervisor._read_letters()

    for number, descriptor in zip((1, 1, 2, 3), made, strict=False):
        passes(number, descriptor)
    assert [is_open(one) for one in made] == [False, True, False, True, True]
    kept = {"APPD_MATERIAL": made[1], "APPD_MATERIAL_OF_OTHERS": made[3]}
    assert generation.material == kept
    state = {
        "inherited": [], "mailbox": 0, "control": {"listener": 1, "connections": []}, "rollout": host.rollout.keep(),
    }  # fmt: skip
    assert {made[1], made[3]} <= set(kept_descriptors(state))
    assert Generation.kept(json.loads(json.dumps(generation.keep())), lambda _fd: None).material == kept
    given = []
    with monkeypatch.context() as patch:
        patch.setattr(module, "spawn", lambda _passed, others, *rest: given.append(others) or host.spawn())
        host.kill(generation.workers[2])
        host.supervisor.reap()
        host.pass_time(0.1)
        assert set(kept.items()) <= set(given[-1])
        host.rollout.reload(None)
        host.serve(3)
    assert not any(name.startswith("APPD_MATERIAL") for name, _fd in given[-1])
    # Those that drain have no use for them, and what they pass is nobody's.
    assert generation.draining and generation.everyone and not is_open(made[1]) and not is_open(made[3])
    passes(1, made[4])
    assert not is_open(made[4]) and generation.material == {}


def test_a_reading_that_is_none(tmp_path):
    """Hosted code may pass anything in its place: a worker reads the file, then."""
    for content in (b"", b"[" * 100_000, b"[1]", b'{"/x": 7}', b"\xff"):
        path = tmp_path / "x"
        path.write_bytes(content)
        assert read_texts(os.open(path, os.O_RDONLY)) is None
    reader, writer = os.pipe()
    os.close(writer)
    assert read_texts(reader) is None
    texts = {"/etc/a.conf": "workers 1\n# \u00e4\n"}
    descriptor = write_texts(texts)
    assert read_texts(os.dup(descriptor)) == read_texts(descriptor) == texts


@pytest.mark.parametrize("workers", [1, 2])
def test_a_replacement_that_cannot_start(host, workers):
    """Where nothing else serves it is the end, with its code and its reason; else it is tried again, and the others serve."""
    host.rollout.start()
    host.serve(workers)
    serving = host.rollout.serving
    host.kill(serving.workers[1])
    host.supervisor.reap()
    host.pass_time(0.1)
    worker = serving.workers[1]
    worker.note({"STATUS": "cannot start: appd.conf:1: no such key", "ERRNO": "22"}, host.now)
    host.rollout.gone(serving, worker, 78 << 8)
    if workers == 1:
        assert host.rollout.stopping and host.rollout.exit_code == 78
        assert host.told[-1] == "STATUS=cannot start: appd.conf:1: no such key\nERRNO=22"
    else:
        assert not host.rollout.stopping
        host.pass_time(2.0)
        assert set(serving.workers) == {1, 2}


def test_the_watchdog_of_the_manager(host):
    """WATCHDOG=1 comes from the loop, at least as often as systemd asked for it; nobody is told who did not ask."""
    host.rollout.start()
    host.serve()
    host.supervisor._tick()
    assert "WATCHDOG=1" not in host.told
    host.supervisor._notifier.watchdog_interval = 0.25
    host.supervisor._tick()
    for number in range(1, 5):
        assert host.told.count("WATCHDOG=1") == number
        host.pass_time(0.26)


@pytest.mark.parametrize("waits", [False, True])
def test_nobody_waits_when_an_idle_service_ends(host, waits):
    """The workers rest; who is in the queue of a socket by then wakes them, else the service ends."""
    ours, theirs = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener, closing(ours), closing(theirs), socket.socket() as client:
        host.supervisor.inherited = [("h", listener.fileno())]
        host.rollout.start()
        generation = host.rollout.coming
        host.says(prepared() | {"X_APPD_IDLE_EXIT": "5000"})
        host.says(READY, generation)
        (worker,) = host.rollout.workers()
        worker.channel.close()
        worker.channel = ours.dup()
        worker.channel.setblocking(False)
        idle = host.supervisor.idle
        idle.passed()
        host.now += 6
        idle.passed()
        theirs.settimeout(10)
        assert theirs.recv(99) == b"rest 1\n"
        if waits:
            client.connect(listener.getsockname())
        words = {"X_APPD_RESTS": "1"}
        host.rollout.heard(generation, worker, words)
        idle.heard(generation, worker, words)
        assert theirs.recv(99) == (b"wake\n" if waits else b"stop\n")
        assert host.rollout.stopping is not waits


def test_a_worker_that_rests_accepts_nothing():
    """From the word on, until it is woken; it answers in a later turn whether anything is open."""
    told, later = [], []

    class Server:
        stop_accepting, resume_accepting = (lambda _self: told.append("stops")), (lambda _self: told.append("resumes"))

    class Group:
        servers, open_connections = (Server(),), 0

    class Lifecycle:
        group, has_news = Group(), False

    class Reactor:
        callLater = staticmethod(lambda _delay, call, *arguments: later.append((call, *arguments)))

    rest = Rest(Lifecycle(), Notifier({"NOTIFY_SOCKET": "@x"}, lambda message, _fds: told.append(message)), Reactor())
    rest.wake()
    rest.rest("7")
    assert told == ["stops"]
    ((call, number),) = later
    call(number)
    rest.wake()
    assert told == ["stops", "X_APPD_RESTS=7", "resumes"]
    Group.open_connections = 1
    rest.rest("8")
    later[-1][0](later[-1][1])
    assert told[-2:] == ["stops", "X_APPD_BUSY=8"]


def test_a_message_without_an_end():
    """What a control client sends is bounded, whole or not, in one piece or in many."""
    for pieces in ([b"x" * 70_000], [b"x" * 1000] * 70, [b"x" * 70_000 + b"\0"]):
        framing = Framing()
        with pytest.raises(ControlError, match="longer than 65536 bytes"):
            for one in pieces:
                framing.feed(one)
