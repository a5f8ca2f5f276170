"""A booted systemd host that lives as long as a test, and what an operator does on it.

`host.sh` makes the host; this keeps its standard input open, so the host goes when this process does, however it ends.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

__all__ = ["CLIENTS", "HOSTED", "Answer", "Host", "answer", "boot", "unavailable", "wait_until"]

_HERE = Path(__file__).resolve().parent
_CHECKOUT = _HERE.parent.parent
HOSTED = _HERE / "hosted"
"""The folder of the applications that the tests serve."""
CLIENTS = _HERE / "clients"
"""The folder of the programs that the tests run in the hosts."""

ROOT = Path(os.environ.get("APPD_SYSTEM_ROOT", "/"))
"""The root file system of the hosts: this machine's own, or one that packaging/root made, `packaging/root NAME`."""
# Its Python has appd: what runs the tests, or the virtual environment that was made for it, `.venv-NAME`.
_BIN = Path(sys.executable).parent if Path("/") == ROOT else _CHECKOUT / f".venv-{ROOT.name.partition('.')[0]}" / "bin"

SANDBOX = os.environ.get("APPD_SYSTEM_SANDBOX", "")
"""`inbound-only` gives the services of the hosts that drop-in; without it they have the shipped unit."""

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root", "SYSTEMD_PAGER": ""}
_T = TypeVar("_T")


class Answer(NamedTuple):
    """What curl got: the status, 0 when there was none, and the body."""

    status: int
    body: str


def unavailable(root: Path = ROOT, bare: bool = False) -> str | None:
    """Why no host can be booted on this machine; None when one can.

    Args:
        root: Its root file system.
        bare: Whether it is one without appd.
    """
    if os.geteuid() != 0:
        return "booting a disposable host needs root"
    if not (root / "lib/systemd/systemd").exists():
        return f"there is no systemd in {root}"
    if not bare and not (_BIN / "appd").exists():
        return f"there is no appd in {_BIN}"
    missing = [one for one in ("nsenter", "unshare") if shutil.which(one) is None]
    inside = ":".join(str(root / one) for one in ("usr/bin", "usr/sbin", "bin"))
    missing += [one for one in ("systemctl", "curl", "socat", "ss") if shutil.which(one, path=inside) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (packaging/test-needs installs them)"
    made = subprocess.run(
        ["unshare", "--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net", "--fork", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        return f"no namespaces: {made.stderr.strip()}"
    return None


def wait_until(predicate: Callable[[], _T], timeout: float = 30.0, interval: float = 0.03) -> _T:
    """Asks again and again until the answer is true.

    Args:
        predicate: The question.
        timeout: How long at most, in seconds.
        interval: The pause between two questions, in seconds.

    Returns:
        The first true answer.

    Raises:
        AssertionError: There was none in time; the message has the last one.
    """
    ends = time.monotonic() + timeout
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= ends:
            raise AssertionError(f"not within {timeout} s; the last answer was {answer!r}")
        time.sleep(interval)


def boot(
    enable: Sequence[str] = (),
    target: str = "basic.target",
    root: Path = ROOT,
    bare: Path | None = None,
    install_rpm: Path | None = None,
) -> Host:
    """Begins to boot a host with appd installed; whoever asks something of it waits until it is there.

    Args:
        enable: The units to enable before the boot.
        target: The target to boot.
        root: The root file system.
        bare: Nothing is installed in it; this folder is shown in it.
        install_rpm: An rpm in that folder, installed before the boot.

    Returns:
        The host. The caller closes it.
    """
    folders = _folders() if bare is None else [bare, _HERE, _CHECKOUT / "bench"]
    keep = [option for folder in folders for option in ("--keep", str(folder))]
    prepare = [] if bare is not None else ["--prepare", str(_HERE / "install.sh")]
    if install_rpm is not None:
        prepare = ["--prepare", str(_HERE / "install_rpm.sh")]
    process = subprocess.Popen(
        [str(_HERE / "host.sh"), *prepare, *keep, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **_ENVIRONMENT,
            "APPD_BIN": str(_BIN),
            "ENABLE": " ".join(enable),
            "BOOT_UNIT": target,
            "KEPT": " ".join(map(str, _folders())),
            "SANDBOX": SANDBOX,
            "RPM": str(install_rpm or ""),
        },
        # Ctrl-C ends the test, which closes the host in its own way.
        start_new_session=True,
    )
    return Host(process, "/usr/bin/python3" if bare is not None else str(_BIN / "python"))


def _folders() -> list[Path]:
    """What has to be visible inside: the checkout, the virtual environment, its Python."""
    prefixes = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    return [_CHECKOUT, *sorted(one for one in prefixes if one != Path("/usr") and not one.is_relative_to(_CHECKOUT))]


class Host:
    """The host, from outside.

    Args:
        process: The `host.sh` that holds it.
        python: The Python that runs clients in it.
    """

    def __init__(self, process: subprocess.Popen[str], python: str) -> None:
        self._process = process
        self._python = python
        self._started: list[subprocess.Popen[str]] = []

    @cached_property
    def init(self) -> int:
        """The process id of its process 1, when it has booted.

        Raises:
            RuntimeError: It did not boot.
        """
        assert self._process.stdout is not None
        printed = self._process.stdout.readline().strip()
        if not printed:
            _out, complaints = self._process.communicate()
            raise RuntimeError(f"the host did not boot: {complaints}")
        return int(printed)

    @property
    def _enter(self) -> Sequence[str]:
        return ["nsenter", f"--target={self.init}", "--pid", "--mount", "--net", "--cgroup", "--uts", "--ipc"]

    @cached_property
    def version(self) -> int:
        """The version of its systemd."""
        return int(self.systemctl("--version").stdout.split()[1])

    def begin_to_close(self) -> None:
        """Ends the host and everything in it; `close` waits for the end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def close(self) -> None:
        """Ends the host and everything in it, and waits until nothing is left."""
        self.begin_to_close()
        self._process.wait(60)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        for one in self._started:
            one.communicate()

    def run(
        self, *command: str | os.PathLike[str], check: bool = True, input: str = "", timeout: float = 90
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in the host, as root.

        Args:
            command: The command and its arguments.
            check: Whether it has to succeed.
            input: Its standard input.
            timeout: How long it may take, in seconds.
        """
        done = subprocess.run(
            [*self._enter, *command],
            input=input,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
            env=_ENVIRONMENT,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command} exited with {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def start(self, *command: str | os.PathLike[str]) -> subprocess.Popen[str]:
        """Starts a command in the host and does not wait for it; it ends with the host at the latest."""
        started = subprocess.Popen(
            [*self._enter, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_ENVIRONMENT,
        )
        self._started.append(started)
        return started

    def client(self, name: str, *arguments: str) -> Sequence[str]:
        """The command of a Python program in `clients/`."""
        return [self._python, str(CLIENTS / name), *arguments]

    def path(self, path: str) -> Path:
        """A file of the host as it is reached from outside."""
        return Path(f"/proc/{self.init}/root{path}")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Writes a file in the host, its folders too."""
        inside = self.path(path)
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.write_text(text)
        inside.chmod(mode)

    def configure(self, text: str, name: str = "appd") -> None:
        """Writes a configuration file; it finds the applications in `hosted/`."""
        self.write(f"/etc/appd/{name}.conf", f"python-path {HOSTED}\n{text}")

    def unit(self, name: str, text: str) -> None:
        """Writes a unit and has systemd read it."""
        self.write(f"/etc/systemd/system/{name}", text)
        self.systemctl("daemon-reload")

    def drop_in(self, unit: str, text: str) -> None:
        """Writes what `systemctl edit` would and has systemd read it."""
        self.unit(f"{unit}.d/override.conf", text)

    def allow_outgoing(self) -> None:
        """The service is one that opens connections, or binds addresses, of its own: it has the shipped unit as it is."""
        for one in ("appd", "appd@"):
            self.path(f"/usr/lib/systemd/system/{one}.service.d/20-inbound-only.conf").unlink(missing_ok=True)
        self.systemctl("daemon-reload")

    def systemctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs systemctl."""
        return self.run("systemctl", *arguments, check=check)

    def show(self, unit: str, *properties: str) -> Mapping[str, str]:
        """What `systemctl show` says of a unit."""
        said = self.systemctl("show", unit, *(f"--property={one}" for one in properties)).stdout
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def property(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.show(unit, name)[name]

    def wait_property(self, unit: str, name: str, value: str) -> None:
        """Waits until a property is what it is to be: one that is started again and again has none of them in between."""
        wait_until(lambda: self.property(unit, name) == value)

    def state(self, unit: str) -> str:
        """active, inactive, activating, failed …"""
        return self.property(unit, "ActiveState")

    def wait_active(self, unit: str = "appd.service") -> None:
        """Waits until a unit is active: who has woken it may have its answer a moment before."""
        wait_until(lambda: self.state(unit) == "active")

    def main_pid(self, unit: str = "appd.service") -> int:
        """The main process as the host numbers it; 0 without one."""
        return int(self.property(unit, "MainPID"))

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """Entries of the journal, oldest first.

        Args:
            matches: Arguments of journalctl: `-u`, `UNIT`, `FIELD=VALUE`.

        Returns:
            Their fields: text, bytes where that is no text, a list where there are several.
        """
        self.run("journalctl", "--sync")
        return self.journal_so_far(*matches)

    def journal_so_far(self, *matches: str) -> list[dict[str, Any]]:
        """The same without asking journald to write what it has received, which waits while journald is stopped."""
        said = self.run("journalctl", "--no-pager", "--all", "-o", "json", *matches).stdout
        return [{key: _field(value) for key, value in json.loads(line).items()} for line in said.splitlines()]

    def get(self, url: str, *options: str, timeout: float = 60) -> Answer:
        """Makes an HTTP request with curl, in the host.

        Args:
            url: The URL.
            options: Further options of curl, like `--unix-socket PATH`.
            timeout: How long it may take, in seconds.
        """
        done = self.run(*self.curl(url, *options, timeout=timeout), check=False, timeout=timeout + 10)
        return answer(done.stdout)

    def curl(self, url: str, *options: str, timeout: float = 60) -> Sequence[str]:
        """The command that `get` runs, for `start`; `answer` reads what it prints."""
        return [
            "curl",
            "--silent",
            "--show-error",
            *("--max-time", str(timeout)),
            *("--write-out", "\n%{http_code}"),
            *options,
            url,
        ]

    def exchange(self, address: str, text: str) -> str:
        """Sends text with socat, in the host, and gives what comes back.

        Args:
            address: As socat has it: `TCP:127.0.0.1:8080`, `UNIX-CONNECT:/path`.
            text: What to send.
        """
        return self.run("socat", "-t30", "-", address, input=text).stdout

    def datagram(self, host: str, port: int, text: str, *own: str, wait: float = 30) -> str:
        """Sends a datagram, from inside, and gives the answer.

        Args:
            host: A host, or the path of a UNIX socket.
            port: A port, or 0.
            text: What to send.
            own: For a UNIX socket the path that the answer goes to, and its mode.
            wait: How long to wait for an answer, in seconds.

        Returns:
            The answer; "" when none came.
        """
        return self.run(*self.client("datagram.py", str(wait), host, str(port), text, *own)).stdout


def answer(printed: str) -> Answer:
    """Reads what the command of `Host.curl` has printed."""
    body, _, status = printed.rpartition("\n")
    return Answer(int(status) if status.isdigit() else 0, body)


def _field(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(one, int) for one in value):
        return bytes(value)
    return [_field(one) for one in value] if isinstance(value, list) else value
