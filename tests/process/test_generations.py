"""Workers and generations: reload with a verdict, rollback, deaths and hangs, sockets that are kept."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from support.running import APPD, ask, listening, read_to, wait_until
from support.service import GATE, HTTP, PID_APPLICATION, Load, Service, gone


@pytest.fixture
def service(start, tmp_path):
    """Starts a server that answers with its PID."""
    return partial(Service, start, tmp_path)


def test_workers(service):
    """READY=1 when both listen; both answer; the stop leaves nobody and nothing behind."""
    running = (made := service("workers 2\n")).running
    assert running.manager.messages[-1]["STATUS"] == "serving 1 server, 2 workers, 0 connections"
    workers = made.workers()
    assert len(workers) == 2
    wait_until(lambda: {made.pid() for _ in range(20)} == workers)
    assert Path(f"/proc/{running.process.pid}/status").read_text().split("Threads:\t")[1].split()[0] == "1"
    maps = Path(f"/proc/{running.process.pid}/maps").read_text()
    assert "zope" not in maps and "_openssl" not in maps
    assert running.stop() == 0
    assert all(gone(pid) for pid in workers)
    assert not Path(made.control).exists()


def test_reload_under_load(service):
    """Three reloads under load: nothing is refused, reset or cut, and each returns when new workers serve."""
    made = service("workers 2\n")
    with Load(made.passed) as load:
        for number in range(2, 5):
            before = made.workers()
            done = made.reload()
            assert (done.returncode, done.stdout) == (0, f"generation {number} serves\n")
            assert not made.workers() & before
    assert set(load.results) == {"ok"}, load.results

    def told(word):
        return sum(word in one for one in made.running.manager.read_all())

    # Nobody has read meanwhile, so that the rest of it waits in the supervisor.
    wait_until(lambda: told("READY") == 4)
    assert told("RELOADING") == told("MONOTONIC_USEC") == 3
    # `systemctl status` says meanwhile what is going on.
    messages = made.running.manager.read_all()
    assert [one["STATUS"] for one in messages if "RELOADING" in one] == ["reloading"] * 3
    assert all(one["STATUS"].startswith("serving 1 server, 2 workers") for one in messages if "READY" in one)


def test_a_request_in_flight_is_answered_by_its_generation(service, tmp_path):
    """A request that began before the reload is finished by the worker that has it."""
    made = service()
    first = made.pid()
    answers = []
    client = threading.Thread(target=lambda: answers.append(made.pid("/wait")))
    client.start()
    wait_until((tmp_path / "begun").exists)
    assert made.reload().returncode == 0
    wait_until(lambda: made.pid() != first)  # the one before hears of it a moment later
    (tmp_path / "go").touch()
    client.join()
    assert answers == [first]


def test_a_bad_file_is_rolled_back(service):
    """78 with the reason; the generation before has not noticed; once mended it reloads."""
    made = service()
    first = made.pid()
    made.file.write_text(made.text.replace("address", "adress"))
    done = made.reload()
    assert done.returncode == 78
    assert len(done.stderr.splitlines()) == 1 and "appd.conf:3: <http> has no key 'adress'" in done.stderr
    assert made.pid() == first
    made.running.wait_said("reload failed, the generation before goes on")
    status = made.status()["status"]
    assert status.startswith("serving 1 server, 1 worker, ") and "drains" not in status
    # With Type=notify-reload nothing else tells whoever typed `systemctl reload`.
    assert ", the last reload failed: " in status and "appd.conf:3: <http> has no key 'adress'" in status
    told = made.running.manager.read_all
    wait_until(lambda: any("the last reload failed: " in one.get("STATUS", "") for one in told()))
    made.file.write_text(made.text)
    assert made.reload().returncode == 0
    wait_until(lambda: made.pid() != first)  # the one before hears of it a moment later
    assert "failed" not in made.status()["status"]


def test_an_application_that_fails_late_loses_nothing(service, tmp_path):
    """It raises a second after it began to load, under load: nothing is lost, and the old code goes on."""
    made = service("workers 2\n")
    workers = made.workers()
    with Load(made.passed) as load:
        (tmp_path / "hosted.py").write_text("import time\ntime.sleep(1)\nraise RuntimeError('broken release')\n")
        done = made.reload()
        assert done.returncode == 78 and "RuntimeError: broken release" in done.stderr
        assert made.workers() == workers
    assert set(load.results) == {"ok"}, load.results


def test_new_code_is_picked_up(service, tmp_path):
    """A changed module is served after a reload."""
    made = service()
    (tmp_path / "hosted.py").write_text(PID_APPLICATION.replace("str(os.getpid())", "'12345'"))
    os.utime(tmp_path / "hosted.py", (1, 1))
    assert made.reload().returncode == 0
    assert made.pid() == 12345


def test_the_one_before_accepts_nothing_after_a_reload(service):
    """Whoever asks when the reload has returned, however soon, is answered by the new workers."""
    made = service("workers 2\n")
    for _ in range(5):
        before = made.workers()
        assert made.reload().returncode == 0
        told_late = "it may still accept" in made.running.errors
        assert told_late or not {made.pid() for _ in range(5)} & before


def test_a_worker_that_cannot_say_that_it_drains(service):
    """One that is stopped is waited for for five seconds; then the reload is done all the same, and the journal says so."""
    made = service()
    (worker,) = made.workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        done = made.reload()
        assert (done.returncode, done.stdout) == (0, "generation 2 serves\n")
        made.running.wait_said("worker 1 of generation 1 has not said within 5 s that it drains: it may still accept")
    finally:
        os.kill(worker, signal.SIGCONT)


def test_two_reloads_at_once(service, tmp_path):
    """The second takes the place of the first, whose caller gets 75."""
    made = service()
    (tmp_path / "hosted.py").write_text(GATE + PID_APPLICATION)
    command = [APPD, "reload", "--socket", made.control]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        wait_until(lambda: len(made.status()["workers"]) == 2)
        with subprocess.Popen(command) as second:
            _out, errors = first.communicate(timeout=30)
            assert first.returncode == 75 and "a later reload took its place" in errors
            (tmp_path / "go").touch()
            assert second.wait(30) == 0


def test_the_asker_hangs_up(service, tmp_path):
    """The reload goes on to its end, and is journaled."""
    made = service()
    first = made.pid()
    (tmp_path / "hosted.py").write_text(GATE + PID_APPLICATION)
    asker = subprocess.Popen([APPD, "reload", "--socket", made.control])
    wait_until(lambda: len(made.status()["workers"]) == 2)
    asker.kill()
    asker.wait()
    (tmp_path / "go").touch()
    made.running.wait_said("reloaded; all servers were made anew, and what the file says of them is as it was")
    assert made.pid() != first and made.status()["reload"]["exit"] == 0


def test_a_file_that_a_server_names_has_changed(service, tmp_path):
    """A zone: the section is as it was, and the line of the reload does not say that nothing changed."""
    zone = "@ 60 IN SOA ns a. 1 60 60 60 60\n@ 60 IN NS ns\nns 60 IN A 192.0.2.1\n"
    (tmp_path / "example.zone").write_text(zone)
    dns = f"<dns site>\n address udp:127.0.0.1:0\n zone example.org {tmp_path}/example.zone\n</dns>\n"
    made = service(servers=HTTP + dns)
    (tmp_path / "example.zone").write_text(zone.replace(" 1 60 ", " 2 60 ") + "www 60 IN A 192.0.2.2\n")
    assert made.reload().returncode == 0
    assert made.running.wait_said("reloaded;").endswith("reloaded; with changed files: site")


def test_hangup_reloads_and_changes_are_told(service):
    """SIGHUP reloads without a verdict; what was added, changed and removed is one entry."""
    made = service(servers="<echo a>\n address systemd:name=h\n</echo>\n<echo b>\n address 127.0.0.1:0\n</echo>\n")
    text = "<echo a>\n address systemd:name=h\n after c\n</echo>\n<echo c>\n address 127.0.0.1:0\n</echo>\n"
    made.file.write_text(text)
    made.running.process.send_signal(signal.SIGHUP)
    assert made.running.wait_said("reloaded;").endswith("reloaded; added: c; changed: a; removed: b")


def test_hangup_of_every_process(service, tmp_path):
    """`systemctl kill -s HUP` sends it to workers too, to those of the reload among them: the reload goes on."""
    made = service()
    (tmp_path / "hosted.py").write_text(GATE + PID_APPLICATION)
    leader = made.running.process.pid
    children = Path(f"/proc/{leader}/task/{leader}/children")
    with subprocess.Popen([APPD, "reload", "--socket", made.control]) as reload:
        while not (tmp_path / "begun").exists() and reload.poll() is None:
            for pid in map(int, children.read_text().split()):
                os.kill(pid, signal.SIGHUP)
        (tmp_path / "go").touch()
        assert reload.wait(30) == 0
    os.kill(next(iter(made.workers())), signal.SIGHUP)
    assert made.pid() and "SIGHUP" not in made.running.errors


def test_a_killed_worker_is_replaced(service):
    """Under load with a kill -9: only connections of that worker can be cut, none is refused; it comes back."""
    made = service("workers 2\n")
    workers = made.workers()
    with Load(made.passed) as load:
        os.kill(min(workers), signal.SIGKILL)
        made.running.wait_said("was killed by SIGKILL; it is replaced")
        wait_until(lambda: len(made.workers()) == 2)
    # A client that is about to close finds no connection to close: ENOTCONN.
    assert set(load.results) <= {"ok", "ConnectionResetError", "BrokenPipeError", "OSError", "bad b''"}, load.results
    assert made.workers() & workers == {max(workers)} and made.status()["restarts"] == 1


def test_a_hung_worker_is_dumped_and_replaced(service):
    """Its stacks are one entry, with the hosted function in it."""
    made = service("watchdog 3s\n", "<server s>\n type theirs:factory\n address systemd:name=h\n</server>\n")
    first = int(ask(made.passed, b"pid"))
    with socket.create_connection(made.passed.getsockname()) as client:
        client.sendall(b"hang")
        made.running.wait_said("has not answered for 3 s: it is killed")
        made.running.wait_said("its stacks:")
    wait_until(lambda: re.search(r'theirs\.py", line \d+ in dataReceived', made.running.errors))
    assert int(ask(made.passed, b"pid")) != first


_IMPATIENT = """
import appd.supervisor.dumps
appd.supervisor.dumps._LOADS_LONG = appd.supervisor.dumps._PATIENCE = 0.5
from appd.__main__ import main
main()
"""


@pytest.mark.parametrize("at", ["start", "reload", "in C"])
def test_a_hang_while_loading_is_told(start, tmp_path, at):
    """An import that never returns: one entry has the stacks. The worker is not killed, and what comes next is as ever."""
    # This sum lets nobody have the interpreter, and Python does not look for signals.
    waits = "sum(range(10**14))" if at == "in C" else "threading.Event().wait()"
    hangs = f"import threading\ndef waits():\n    {waits}\nwaits()\n"
    hosted, script = tmp_path / "hosted.py", tmp_path / "impatient.py"
    hosted.write_text(hangs if at == "start" else PID_APPLICATION)
    script.write_text(_IMPATIENT)
    control = str(tmp_path / "control")
    command = [sys.executable, str(script), "run", str(tmp_path / "run0" / "appd.conf"), "--control", control]
    running = start(f"python-path {tmp_path}\n{HTTP}", ("h", listening()), command=command)
    if at == "start":
        running.wait_said("worker 1 has been loading for ")
        wait_until(lambda: re.search(r'hosted\.py", line 3 in waits', running.errors))
        assert running.stop() == 0
    else:
        running.wait_ready()
        hosted.write_text(hangs)
        os.utime(hosted, (1, 1))
        ask_for_it = [APPD, "reload", "--socket", control]
        with subprocess.Popen(ask_for_it, stderr=subprocess.DEVNULL) as first:
            try:
                running.wait_said("worker 1 has been loading for ")
                wait_until(lambda: re.search(r'hosted\.py", line 3 in waits', running.errors))
                assert first.poll() is None
            except BaseException:
                first.kill()
                raise
            hosted.write_text(PID_APPLICATION)
            os.utime(hosted, (2, 2))
            assert subprocess.run(ask_for_it, timeout=60, check=False).returncode == 0
            assert first.wait(30) == 75


def test_who_loads_and_is_asked_goes_on(start, tmp_path):
    """Some hundred times while it makes and leaves frames, in two threads: to read those that change would crash it."""
    busy = (
        "import threading, time\ndef fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "def load(ends=time.monotonic() + 2):\n    while time.monotonic() < ends:\n"
        "        exec(compile('class A:\\n def f(self): return fib(9)\\nA().f()', 'x', 'exec'), {'fib': fib})\n"
        "threading.Thread(target=load).start()\nload()\n"
    )
    (tmp_path / "hosted.py").write_text(busy + PID_APPLICATION)
    often = "appd.supervisor.dumps._ASKED_AGAIN = 0\nimport appd.supervisor.supervisor\nappd.supervisor.supervisor._TICK = 0.002\n"
    script = tmp_path / "impatient.py"
    script.write_text(_IMPATIENT.replace("from appd.__main__", f"{often}from appd.__main__"))
    command = [sys.executable, str(script), "run", str(tmp_path / "run0" / "appd.conf")]
    running = start(f"python-path {tmp_path}\n{HTTP}", ("h", listening()), command=command).wait_ready()
    assert sum("has been loading for" in line for line in running.err) > 20
    assert running.stop() == 0


def test_a_worker_has_nothing_of_the_supervisors(service):
    """Neither the first, which is forked, nor one that is executed has a descriptor of its but sockets and its stacks."""
    made = service("workers 2\n")

    def files(pid):
        folder = Path(f"/proc/{pid}/fd")
        found = {one: (os.readlink(one), one.stat().st_ino) for one in folder.iterdir() if int(one.name) > 2}
        return {what for what in found.values() if what[0].startswith(("socket:", "pipe:"))}

    with socket.socket(socket.AF_UNIX) as client:
        client.connect(made.control)
        client.sendall(b'{"method": "org.varlink.service.GetInfo"}\0')
        assert client.recv(65536)
        passed = (f"socket:[{os.fstat(made.passed.fileno()).st_ino}]", os.fstat(made.passed.fileno()).st_ino)
        os.kill(max(made.workers()), signal.SIGKILL)
        wait_until(lambda: made.status()["restarts"] == 1 and len(made.workers()) == 2, 20)
        for pid in made.workers():
            assert files(pid) & files(made.running.process.pid) == {passed}


def test_what_keeps_state_runs_in_one_process(service):
    """A factory by its dotted name has one process on `workers 2`; with `processes all` both; also after a reload."""
    text = "<server s>\n type theirs:factory\n address systemd:name=h\n{}</server>\n"
    made = service("workers 2\n", text.format(""))
    assert len({ask(made.passed, b"pid") for _ in range(30)}) == 1
    assert made.reload().returncode == 0
    assert len({ask(made.passed, b"pid") for _ in range(30)}) == 1
    made.file.write_text(made.text.replace("</server>", " processes all\n</server>"))
    assert made.reload().returncode == 0
    wait_until(lambda: len({ask(made.passed, b"pid") for _ in range(30)}) == 2)


def test_bound_sockets_are_bound_once_and_kept(start, tmp_path):
    """TCP and UNIX addresses on `workers 2`: kept over a reload, closed when the file does not have them any more."""
    path, other = tmp_path / "a.sock", tmp_path / "b.sock"
    text = "workers 2\n<echo e>\n address {}\n address 127.0.0.1:0\n</echo>\n"
    control = str(tmp_path / "control")
    running = start(text.format(path), arguments=("--control", control)).wait_ready()
    inode = path.stat().st_ino
    stored = [one["FDNAME"] for one in running.manager.messages if one.get("FDSTORE") == "1"]
    assert stored == [f"appd-{path}", "appd-e=127.0.0.1%3A0"]
    reload = [APPD, "reload", "--socket", control]
    subprocess.run(reload, check=True, timeout=60, capture_output=True)
    assert path.stat().st_ino == inode and ask(str(path), b"x", socket.AF_UNIX) == b"x"
    Path(running.manager.path).with_name("appd.conf").write_text(text.format(other))
    subprocess.run(reload, check=True, timeout=60, capture_output=True)
    assert ask(str(other), b"x", socket.AF_UNIX) == b"x" and not path.exists()
    removed = {"FDSTOREREMOVE": "1", "FDNAME": f"appd-{path}"}
    wait_until(lambda: any(removed.items() <= one.items() for one in running.manager.read_all()))
    assert running.stop() == 0
    assert not other.exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_address_that_a_reload_removes_is_closed(start, tmp_path, workers):
    """Also while a long-lived connection keeps its generation: who connects is refused, and it can be bound again."""
    control, path, passed = str(tmp_path / "control"), str(tmp_path / "e.sock"), listening()
    with closing(listening()) as free:
        port = free.getsockname()[1]
    (tmp_path / "stays.py").write_text(
        "from twisted.internet.protocol import Factory, Protocol\n"
        "class Stays(Protocol):\n    def dataReceived(self, data):\n        self.transport.write(data)\n"
        "def factory():\n    return Factory.forProtocol(Stays)\n"
    )
    before = f"workers {workers}\npython-path {tmp_path}\n<server e>\n type stays:factory\n processes all\n"
    one = f"{before} address systemd:name=e\n</server>\n"
    both = one.replace("</server>", f" address 127.0.0.1:{port}\n address {path}\n</server>")
    running = start(both, ("e", passed), arguments=("--control", control)).wait_ready()
    file = Path(running.manager.path).with_name("appd.conf")
    reload = [APPD, "reload", "--socket", control]

    def refused():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED

    with socket.create_connection(passed.getsockname(), 10) as stays:
        for again in range(2):
            stays.sendall(b"a")
            assert stays.recv(9) == b"a"
            file.write_text(one)
            subprocess.run(reload, check=True, timeout=30, capture_output=True)
            wait_until(refused)
            assert not os.path.exists(path)
            stays.sendall(b"b")
            assert stays.recv(9) == b"b"
            if not again:
                file.write_text(both)
                subprocess.run(reload, check=True, timeout=30, capture_output=True)
                for address in (("127.0.0.1", port), path):
                    with socket.socket(socket.AF_UNIX if address == path else socket.AF_INET) as client:
                        client.settimeout(10)
                        client.connect(address)
                        client.sendall(b"c")
                        assert client.recv(9) == b"c"
            assert "Traceback" not in running.errors and "cannot accept" not in running.errors


def test_what_a_failed_reload_has_bound_is_closed(service, tmp_path):
    """A new address beside a server that does not start: nobody may wait in its queue."""
    made = service()
    with closing(listening()) as free:
        port = free.getsockname()[1]
    (tmp_path / "late.py").write_text(
        "from twisted.internet.protocol import Factory\n"
        "class Late(Factory):\n    def doStart(self):\n        raise RuntimeError('late')\n"
    )
    made.file.write_text(f"{made.text}<server late>\n type late:Late\n address 127.0.0.1:{port}\n</server>\n")
    done = made.reload()
    assert done.returncode == 78 and "late" in done.stderr
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
    assert made.status()["sockets"] == ["h"]


def test_a_killed_supervisor_takes_its_workers_along(service):
    """kill -9: the workers leave by themselves."""
    made = service("workers 2\n")
    workers = made.workers()
    made.running.process.kill()
    wait_until(lambda: all(gone(pid) for pid in workers))


def test_a_killed_supervisor_takes_along_who_still_loads(service, tmp_path):
    """kill -9 while a worker imports for a minute, and hears nothing of a channel: prctl(2), PR_SET_PDEATHSIG."""
    made = service()
    loading = tmp_path / "loading"
    (tmp_path / "hosted.py").write_text(
        f"import os, time\nopen({str(loading)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n{PID_APPLICATION}"
    )
    made.running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: loading.exists() and loading.read_text(), 20)
    pids = {int(loading.read_text()), *made.workers()}
    assert len(pids) == 2
    made.running.process.kill()
    wait_until(lambda: all(gone(pid) for pid in pids), 20)


def test_log_level_at_run_time(start, tmp_path):
    """debug shows what was hidden, in every worker; one namespace can be silenced."""
    (tmp_path / "theirs.py").write_text(
        "import logging\nfrom twisted.internet.protocol import Factory, Protocol\n"
        "class Logs(Protocol):\n    def dataReceived(self, data):\n"
        "        logging.getLogger('theirs.inner').debug('debugging %s', data)\n"
        "        logging.getLogger('theirs.inner').error('heard %s', data)\n"
        "        self.transport.loseConnection()\n"
        "def factory():\n    return Factory.forProtocol(Logs)\n"
    )
    passed, control = listening(), str(tmp_path / "control")
    text = f"python-path {tmp_path}\n<server s>\n type theirs:factory\n address systemd:name=s\n</server>\n"
    running = start(text, ("s", passed), arguments=("--control", control)).wait_ready()

    def level(*words):
        subprocess.run([APPD, "log-level", *words, "--socket", control], check=True, timeout=60)

    ask(passed, b"one")
    level("debug", "theirs")
    wait_until(lambda: ask(passed, b"two") == b"" and "debugging b'two'" in running.errors)
    level("error", "theirs")

    def is_quiet(numbers=iter(range(10**6))):
        """Whether the worker has heard of it; it is told, and does not answer."""
        word = f"b'word {next(numbers)}.'"
        ask(passed, word[2:-1].encode())
        wait_until(lambda: f"heard {word}" in running.errors)
        return f"debugging {word}" not in running.errors

    wait_until(is_quiet)
    ask(passed, b"three")
    assert running.stop() == 0
    assert "debugging b'one'" not in running.errors and "debugging b'three'" not in running.errors


def test_log_level_in_all_workers(service, tmp_path):
    """In both, in one that takes the place of another, and not any more in those of the next generation."""
    (tmp_path / "hosted.py").write_text(
        "import logging\n"
        + PID_APPLICATION.replace("    start_r", "    logging.debug('pid %d.', os.getpid())\n    start_r")
    )
    made = service("workers 2\n")

    def tells(pid):
        return made.pid() and f"pid {pid}." in made.running.errors

    assert made.call("log-level", "debug").returncode == 0
    assert made.call("log-level", "error", "nobody").returncode == 0
    before = made.workers()
    for pid in before:
        wait_until(partial(tells, pid))
    os.kill(min(before), signal.SIGKILL)
    (fresh,) = wait_until(lambda: len(made.workers()) == 2 and made.workers() - before)
    wait_until(partial(tells, fresh))
    assert made.reload().returncode == 0
    assert not any(tells(pid) for pid in [made.pid() for _ in range(20)])


def test_status_for_people(service):
    """What is served by whom, and the last reload."""
    made = service()
    assert made.reload().returncode == 0
    said = made.call("status").stdout
    assert "serving 1 server, 1 worker" in said and "last reload" in said and "servers: h" in said
    assert re.search(r"^1 +\d+ +2 +serving ", said, re.M)


ECHO = "<echo e>\n address 127.0.0.1:0\n</echo>\n"


@pytest.mark.parametrize("by", ["--control", "RUNTIME_DIRECTORY"])
def test_a_control_socket_is_of_one_service(service, start, by):
    """While it answers, a later one is refused with 69 and one line; a dead one's is replaced."""
    made = service()
    arguments = ("--control", made.control) if by == "--control" else ()
    environ = {"RUNTIME_DIRECTORY": os.path.dirname(made.control)} if by == "RUNTIME_DIRECTORY" else {}
    later = start(ECHO, arguments=arguments, environ=environ)
    assert later.process.wait(60) == 69
    line = (
        f"control socket {made.control}: another service answers there (PID {made.running.process.pid}): "
        "--control PATH, or RuntimeDirectory= of the unit, gives this one its own"
    )
    wait_until(lambda: later.err == [f"<3>{line}"], explain=lambda: later.errors)
    assert any(one.get("STATUS") == f"cannot start: {line}" for one in later.manager.read_all())
    assert made.status()["pid"] == made.running.process.pid
    made.running.process.kill()
    made.running.process.wait(60)
    assert os.path.exists(made.control)
    last = start(ECHO, arguments=arguments, environ=environ).wait_ready()
    assert made.status()["pid"] == last.process.pid
    assert last.stop() == 0 and not os.path.exists(made.control)


def test_the_usual_control_socket_is_of_the_first(start, tmp_path):
    """Of services that are run by hand without --control; a later one says where its own is, and takes nothing away."""
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    usual = tmp_path / "appd" / "control"
    first = start(ECHO, environ=environ).wait_ready()
    later = start(ECHO, environ=environ).wait_ready()
    line = later.wait_said("control socket")
    found = re.fullmatch(
        rf"<4>control socket {usual}: another service answers there \(PID {first.process.pid}\): "
        r"this one's is (.*/control)",
        line,
    )
    assert found, line

    def pid(path):
        command = [APPD, "status", "--json", "--socket", str(path)]
        return json.loads(subprocess.run(command, check=True, timeout=60, capture_output=True).stdout)["pid"]

    assert (pid(usual), pid(found[1])) == (first.process.pid, later.process.pid)
    assert later.stop() == 0 and not os.path.exists(found[1])
    assert pid(usual) == first.process.pid
    assert first.stop() == 0 and not usual.exists()


def test_a_file_is_no_control_socket(start, tmp_path):
    """One that somebody needs is not removed for a slip of the pen."""
    precious = tmp_path / "precious"
    precious.write_text("x")
    running = start(ECHO, arguments=("--control", str(precious)))
    assert running.process.wait(60) == 69
    assert precious.read_text() == "x"
    said = f"<3>control socket {precious}: there is a file that is no socket"
    wait_until(lambda: running.err == [said], explain=lambda: running.errors)


def test_nobody_at_the_control_socket(tmp_path):
    """69 and one line, which says what a worker alone lacks."""
    command = [APPD, "status", "--socket", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 69 and "nobody is at the control socket" in done.stderr
    assert "with --single and twistd there is none: reload needs the supervisor" in done.stderr
    assert len(done.stderr.splitlines()) == 1


RUBBISH = {
    "rubbish": b"\x00\xff rubbish\0",
    "half": b'{"method": "io.appd.Sta',
    "no JSON": b"}{\0",
    "no object": b"[1]\0",
    "deep": b"[" * 60000 + b"\0",
    "no method": b'{"parameters": {}}\0',
    "long": b"x" * (1 << 20),
    "nothing": b"",
}


@pytest.mark.parametrize("what", RUBBISH)
def test_rubbish_at_the_control_socket(service, what):
    """Whatever comes, the service serves and answers the next who asks."""
    made = service()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(made.control)
        try:
            client.sendall(RUBBISH[what])
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b""
        except OSError as error:  # shutdown(2) says ENOTCONN after a reset
            assert isinstance(error, ConnectionError) or error.errno == errno.ENOTCONN
        assert made.status()["generation"] == 1
    assert made.pid()


def test_many_at_the_control_socket(service, tmp_path):
    """A thousand connections that say nothing keep nobody out, least of all who waits for a reload."""
    made = service()
    clients = []
    (tmp_path / "hosted.py").write_text(GATE + PID_APPLICATION)
    with subprocess.Popen([APPD, "reload", "--socket", made.control]) as reload:
        wait_until(lambda: len(made.status()["workers"]) == 2)
        for _ in range(1000):
            client = socket.socket(socket.AF_UNIX)
            clients.append(client)
            client.connect(made.control)
        assert made.pid()
        # There is room for 64; who has been silent for longest is told to go.
        clients[0].settimeout(20)
        assert clients[0].recv(1) == b""
        assert made.status()["generation"] == 1
        (tmp_path / "go").touch()
        assert reload.wait(30) == 0
    assert len(os.listdir(f"/proc/{made.running.process.pid}/fd")) < 100
    for client in clients:
        client.close()


def test_varlink_service_interface(service):
    """GetInfo, GetInterfaceDescription, and the errors of the specification."""
    made = service()

    def call(method, **parameters):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(made.control)
            client.sendall(json.dumps({"method": method, "parameters": parameters}).encode() + b"\0")
            return json.loads(read_to(client, b"\0").rstrip(b"\0"))

    assert "io.appd" in call("org.varlink.service.GetInfo")["parameters"]["interfaces"]
    described = call("org.varlink.service.GetInterfaceDescription", interface="io.appd")["parameters"]["description"]
    assert described.startswith("# Control") and "method Reload()" in described
    assert call("io.appd.Nothing")["error"] == "org.varlink.service.MethodNotFound"
    assert call("io.nobody.Nothing")["error"] == "org.varlink.service.InterfaceNotFound"
    assert call("io.appd.SetLogLevel", level="loud")["error"] == "org.varlink.service.InvalidParameter"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a stranger")
def test_strangers_are_refused(start):
    """Neither root nor the same user nor of its group: PermissionDenied."""
    # Not in pytest's folder: each pytest that starts on this machine closes that to strangers, who would be refused for it.
    with tempfile.TemporaryDirectory(prefix="appd-test-") as folder:
        os.chmod(folder, 0o755)
        made = Service(start, Path(folder))
        os.chmod(made.control, 0o666)
        stranger = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        command = [*stranger, APPD, "reload", "--socket", made.control]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 69 and "permission denied" in done.stderr, done.stderr
        assert made.status()["generation"] == 1
        made.running.stop()


def test_hosted_code_that_writes_to_notify_socket(service, tmp_path):
    """An application may speak sd_notify too, and rubbish: nothing of it harms the supervisor."""
    said = ["ERRNO=x", "EXTEND_TIMEOUT_USEC=-1", "X_APPD_CONNECTIONS=many", "FDSTORE=1", "=", "READY=1"]
    (tmp_path / "talks.py").write_text(
        f"from systemd import daemon\ndef make():\n    for one in {said!r}:\n        daemon.notify(one)\n"
    )
    made = service("application-object talks:make\n")
    assert made.pid() and made.reload().returncode == 0
