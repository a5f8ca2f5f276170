"""`<ftp>` with curl, lftp and ftplib as clients: files, TLS, data connections, what is refused, reloads."""

from __future__ import annotations

import contextlib
import ftplib
import hashlib
import io
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time

import pytest
from support.authority import Authority
from support.running import APPD, descriptors, listening, read_to, spare_port, wait_until
from support.service import Service

FTP = """<auth staff>
  passwords {folder}/passwd
  failure-delay 200ms
</auth>
<ftp f>
  address systemd:name=h
  {where}
  auth staff
  root {folder}/files
  <tls>
    certificate {folder}/server.pem
  </tls>
  {more}
</ftp>
"""
PLAIN = "<auth staff>\n passwords {folder}/passwd\n</auth>\n<ftp f>\n address systemd:name=h\n auth staff\n root {folder}/files\n login-without-tls on\n {more}\n</ftp>\n"


@pytest.fixture
def folder(tmp_path):
    """Users, files and certificates."""
    authority = Authority("ca")
    (tmp_path / "server.pem").write_bytes(authority.issue("localhost", "ip:127.0.0.1").pem)
    (tmp_path / "server.pem").chmod(0o600)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "files" / "d").mkdir(parents=True)
    (tmp_path / "files" / "f").write_text("content")
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "files" / "out").symlink_to("../secret")
    subprocess.run(
        [APPD, "passwd", str(tmp_path / "passwd"), "alice", "--bcrypt"], input="secret\n", text=True, check=True
    )
    return tmp_path


@pytest.fixture
def serve(start, folder):
    """Starts a server on inherited sockets; gives it, and the ports of control, implicit TLS and data."""

    def begin(text=FTP, more="", data=2):
        sockets = [("h", listening()), ("s", listening())] + [("data", listening()) for _ in range(data)]
        where = "tls-address systemd:name=s" + ("\n  passive-address systemd:name=data" if data else "")
        passed = sockets if text is FTP else sockets[:1]
        running = start(text.format(folder=folder, more=more, where=where), *passed).wait_ready()
        return running, *(one.getsockname()[1] for _name, one in sockets)

    return begin


def context(folder):
    return ssl.create_default_context(cafile=folder / "ca.pem")


@contextlib.contextmanager
def logged_in(folder, port, user="alice", password="secret", tls=True):
    client = ftplib.FTP_TLS(context=context(folder), timeout=30) if tls else ftplib.FTP(timeout=30)
    with client:
        client.connect("127.0.0.1", port)
        client.login(user, password)
        if tls:
            client.prot_p()
        yield client


def get(client, path, rest=None):
    out = io.BytesIO()
    client.retrbinary(f"RETR {path}", out.write, rest=rest)
    return out.getvalue()


def test_files_go_both_ways_over_tls(serve, folder):
    """On inherited sockets for data; with offsets, lists, folders, renames."""
    _running, port, _tls, *data = serve()
    big = os.urandom(5_000_001)
    with logged_in(folder, port) as client:
        client.storbinary("STOR big", io.BytesIO(big))
        assert (folder / "files" / "big").read_bytes() == get(client, "big") == big
        assert get(client, "big", rest=5_000_000) == big[-1:]
        client.storbinary("STOR big", io.BytesIO(b"xyz"), rest=10)
        assert (folder / "files" / "big").read_bytes() == big[:10] + b"xyz" + big[13:]
        client.storbinary("APPE f", io.BytesIO(b" and more"))
        assert get(client, "f") == b"content and more"
        assert client.size("f") == 16
        client.mkd("new")
        client.rename("f", "new/g\u00e9")
        client.cwd("new")
        assert client.pwd() == "/new"
        assert client.nlst() == ["g\u00e9"]
        assert [(name, facts["type"], facts["size"]) for name, facts in client.mlsd()] == [("g\u00e9", "file", "16")]
        lines = []
        client.retrlines("LIST -la", lines.append)
        assert re.match(r"-rw\S+ +1 \d+ +\d+ +16 \w{3} \d\d .* g\u00e9$", lines[0])
        told = client.sendcmd("MLST g\u00e9").splitlines()
        assert re.match(r" type=file;size=16;modify=\d{14}; /new/g\u00e9$", told[1]) and told[-1].startswith("250 ")
        client.delete("g\u00e9")
        client.cwd("..")
        client.rmd("new")
        for command in ("PASV", "EPSV"):
            answer = client.sendcmd(command)
            told = (
                int(re.search(r"(\d+),(\d+)\)", answer)[1]) * 256 + int(re.search(r"(\d+),(\d+)\)", answer)[2])
                if command == "PASV"
                else int(re.search(r"\|(\d+)\|", answer)[1])
            )
            assert told in data


def test_what_old_clients_say(serve, folder):
    """Renames that are not finished, quotes, patterns, forms of a type, names with line ends."""
    running, port, *_ = serve()
    (folder / "files" / "two\nlines").touch()
    (folder / "files" / "g.txt").touch()
    with logged_in(folder, port) as client:
        assert client.sendcmd("RNFR f").startswith("350")
        assert client.sendcmd("NOOP").startswith("200")
        for command, code in (("RNTO g", "503"), ("TYPE Q", "504"), ("RNFR", "500")):
            with pytest.raises(ftplib.error_perm, match=f"^{code}"):
                client.sendcmd(command)
        assert (folder / "files" / "f").exists()
        for command, code in (
            ("TYPE A N", "200"),
            ("TYPE L 8", "200"),
            ("TYPE I", "200"),
            ("ALLO 10", "202"),
            ("CDUP", "250"),
        ):
            assert client.sendcmd(command).startswith(code)
        assert client.mkd('a "b"') == '/a "b"'
        client.cwd('a "b"')
        assert client.pwd() == '/a "b"'
        assert client.nlst("../*.txt") == ["g.txt"]
        assert sorted(client.nlst("/[fg]*")) == ["f", "g.txt"]
        with pytest.raises(ftplib.error_perm, match=r"^550"):
            client.nlst("*.none/x")
        assert client.nlst("*") == []
        client.cwd("/")
        assert sorted(client.nlst()) == sorted(["f", "g.txt", "d", "out", 'a "b"', "two?lines"])
        assert len(list(client.mlsd())) == 6
    assert "Traceback" not in running.errors


@pytest.mark.parametrize("tls", [True, False], ids=["TLS", "plain"])
def test_abort(serve, folder, tls):
    """It ends a transfer that nobody takes any more, also as urgent data and behind what Telnet has; the session goes on."""
    running, port, *_ = serve(FTP, "login-without-tls on")
    (folder / "files" / "long").write_bytes(bytes(50_000_000))
    with logged_in(folder, port, tls=tls) as client:
        assert client.sendcmd("ABOR").startswith("226")
        data = client.transfercmd("RETR long")
        with data:
            if tls:
                client.sock.sendall(b"ABOR\r\n")
            else:
                client.sock.sendall(b"\xff\xf4\xff", socket.MSG_OOB)
                client.sock.sendall(b"\xf2ABOR\r\n", socket.MSG_OOB)
            answers = {client.getmultiline()[:3], client.getmultiline()[:3]}
        assert answers == {"426", "226"}
        assert get(client, "f") == b"content"
        client.sendcmd("PASV")
        client.putcmd("RETR f")
        client.putcmd("ABOR")
        assert [client.getmultiline()[:3] for _ in range(3)] == ["150", "425", "226"]
        assert get(client, "f") == b"content"
    assert "Traceback" not in running.errors


def test_nothing_leads_out(serve, folder):
    """Neither paths nor links."""
    _running, port, *_ = serve()
    with logged_in(folder, port) as client:
        for path in ("../secret", "/../../secret", "out", "d/../../secret", "/etc/passwd"):
            with pytest.raises(ftplib.error_perm):
                get(client, path)
            for command in ("SIZE", "DELE", "RMD", "CWD"):
                if not (command == "DELE" and path == "out"):
                    with pytest.raises(ftplib.error_perm):
                        client.sendcmd(f"{command} {path}")
        with contextlib.suppress(ftplib.Error):
            client.storbinary("STOR out", io.BytesIO(b"changed"))
    assert (folder / "secret").read_text() == "outside"


def test_passwords_come_over_tls_only(serve, folder):
    """Wrong ones tell nothing, are slowed, and end the connection at last."""
    running, port, *_ = serve()
    with pytest.raises(ftplib.error_perm, match="AUTH TLS"), logged_in(folder, port, tls=False):
        pass
    answers = set()
    for user in ("alice", "nobody", "../alice"):
        with pytest.raises(ftplib.error_perm) as refused, logged_in(folder, port, user, "wrong"):
            pass
        answers.add(str(refused.value))
    assert len(answers) == 1
    running.wait_said("f: login failed: password of 'nobody' from 127.0.0.1")
    with pytest.raises(ftplib.error_perm), logged_in(folder, port, "anonymous", "x"):
        pass
    assert "Traceback" not in running.errors and "wrong" not in running.errors


def test_anonymous_reads(start, folder):
    """And changes nothing."""
    listener = listening()
    start(
        f"<ftp f>\n address systemd:name=h\n anonymous on\n root {folder}/files\n</ftp>\n", ("h", listener)
    ).wait_ready()
    with logged_in(folder, listener.getsockname()[1], "anonymous", "me@", tls=False) as client:
        assert get(client, "f") == b"content"
        for command in ("DELE f", "MKD x", "RMD d"):
            with pytest.raises(ftplib.error_perm):
                client.sendcmd(command)
        with pytest.raises(ftplib.error_perm):
            client.storbinary("STOR f", io.BytesIO(b"x"))
    assert (folder / "files" / "f").read_text() == "content"


def test_read_only_and_ports_of_ones_own(serve, folder):
    """passive-ports are bound when they are needed, and in their range; that is no news for the log."""
    first = spare_port()
    running, port, *_ = serve(PLAIN, f"read-only on\n passive-ports {first}-{first}")
    with logged_in(folder, port, tls=False) as client:
        for _ in range(3):
            assert get(client, "f") == b"content"
        assert f"|||{first}|" in client.sendcmd("EPSV")
        with pytest.raises(ftplib.error_perm):
            client.storbinary("STOR f", io.BytesIO(b"x"))
    assert "ready: " in running.errors
    assert not re.search(f"{first}|DataPort", running.errors)


def test_no_active_mode_and_no_stolen_transfer(serve, folder):
    """The server connects nowhere; a connection of another address gets nothing; a second one neither."""
    running, port, _tls, *data = serve(data=1)
    with logged_in(folder, port) as client:
        for command in ("PORT 127,0,0,1,0,25", "EPRT |1|127.0.0.1|25|"):
            with pytest.raises(ftplib.error_perm, match="502"):
                client.sendcmd(command)
        client.prot_c()
        client.sendcmd("EPSV")
        with socket.socket() as thief:
            thief.bind(("127.0.0.2", 0))
            thief.connect(("127.0.0.1", data[0]))
            thief.settimeout(20)
            with contextlib.suppress(ConnectionError):
                assert thief.recv(10) == b""
        with socket.create_connection(("127.0.0.1", data[0]), timeout=30) as mine:
            assert client.sendcmd("RETR f").startswith("150")
            # To its end: who leaves before it has had nothing that is complete.
            assert mine.makefile("rb").read() == b"content"
        assert client.voidresp().startswith("226")
        client.sendcmd("EPSV")
        with logged_in(folder, port) as other, pytest.raises(ftplib.error_temp, match="425"):
            other.sendcmd("EPSV")
        with logged_in(folder, port) as other, pytest.raises(ftplib.error_perm, match="503"):
            other.sendcmd("RETR f")
    assert "Traceback" not in running.errors


def test_who_leaves_before_the_transfer_holds_no_file(serve, folder):
    """It is closed when the client has gone, not when the time for the data connection is over."""
    running, port, *_ = serve(PLAIN)

    def held():
        links = (f"/proc/{one}/fd" for one in processes(running.process.pid))
        return [fd for one in links for fd in os.listdir(one) if _reads(f"{one}/{fd}") == str(folder / "files" / "f")]

    with logged_in(folder, port, tls=False) as client:
        client.sendcmd("EPSV")
        assert client.sendcmd("RETR f").startswith("150")
        assert held()
        client.sock.close()
        client.close()
    wait_until(lambda: not held(), 30)
    assert "Traceback" not in running.errors


def processes(pid):
    """A process and those that it has begun."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [pid, *map(int, children.stdout.split())]


def _reads(link):
    with contextlib.suppress(OSError):
        return os.readlink(link)


def test_what_comes_behind_auth_tls_is_forgotten(serve):
    """Whoever sits in between might have put it there."""
    _running, port, *_ = serve()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as made:
        read_to(made, b"\r\n")
        made.sendall(b"AUTH TLS\r\nNOOP\r\nNOOP\r\n")
        answer = read_to(made, b"\r\n")
        assert answer.startswith(b"234 ") and b"200" not in answer
        loose = ssl.create_default_context()
        loose.check_hostname, loose.verify_mode = False, ssl.CERT_NONE
        with loose.wrap_socket(made) as secure:
            secure.sendall(b"QUIT\r\n")
            assert read_to(secure, b"\r\n").startswith(b"221 ")


def test_garbage_long_lines_half_logins_and_a_thousand_connections(serve, folder):
    """Each ends by itself, and others are served."""
    running, port, *_ = serve(more="<limits>\n login-timeout 8s\n </limits>")
    for data in (
        b"x" * 100_000,
        b"\xff\0\r\n" * 10,
        b"PASS\r\nPASS x\r\nRETR f\r\nPASV\r\nRNTO x\r\nUSER\r\n",
        b"PBSZ 0\r\nPROT P\r\nAUTH\r\nFEAT\r\nOPTS\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as made, contextlib.suppress(ConnectionError):
            made.sendall(data + b"\r\nQUIT\r\n")
            while made.recv(65536):
                pass
    with descriptors(4096), contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(1000)]
        with logged_in(folder, port) as client:
            began = time.monotonic()
            assert get(client, "f") == b"content"
            for one in (silent[0], silent[-1]):
                with contextlib.suppress(ConnectionError):
                    while one.recv(1000):
                        pass
            wait_until(lambda: time.monotonic() - began > 8.5, 30)
            assert get(client, "f") == b"content"
    assert "Traceback" not in running.errors


def test_curl(serve, folder):
    """Explicit and implicit TLS, up, down and lists."""
    _running, port, tls, *_ = serve()
    (folder / "up").write_bytes(os.urandom(1_000_000))
    for url, more in (
        (f"ftp://127.0.0.1:{port}", ["--ssl-reqd"]),
        (f"ftps://127.0.0.1:{tls}", []),
        (f"ftp://127.0.0.1:{port}", ["--ssl-reqd", "--disable-epsv"]),
    ):
        command = ["curl", "-sS", "--cacert", str(folder / "ca.pem"), "--user", "alice:secret", *more]
        done = subprocess.run(
            [*command, "-T", str(folder / "up"), f"{url}/d/up"], capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        done = subprocess.run([*command, f"{url}/d/up"], capture_output=True, timeout=60, check=False)
        assert done.stdout == (folder / "up").read_bytes(), done.stderr
        done = subprocess.run([*command, f"{url}/d/"], capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.rstrip().endswith(" up"), done.stderr


@pytest.mark.skipif(shutil.which("lftp") is None, reason="lftp is not here")
def test_lftp(serve, folder):
    """Mirrors a folder there and back, several transfers at a time."""
    _running, port, *_ = serve()
    for number in range(6):
        (folder / "up" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        (folder / "up" / str(number % 2) / f"{number}").write_bytes(os.urandom(50_000))
    commands = (
        f"set ssl:ca-file {folder}/ca.pem; set ftp:ssl-force yes; set net:max-retries 3; set net:reconnect-interval-base 1; "
        f"open -u alice,secret 127.0.0.1:{port}; mirror -R -P2 {folder}/up up; mirror -P2 up {folder}/down; ls; quit"
    )
    done = subprocess.run(["lftp", "-c", commands], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    assert tree(folder / "down") == tree(folder / "up") and len(tree(folder / "up")) == 6


def tree(folder):
    return {
        str(one.relative_to(folder)): hashlib.sha256(one.read_bytes()).hexdigest()
        for one in folder.rglob("*")
        if one.is_file()
    }


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_a_long_transfer_goes_on(start, folder, how):
    """Over a reload and over a stop; then the session is told that it is over."""
    content = os.urandom(20_000_000)
    (folder / "files" / "big").write_bytes(content)
    made = Service(start, folder, servers=PLAIN.format(folder=folder, more=""))
    port = made.passed.getsockname()[1]
    with logged_in(folder, port, tls=False) as client:
        with client.transfercmd("RETR big") as data:
            received = data.recv(1000)
            if how == "reload":
                assert made.reload().returncode == 0
                with logged_in(folder, port, tls=False) as new:
                    assert get(new, "f") == b"content"
            else:
                made.running.process.send_signal(signal.SIGTERM)
                time.sleep(0.5)
            while block := data.recv(65536):
                received += block
        assert received == content
        assert client.voidresp().startswith("226")
        with pytest.raises(ftplib.error_temp, match="421"):
            client.getresp()
    if how == "restart":
        assert made.running.wait_exit(40) == 0
    assert "are cut" not in made.running.errors


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_a_long_upload_goes_on(start, folder, how):
    """What comes after a reload, or a stop, has begun is taken too, and all of it is there when the client is told so."""
    content = os.urandom(4_000_000)
    made = Service(start, folder, servers=PLAIN.format(folder=folder, more=""))
    with logged_in(folder, made.passed.getsockname()[1], tls=False) as client:
        with client.transfercmd("STOR big") as data:
            data.sendall(content[:2_000_000])
            if how == "reload":
                assert made.reload().returncode == 0
            else:
                made.running.process.send_signal(signal.SIGTERM)
                wait_until(lambda: any("STOPPING" in one for one in made.running.manager.read_all()))
            data.sendall(content[2_000_000:])
        assert client.voidresp().startswith("226")
        assert (folder / "files" / "big").read_bytes() == content
        with pytest.raises(ftplib.error_temp, match="421"):
            client.getresp()
    if how == "restart":
        assert made.running.wait_exit(40) == 0
    assert "are cut" not in made.running.errors


def test_check_finds_what_is_wrong(tmp_path):
    """All at once, with lines."""
    (tmp_path / "a.conf").write_text(
        "<ftp f>\n address 127.0.0.1:0\n root none\n</ftp>\n"
        "<ftp g>\n address 127.0.0.1:0\n root .\n auth staf\n processes all\n passive-address 127.0.0.2:0\n passive-ports 1-2\n</ftp>\n"
    )
    done = subprocess.run([APPD, "check", "a.conf"], capture_output=True, text=True, check=False, cwd=tmp_path)
    told = [re.match(r"a\.conf:(\d+): ", one)[1] for one in done.stderr.splitlines()]
    assert done.returncode == 78 and told == ["1", "3", "8", "9", "11", "8"], done.stderr
