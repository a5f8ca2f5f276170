"""`<ssh>` with OpenSSH as the client: files, limits, logins that fail, the shell, reloads."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
from functools import partial

import pytest
from support.running import APPD, descriptors, listening, read_to, wait_until
from support.service import Service

pytestmark = pytest.mark.skipif(shutil.which("sftp") is None, reason="OpenSSH's client is not here")

SSH = """<auth staff>
  passwords {folder}/passwd
  authorized-keys {folder}/keys/%u
  failure-delay 200ms
</auth>
<ssh s>
  address systemd:name=h
  auth staff
  root {folder}/files{root}
  {more}
</ssh>
"""


class Client:
    """OpenSSH as alice, with a key."""

    def __init__(self, folder, port):
        self.folder = folder
        self.port = port
        self.running = None
        (folder / "client").mkdir(exist_ok=True)
        (folder / "keys").mkdir(exist_ok=True)
        self.key = folder / "client" / "key"
        if not self.key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
            shutil.copy(f"{self.key}.pub", folder / "keys" / "alice")

    def options(self, **more):
        chosen = {
            "StrictHostKeyChecking": "accept-new", "UserKnownHostsFile": self.folder / "client" / "known",
            "IdentitiesOnly": "yes", "IdentityFile": self.key, "BatchMode": "yes", "IdentityAgent": "none", **more,
        }  # fmt: skip
        return [part for name, value in chosen.items() for part in ("-o", f"{name}={value}")]

    def sftp(self, batch, user="alice", check=True, **options):
        (self.folder / "client" / "batch").write_text(batch)
        command = ["sftp", "-F", "none", *self.options(**options), "-P", str(self.port), "-b", str(self.folder / "client" / "batch"),
                   f"{user}@127.0.0.1"]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=self.folder / "client"
        )
        assert not check or done.returncode == 0, (
            done.stderr + done.stdout + (self.running.errors if self.running else "")
        )
        return done

    def ssh(self, *command, user="alice", text="", tty=False, **options):
        line = [
            "ssh",
            "-F",
            "none",
            *(["-tt"] if tty else []),
            *self.options(**options),
            "-p",
            str(self.port),
            f"{user}@127.0.0.1",
        ]
        return subprocess.run([*line, *command], input=text, capture_output=True, text=True, timeout=60, check=False)

    def with_password(self, password, *command, user="alice"):
        """ssh asks a program for the password when it has no terminal."""
        ask = self.folder / "client" / "ask"
        ask.write_text(f"#!/bin/sh\necho '{password}'\n")
        ask.chmod(0o700)
        options = self.options(BatchMode="no", PubkeyAuthentication="no", NumberOfPasswordPrompts="1")
        environ = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
        line = ["ssh", "-F", "none", *options, "-p", str(self.port), "-s", f"{user}@127.0.0.1", "sftp"]
        return subprocess.run(
            line, stdin=subprocess.DEVNULL, env=environ, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture
def serve(start, tmp_path):
    """Starts a server, and gives it and a client."""
    (tmp_path / "files").mkdir()
    (tmp_path / "state").mkdir()

    def begin(more="", before="", root="", **options):
        made = subprocess.run(
            [APPD, "passwd", str(tmp_path / "passwd"), "alice", "--bcrypt"], input="secret\n", text=True, check=False
        )
        assert made.returncode == 0
        listener = listening()
        client = Client(tmp_path, listener.getsockname()[1])
        text = before + SSH.format(folder=tmp_path, more=more, root=root)
        environ = {"STATE_DIRECTORY": str(tmp_path / "state"), **options}
        client.running = start(text, ("h", listener), environ=environ).wait_ready()
        return client.running, client

    return begin


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_go_both_ways(serve, tmp_path):
    """Put, get, folders, renames, links, attributes; the key of the host stays the same."""
    _running, client = serve()
    big = tmp_path / "client" / "big"
    big.write_bytes(os.urandom(9_000_001))
    done = client.sftp(
        "put big\nmkdir d\nput -p big d/copy\nrename d/copy d/moved\nsymlink moved d/link\nchmod 600 d/moved\n"
        "ls -la d\nget d/link back\nput big d/again\nrename d/again d/moved\nls d\ncd d\npwd\n"
    )
    assert digest(tmp_path / "client" / "back") == digest(tmp_path / "files" / "big") == digest(big)
    assert "Remote working directory: /d" in done.stdout
    assert "-rw-------" in done.stdout
    assert sorted(os.listdir(tmp_path / "files" / "d")) == ["link", "moved"]
    assert os.readlink(tmp_path / "files" / "d" / "link") == "moved"
    key = tmp_path / "state" / "ssh_host_ed25519_key"
    assert key.stat().st_mode & 0o777 == 0o600
    client.sftp("rm d/link\nrm d/moved\nrmdir d\nrm big\n")
    assert os.listdir(tmp_path / "files") == []


def test_what_openssh_has_added(serve, tmp_path):
    """The room on the disk, a second name for a file, and writing through to the disk."""
    _running, client = serve()
    (tmp_path / "client" / "f").write_text("content")
    (tmp_path / "files" / "out").symlink_to("/etc/passwd")
    done = client.sftp("put -f f g\nln g h\ndf\ndf g\n-df none\n-ln out o\n-ln g h\nmkdir d\n-mkdir d\n")
    assert (tmp_path / "files" / "g").samefile(tmp_path / "files" / "h")
    assert (tmp_path / "files" / "g").read_text() == "content"
    found = os.statvfs(tmp_path / "files")
    assert len(re.findall(rf"^ *{found.f_blocks * found.f_frsize // 1024} ", done.stdout, re.M)) == 2, done.stdout
    assert not os.path.lexists(tmp_path / "files" / "o")
    assert done.stderr.count("Permission denied") == 1 and done.stderr.count("Failure") == 2, done.stderr
    assert "support" not in done.stderr + done.stdout and "Unknown" not in done.stderr


def test_nothing_leads_out(serve, tmp_path):
    """Neither paths nor links; those that a client makes neither."""
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "files" / "out").symlink_to("../secret")
    (tmp_path / "files" / "absolute").symlink_to(tmp_path / "secret")
    (tmp_path / "files" / "folder").symlink_to("..")
    _running, client = serve()
    for path in ("../secret", "/../../secret", "out", "absolute", "folder/secret", "/etc/passwd"):
        client.sftp(f"get {path} got\n", check=False)
        got = tmp_path / "client" / "got"
        assert not got.exists() or got.read_text() == "x", path
        (tmp_path / "client" / "x").write_text("x")
        client.sftp(f"put x {path}\n", check=False)
    client.sftp("symlink /etc/passwd l\n", check=False)
    client.sftp("symlink ../secret l\n", check=False)
    assert not (tmp_path / "files" / "l").is_symlink()
    assert (tmp_path / "secret").read_text() == "outside"


def test_read_only(serve, tmp_path):
    """Files are got, and nothing is changed."""
    (tmp_path / "files" / "f").write_text("content")
    _running, client = serve("read-only on")
    client.sftp("get f got\n")
    (tmp_path / "client" / "x").write_text("x")
    for command in ("put x", "put x f", "rm f", "mkdir d", "rename f g", "chmod 777 f", "symlink f g"):
        done = client.sftp(f"{command}\n", check=False)
        assert "ermission denied" in done.stderr + done.stdout, command
    assert os.listdir(tmp_path / "files") == ["f"] and (tmp_path / "files" / "f").read_text() == "content"


def test_each_user_has_a_folder(serve, tmp_path):
    """With %u in it; another one's is not seen."""
    for user in ("alice", "bob"):
        (tmp_path / "files" / user).mkdir()
        (tmp_path / "files" / user / f"of-{user}").write_text("x")
    _running, client = serve(root="/%u")
    shutil.copy(tmp_path / "keys" / "alice", tmp_path / "keys" / "bob")
    for user in ("alice", "bob"):
        assert client.sftp("ls -a /../bob/..\n", user=user).stdout.split("\n", 1)[1].split() == [
            f"/../bob/../of-{user}"
        ]


def test_who_may_not_is_not_let_in(serve):
    """A wrong key, a wrong password, an unknown user: the same answer; the log has the peer and what was tried."""
    running, client = serve()
    other = client.folder / "client" / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    answers = {
        line.rpartition("@")[2]
        for user in ("alice", "nobody", "../alice")
        for line in client.sftp("ls\n", user=user, check=False, IdentityFile=other).stderr.splitlines()
        if "denied" in line
    }
    assert len(answers) == 1
    assert client.with_password("secret").stderr.count("denied") == 0
    answers = {
        re.sub("alice|nobody", "", client.with_password("wrong", user=user).stderr) for user in ("alice", "nobody")
    }
    assert len(answers) == 1 and "denied" in answers.pop()
    running.wait_said("s: login failed: password of 'alice' from 127.0.0.1, for the first time (auth staff)")
    running.wait_said("s: login failed: password of 'nobody' from 127.0.0.1, 2 times of late (auth staff)")
    assert "Traceback" not in running.errors


def test_rsa_with_sha1_and_weak_algorithms_are_not_spoken(serve):
    """Each of them alone finds nothing in common."""
    _running, client = serve()
    for option, value in (
        ("KexAlgorithms", "diffie-hellman-group14-sha1"),
        ("KexAlgorithms", "diffie-hellman-group-exchange-sha256"),
        ("Ciphers", "aes256-cbc"),
        ("MACs", "hmac-sha1"),
        ("HostKeyAlgorithms", "ssh-rsa"),
    ):
        done = client.sftp("ls\n", check=False, **{option: value})
        assert "no matching" in done.stderr.lower() or "Bad" in done.stderr, (option, value, done.stderr)
    for option, value in (("KexAlgorithms", "curve25519-sha256"), ("Ciphers", "aes128-ctr"), ("MACs", "hmac-sha2-256")):
        client.sftp("ls\n", **{option: value})


def test_no_shell_no_command_no_forwarding(serve):
    """Whoever tries is told what the server is for."""
    running, client = serve()
    done = client.ssh(tty=True)
    assert "runs no commands" in done.stdout
    assert "runs no commands" in client.ssh("id").stdout
    done = client.ssh("-W", "127.0.0.1:1")
    assert done.returncode != 0
    assert "Traceback" not in running.errors


def test_the_shell_of_an_operator(serve):
    """Only who is named gets it; what is typed is in the log."""
    running, client = serve("manhole alice")
    done = client.ssh(text="print('six', 2 * 3); server.name\r\x04", tty=True)
    assert "six 6" in done.stdout and "'s'" in done.stdout
    running.wait_said("s: manhole of 'alice': print('six', 2 * 3); server.name")
    running.wait_said("s: manhole of 'alice' closes")
    client.sftp("ls\n")


def test_a_host_key_of_a_file(serve, tmp_path):
    """It is the one that clients see; one that others may read is refused by check."""
    key = tmp_path / "host"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(key)], check=True)
    _running, client = serve(f"host-key {key}")
    client.sftp("ls\n")
    assert (tmp_path / "host.pub").read_text().split()[1] in (tmp_path / "client" / "known").read_text()
    assert os.listdir(tmp_path / "state") == []
    key.chmod(0o644)
    (tmp_path / "a.conf").write_text(SSH.format(folder=tmp_path, more=f"host-key {key}", root=""))
    done = subprocess.run([APPD, "check", str(tmp_path / "a.conf")], capture_output=True, text=True, check=False)
    assert done.returncode == 78 and "chmod o-rwx" in done.stderr


def test_check_finds_what_is_wrong(tmp_path):
    """All at once, with lines."""
    (tmp_path / "a.conf").write_text(
        "<ssh s>\n address 127.0.0.1:0\n auth staf\n read-only on\n host-key none\n</ssh>\n"
        "<ssh t>\n address 127.0.0.1:0\n auth staff\n root none\n realm os:getcwd\n host-key credential:x\n</ssh>\n"
        "<auth staff>\n checker memory:a:b\n</auth>\n"
    )
    done = subprocess.run(
        [APPD, "check", "a.conf"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 78
    told = done.stderr.splitlines()
    assert [re.match(r"a\.conf:(\d+): ", one)[1] for one in told] == ["5", "1", "4", "3", "11", "10"], told


def talk(port):
    """A connection that has read the greeting."""
    made = socket.create_connection(("127.0.0.1", port), timeout=30)
    assert read_to(made, b"\r\n").startswith(b"SSH-2.0-appd\r\n")
    return made


def test_half_logins_garbage_and_long_lines(serve):
    """Each ends by itself, with no traceback, and others go on."""
    running, client = serve("<limits>\n login-timeout 8s\n </limits>")
    port = client.port
    began = time.monotonic()
    silent = [talk(port) for _ in range(3)]
    half = talk(port)
    half.sendall(b"SSH-2.0-x\r\n")
    for data in (b"x" * 5000, b"SSH-2.0-x\r\n" + b"\xff" * 5000, b"SSH-1.0-x\r\n", b"SSH-2.0-x\r\n" + struct.pack(">LB", 12, 4) + b"\x14" + b"x" * 20,
                 b"GET / HTTP/1.1\r\n" * 400):  # fmt: skip
        with talk(port) as one, contextlib.suppress(ConnectionError):
            one.sendall(data)
            while one.recv(65536):
                pass
    client.sftp("ls\n")
    for one in [*silent, half]:
        with one, contextlib.suppress(ConnectionError):
            while one.recv(65536):
                pass
    assert time.monotonic() - began >= 7.5
    assert "Traceback" not in running.errors


def test_a_thousand_connections(serve):
    """That say nothing: whoever logs in is served all the same."""
    _running, client = serve()
    with descriptors(4096), contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(socket.create_connection(("127.0.0.1", client.port), timeout=60))
        client.sftp("ls\n")


def test_open_files_are_bounded(serve, tmp_path):
    """One more is refused, and the connection goes on."""
    (tmp_path / "files" / "f").write_text("x")
    _running, client = serve("open-files 3")
    with raw_sftp(client) as send:
        answers = [send(3, struct.pack(">L", number) + ns(b"/f") + struct.pack(">LL", 1, 0)) for number in range(5)]
        assert [one[0] for one in answers] == [102, 102, 102, 101, 101]
        handle = answers[0][5:]
        assert send(4, struct.pack(">L", 9) + handle)[0] == 101
        assert send(3, struct.pack(">L", 10) + ns(b"/f") + struct.pack(">LL", 1, 0))[0] == 102
        assert send(5, struct.pack(">L", 11) + ns(b"no handle") + struct.pack(">QL", 0, 10))[0] == 101


def test_packets_that_make_no_sense(serve):
    """Too long ones end the connection."""
    running, client = serve()
    with raw_sftp(client) as send, pytest.raises(EOFError):
        send(3, b"", length=10_000_000)
    assert "Traceback" not in running.errors


def ns(data):
    return struct.pack(">L", len(data)) + data


@contextlib.contextmanager
def raw_sftp(client):
    """SFTP by hand, through ssh."""
    line = ["ssh", "-F", "none", *client.options(), "-p", str(client.port), "-s", "alice@127.0.0.1", "sftp"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:

        def send(kind, data, length=None):
            process.stdin.write(struct.pack(">LB", length or len(data) + 1, kind) + data)
            process.stdin.flush()
            head = process.stdout.read(4)
            if len(head) < 4:
                raise EOFError
            return process.stdout.read(struct.unpack(">L", head)[0])

        assert send(1, struct.pack(">L", 3))[0] == 2
        yield send
        process.kill()


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_a_long_transfer_goes_on(start, tmp_path, how):
    """Over a reload and over a stop: it is finished before the old process goes; new clients are served meanwhile."""
    for name in ("files", "state", "keys"):
        (tmp_path / name).mkdir()
    subprocess.run([APPD, "passwd", str(tmp_path / "passwd"), "alice", "--bcrypt"], input="x\n", text=True, check=True)
    size = 10_000_000
    (tmp_path / "files" / "big").write_bytes(os.urandom(size))
    made = Service(
        partial(start, environ={"STATE_DIRECTORY": str(tmp_path / "state")}), tmp_path,
        servers=SSH.format(folder=tmp_path, more="", root=""),
    )  # fmt: skip
    client = Client(tmp_path, made.passed.getsockname()[1])
    line = [
        "sftp",
        "-F",
        "none",
        "-l",
        "8000",
        *client.options(),
        "-P",
        str(client.port),
        "alice@127.0.0.1:big",
        str(tmp_path / "got"),
    ]
    transfer = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (tmp_path / "got").exists() and (tmp_path / "got").stat().st_size > 0, 30)
    [old] = made.workers()
    if how == "reload":
        assert made.reload().returncode == 0
        client.sftp("ls\n")
        assert made.workers() != {old}
    else:
        made.running.process.send_signal(signal.SIGTERM)
    assert (tmp_path / "got").stat().st_size < size, "the transfer was over before it was to be tried"
    assert transfer.wait(90) == 0, transfer.stderr.read()
    transfer.stderr.close()
    assert digest(tmp_path / "got") == digest(tmp_path / "files" / "big")
    if how == "restart":
        assert made.running.wait_exit(40) == 0
    assert "are cut" not in made.running.errors
