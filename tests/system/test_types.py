"""Server types on a host: socket-activated, driven by clients of other houses where there are any, reloaded and restarted."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.examples import example
from system.disposable_host import Host, wait_until

_SUPPORT = Path(__file__).parents[1] / "support"
_CALLERS, _MAILDIRS = str(_SUPPORT / "callers.py"), str(_SUPPORT / "maildirs.py")


def _sockets(host: Host, **lines: str) -> None:
    """Units that pass these names, and listen."""
    for name, text in lines.items():
        unit = (
            f"[Socket]\nService=appd.service\nFileDescriptorName={name}\n{text}\n[Install]\nWantedBy=sockets.target\n"
        )
        host.unit(f"appd-{name}.socket", unit)
    host.systemctl("start", *(f"appd-{name}.socket" for name in lines))
    assert host.state("appd.service") == "inactive"


def _errors(host: Host) -> list[str]:
    return [one["MESSAGE"] for one in host.journal("-u", "appd.service", "-p", "err")]


def _call(host: Host, *arguments: str) -> list[str]:
    return host.run(*host.client(_CALLERS, *arguments)).stdout.splitlines()


def test_pb_amp_and_datagrams(host: Host) -> None:
    """Each wakes, answers, and has an open connection outlive a reload; a restart waits until that has ended."""
    host.configure(
        "<pb objects>\n address systemd:name=pb\n root parts:Root\n</pb>\n"
        "<amp squares>\n address systemd:name=amp\n responder parts:Squares\n</amp>\n"
        "<datagram back>\n address systemd:name=back\n protocol parts:Backwards\n group 239.255.1.9 lo\n</datagram>\n"
    )
    path = "/run/appd-sockets/back.sock"
    _sockets(
        host,
        pb="ListenStream=127.0.0.1:8787",
        amp="ListenStream=/run/appd-sockets/amp.sock",
        back=f"ListenDatagram=0.0.0.0:5005\nListenDatagram={path}\nSocketMode=0666",
    )
    objects, squares = "tcp:127.0.0.1:8787", "unix:/run/appd-sockets/amp.sock"
    assert _call(host, "pb", objects, "greet,Ann") == ["hello Ann"]
    host.wait_active()
    assert _call(host, "amp", squares, "12", "3") == ["144", "9"]
    assert host.datagram("127.0.0.1", 5005, "abc") == "cba"
    assert host.datagram(path, 0, "abc", "/run/mine.sock") == "cba"

    # To the group as well, by whatever goes there over loopback.
    group = "UDP-DATAGRAM:239.255.1.9:5005,ip-multicast-if=127.0.0.1"
    assert host.run("socat", "-t5", "-", group, input="abc").stdout == "cba"

    calling = host.start(*host.client(_CALLERS, "pb", objects, "pid", "wait", "pid"))
    commanding = host.start(*host.client(_CALLERS, "amp", squares, "2", "wait", "4"))
    assert calling.stdout is not None and commanding.stdout is not None
    before = calling.stdout.readline()
    assert [calling.stdout.readline(), commanding.stdout.readline(), commanding.stdout.readline()] == [
        "waits\n",
        "4\n",
        "waits\n",
    ]
    host.systemctl("reload", "appd.service")
    assert _call(host, "pb", objects, "pid") != [before.strip()]
    assert host.datagram("127.0.0.1", 5005, "abc") == "cba"
    restart = host.start("systemctl", "restart", "appd.service")
    wait_until(lambda: host.property("appd.service", "SubState") == "stop-sigterm")
    assert calling.communicate("\n", timeout=90)[0] == before
    assert commanding.communicate("\n", timeout=90)[0] == "16\n"
    assert restart.wait(90) == 0
    assert _call(host, "amp", squares, "5") == ["25"]
    assert _errors(host) == []


@pytest.mark.outgoing
def test_a_foreign_program_and_a_timer(host: Host) -> None:
    """systemd's own proxy (C, sd_listen_fds) has the socket as a child of appd's; a timer ticks beside it, once for all workers."""
    host.configure(
        "workers 2\n"
        "<process proxy>\n address systemd:name=proxy\n"
        " command /lib/systemd/systemd-socket-proxyd 127.0.0.1:7001\n stop-timeout 20s\n</process>\n"
        "<timer clock>\n call parts:tick\n every 200ms\n</timer>\n"
    )
    _sockets(host, proxy="ListenStream=127.0.0.1:7000")
    host.start("socat", "TCP-LISTEN:7001,fork,reuseaddr,bind=127.0.0.1", "EXEC:/bin/date +%Y")

    def through(port: int = 7000) -> str:
        # It passes no end of a side on before the end of both, so the client only listens.
        return host.run("socat", "-u", f"TCP:127.0.0.1:{port}", "-", check=False).stdout

    year = wait_until(lambda: through(7001))
    assert through() == year

    def ticks() -> list[str]:
        entries = host.journal("-u", "appd.service")
        return [one["MESSAGE"] for one in entries if one["MESSAGE"].startswith("tick of ")]

    def children() -> list[str]:
        return host.run("pgrep", "-f", "^/lib/systemd/systemd-socket-proxyd", check=False).stdout.split()

    wait_until(lambda: len(ticks()) >= 2)
    assert len(set(ticks())) == 1, "one worker of both"
    [before] = children()
    first = ticks()[0]
    host.systemctl("reload", "appd.service")
    assert through() == year
    wait_until(lambda: ticks()[-1] != first)
    wait_until(lambda: len(children()) == 1 and children() != [before])
    host.run("kill", "-KILL", children()[0])
    assert through() == year
    host.systemctl("restart", "appd.service")
    assert through() == year
    host.systemctl("stop", "appd.service")
    assert children() == [] and host.state("appd-proxy.socket") == "active"


def test_what_exists_for_twisted(host: Host) -> None:
    """The examples of docs/twistd.md, and a plugin: finger, mail by curl, an IRC client, telnet."""
    text = ""
    for heading in ("Chat: IRC", "Mail: POP3", "Mail: IMAP4", "Finger"):
        section, files = example(heading)
        text += section
        for name, source in files.items():
            host.write(f"/etc/appd/{name}", source)
    for name in ("mail", "imap", "manhole"):
        host.write(f"/etc/appd/{name}.passwd", "joe:secret\n")
    words = "--telnetPort systemd:domain=INET:name=telnet --passwd /etc/appd/manhole.passwd"
    host.configure(f"{text}<plugin shell>\n plugin manhole\n arguments {words}\n</plugin>\n")
    ports = {"finger": 79, "irc": 6667, "pop3": 110, "imap": 143, "telnet": 2323}
    _sockets(host, **{name: f"ListenStream=127.0.0.1:{port}" for name, port in ports.items()})
    box = "/var/lib/appd/mail/joe"
    host.run(
        "install",
        "-d",
        "-o",
        "appd",
        "-g",
        "appd",
        "/var/lib/appd/mail",
        box,
        *(f"{box}/{one}" for one in ("new", "cur", "tmp")),
    )
    host.write(f"{box}/new/1.2.x", "Subject: hi\n\nThere.\n")

    assert "Joe is at lunch." in host.run("finger", "joe@127.0.0.1").stdout
    host.wait_active()
    curl = ("curl", "-sS", "--max-time", "30", "--user", "joe:secret")
    if host.run(*host.client(_MAILDIRS), check=False).returncode == 0:
        # curl would prefer APOP, which is for passwords that are text in Twisted; so Python's client.
        fetch = "import poplib; c = poplib.POP3('127.0.0.1'); c.user('joe'); c.pass_('secret'); print(c.retr(1))"
        assert "There." in host.run("/usr/bin/python3", "-c", fetch).stdout
    assert "FLAGS" in host.run(*curl, "imap://127.0.0.1/", "--request", "EXAMINE INBOX").stdout
    assert host.run("curl", "-sS", "--user", "joe:wrong", "imap://127.0.0.1/", check=False).returncode == 67

    ann, bob = (_Talker(host, name) for name in ("ann", "bob"))
    ann.say(":m #lobby hello")
    bob.hears("<ann> hello")
    host.systemctl("reload", "appd.service")
    bob.say(":m #lobby still here")
    ann.hears("<bob> still here")
    for one in (ann, bob):
        one.process.terminate()

    shell = host.start("telnet", "127.0.0.1", "2323")
    for prompt, typed in (("Username: ", "joe\n"), ("Password: ", "secret\n"), (">>> ", "6*7\r"), ("\n42\r", "")):
        _wait_for(shell, prompt)
        _type(shell, typed)
    shell.terminate()
    assert _errors(host) == []


def _wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    seen = ""
    while text not in seen:
        more = os.read(process.stdout.fileno(), 4096).decode(errors="replace")
        assert more, seen
        seen += more


def _type(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


class _Talker:
    """The IRC client sic, in the channel."""

    def __init__(self, host: Host, name: str) -> None:
        self.process = host.start("sic", "-h", "127.0.0.1", "-p", "6667", "-n", name, "-k", "secret")
        _wait_for(self.process, "End of /MOTD")
        self.say(":j #lobby")
        _wait_for(self.process, "End of /NAMES")

    def say(self, line: str) -> None:
        _type(self.process, line + "\n")

    def hears(self, text: str) -> None:
        _wait_for(self.process, text)
