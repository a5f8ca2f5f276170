"""`<smtp>` with smtplib, swaks and curl as clients: submission, LMTP, what is refused, reloads."""

from __future__ import annotations

import contextlib
import mailbox
import os
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import time
from functools import partial

import pytest
from support.authority import Authority
from support.running import APPD, descriptors, listening, read_to, wait_until
from support.service import Service

AUTH = "<auth staff>\n passwords {folder}/passwd\n failure-delay 200ms\n</auth>\n"
TLS = "<tls>\n certificate {folder}/server.pem\n </tls>"
SUBMISSION = (
    AUTH
    + "<smtp s>\n address systemd:name=h\n auth staff\n domains example.org\n maildir {folder}/mail/%u\n "
    + TLS
    + "\n {more}\n</smtp>\n"
)
INCOMING = "<smtp s>\n address systemd:name=h\n domains example.org\n domains example.net\n maildir {folder}/mail/%d/%u\n {more}\n</smtp>\n"
LMTP = "<smtp s>\n address systemd:name=h\n protocol lmtp\n domains example.org\n maildir {folder}/mail/%u\n {more}\n</smtp>\n"
OWN = (
    AUTH
    + "<smtp s>\n address systemd:name=h\n auth staff\n login optional\n domains example.org\n delivery own:delivery\n "
    + TLS
    + "\n</smtp>\n"
)

DELIVERY = """
import os
from twisted.internet import defer, reactor
from twisted.mail.smtp import IMessage, IMessageDelivery
from zope.interface import implementer

@implementer(IMessage)
class Message:
    def __init__(self, user, to):
        self.user, self.to, self.lines = user, to, []
    def lineReceived(self, line):
        self.lines.append(line)
    def eomReceived(self):
        if self.to.startswith("fail"):
            raise RuntimeError("no room")
        with open(os.path.join(os.path.dirname(__file__), "sent"), "a") as file:
            file.write(f"{self.user} {self.to} {len(self.lines)}\\n")
        return defer.succeed(None)
    def connectionLost(self):
        pass

@implementer(IMessageDelivery)
class Delivery:
    def __init__(self, user):
        self.user = user
    def receivedHeader(self, helo, origin, recipients):
        return b"Received: by own"
    def validateFrom(self, helo, origin):
        return origin
    def validateTo(self, user):
        later = defer.Deferred()
        reactor.callLater(0.05, later.callback, lambda: Message(self.user, str(user.dest)))
        return later

delivery = Delivery
"""
MESSAGE = "Subject: hello\r\n\r\n.dot\r\nbody\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority("ca")
    return authority, folder


@pytest.fixture
def serve(start, tmp_path, certificate):
    """Starts a server on a text; gives it and its address."""
    authority, _folder = certificate
    (tmp_path / "server.pem").write_bytes(authority.issue("localhost", "ip:127.0.0.1").pem)
    (tmp_path / "server.pem").chmod(0o600)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "own.py").write_text(DELIVERY)
    subprocess.run(
        [APPD, "passwd", str(tmp_path / "passwd"), "alice", "--bcrypt"], input="secret\n", text=True, check=True
    )
    for user in ("mail/alice", "mail/bob", "mail/example.org/alice", "mail/example.net/alice"):
        (tmp_path / user).mkdir(parents=True)

    def begin(text, more="", before="", **options):
        listener = options.pop("listener", None) or listening()
        running = start(
            f"python-path {tmp_path}\n{before}{text.format(folder=tmp_path, more=more)}", ("h", listener), **options
        ).wait_ready()
        return running, listener.getsockname()

    return begin


def connect(address, tmp_path=None, tls=False, login=None, kind=smtplib.SMTP):
    made = kind(address[0], address[1], local_hostname="client", timeout=30)
    if tls:
        made.starttls(context=ssl.create_default_context(cafile=tmp_path / "ca.pem"))
    if login:
        made.login(*login)
    return made


def letters(path):
    return [one.as_bytes() for one in mailbox.Maildir(path)] if (path / "new").exists() else []


def test_submission(serve, tmp_path):
    """Over STARTTLS and a login; the message is in the maildir when the client is told so."""
    _running, address = serve(SUBMISSION)
    with connect(address, tmp_path, tls=True, login=("alice", "secret")) as client:
        assert client.sendmail("alice@example.org", ["alice@example.org", "bob+tag@example.org"], MESSAGE) == {}
        [letter] = letters(tmp_path / "mail/alice")
        assert letter.startswith(
            b"Return-Path: <alice@example.org>\nDelivered-To: alice@example.org\nReceived: from client ([127.0.0.1])"
        )
        assert b"with ESMTPSA" in letter and letter.endswith(b"\n\n.dot\nbody\n")
        assert len(letters(tmp_path / "mail/bob")) == 1
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            client.sendmail("alice@example.org", ["nobody@example.org"], MESSAGE)
        assert refused.value.recipients["nobody@example.org"][0] == 550


@pytest.mark.parametrize("to", ["a@elsewhere.org", "a%elsewhere.org@example.org", '"a@elsewhere.org"@example.org',
                                "elsewhere.org!a@example.org", "../alice@example.org", ".@example.org", "a@[127.0.0.1]", "a", "@example.org:a@elsewhere.org"])  # fmt: skip
def test_it_is_no_open_relay(serve, tmp_path, to):
    """Neither for who has not logged in, nor by names that mean more than they say; a maildir relays for nobody."""
    _running, address = serve(SUBMISSION)
    with connect(address) as client:
        client.ehlo()
        assert client.docmd("MAIL", "FROM:<a@example.org>")[0] == 530
        assert client.docmd("RCPT", f"TO:<{to}>")[0] == 503
    with connect(address, tmp_path, tls=True, login=("alice", "secret")) as client:
        assert client.mail("alice@example.org")[0] == 250
        assert client.docmd("RCPT", f"TO:<{to}>")[0] in (550, 501, 553)
    _running, address = serve(INCOMING)
    with connect(address) as client:
        client.ehlo()
        assert client.mail("a@elsewhere.org")[0] == 250
        assert client.docmd("RCPT", f"TO:<{to}>")[0] in (550, 501, 553)
    assert not [one for one in (tmp_path / "mail").rglob("*") if one.is_file()]


def test_incoming(serve, tmp_path):
    """Mail for the domains, from anybody; the null sender and postmaster too; the same name in two domains is two."""
    (tmp_path / "mail/example.org/postmaster").mkdir()
    _running, address = serve(INCOMING)
    with connect(address) as client:
        assert client.sendmail("", ["Alice@Example.NET", "postmaster"], MESSAGE) == {}
        assert not client.has_extn("auth") and not client.has_extn("starttls")
        assert client.docmd("AUTH", "PLAIN AGEAYg==")[0] == 502
    assert len(letters(tmp_path / "mail/example.net/alice")) == 1
    assert letters(tmp_path / "mail/example.org/alice") == []
    assert len(letters(tmp_path / "mail/example.org/postmaster")) == 1


def test_lmtp_answers_for_each_recipient(serve, tmp_path):
    """Also when the message is refused; over a UNIX socket."""
    path = str(tmp_path / "lmtp")
    _running, _address = serve(LMTP, "size-limit 1000", listener=listening(socket.AF_UNIX, path))
    with smtplib.LMTP(path, local_hostname="mx") as client:
        assert client.docmd("EHLO", "x")[0] == 500 and client.docmd("LHLO", "x")[0] == 250
        client.docmd("MAIL", "FROM:<a@elsewhere.org>")
        assert [client.docmd("RCPT", f"TO:<{user}@example.org>")[0] for user in ("alice", "nobody", "bob")] == [
            250,
            550,
            250,
        ]
        assert client.docmd("DATA")[0] == 354
        client.send(MESSAGE.encode() + b".\r\n")
        assert [client.getreply()[0] for _ in range(2)] == [250, 250]
        client.docmd("MAIL", "FROM:<a@elsewhere.org>")
        for user in ("alice", "nobody", "bob"):
            client.docmd("RCPT", f"TO:<{user}@example.org>")
        assert client.docmd("DATA")[0] == 354
        client.send(b"x" * 900 + b"\r\n" + b"y" * 900 + b"\r\n.\r\n")
        assert [client.getreply()[0] for _ in range(2)] == [552, 552]
        assert client.noop()[0] == 250
    assert len(letters(tmp_path / "mail/alice")) == 1


def test_a_delivery_of_ones_own(serve, tmp_path):
    """Knows who has logged in; others send to the domains only; its failures are temporary."""
    running, address = serve(OWN)
    with connect(address) as client:
        assert client.sendmail("a@elsewhere.org", ["x@example.org"], MESSAGE) == {}
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@elsewhere.org", ["x@elsewhere.org"], MESSAGE)
    with connect(address, tmp_path, tls=True, login=("alice", "secret")) as client:
        assert client.sendmail("a@example.org", ["x@elsewhere.org", "y@example.org"], MESSAGE) == {}
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("a@example.org", ["fail@elsewhere.org"], MESSAGE)
        assert refused.value.smtp_code == 451
    assert (tmp_path / "sent").read_text().splitlines() == [
        "None x@example.org 5", "alice x@elsewhere.org 5", "alice y@example.org 5",
    ]  # fmt: skip
    running.wait_said("s: mail cannot be delivered: RuntimeError('no room')")


def test_passwords_come_over_tls_only(serve, tmp_path):
    """AUTH is neither offered nor taken before; wrong ones tell nothing, are slowed and end the connection."""
    running, address = serve(SUBMISSION)
    with connect(address) as client:
        client.ehlo()
        assert not client.has_extn("auth") and client.has_extn("starttls")
        assert client.docmd("AUTH", "PLAIN AGFsaWNlAHNlY3JldA==")[0] == 538
    answers = set()
    for user in ("alice", "nobody"):
        client = connect(address, tmp_path, tls=True)
        with pytest.raises(smtplib.SMTPAuthenticationError) as failed:
            client.login(user, "wrong")
        answers.add((failed.value.smtp_code, failed.value.smtp_error))
        client.close()
    assert len(answers) == 1 and answers.pop()[0] == 535
    running.wait_said("s: login failed: password of 'nobody' from 127.0.0.1")
    with connect(address, tmp_path, tls=True) as client:
        client.ehlo()
        for text in ("", "PLAIN", "NONE", "PLAIN !!!", "PLAIN QQ==", "LOGIN QQ=="):
            code = client.docmd("AUTH", text)[0]
            if code == 334:
                code = client.docmd("*")[0]
            assert code in (501, 504, 535), text
        assert client.noop()[0] == 250
    assert "Traceback" not in running.errors and "wrong" not in running.errors


def talk(address):
    made = socket.create_connection(address, timeout=30)
    file = made.makefile("rb")
    file.readline()
    return made, file


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("MAIL FROM:<a@b.example> SMTPUTF8", 555),
        ("MAIL FROM:<a@b.example> RET=HDRS SIZE=10", 555),
        ("MAIL FROM:<a@b.example> BODY=BINARYMIME", 501),
        ("MAIL FROM:<a@b.example> SIZE=many", 501),
        ("MAIL FROM:<a@b.example> size=99999999999", 552),
        ("MAIL FROM:a@b.example SIZE=99999999999", 552),
        ("MAIL FROM:<a@b.example> SIZE=10 body=8bitmime AUTH=<>", 250),
        ("MAIL FROM:<> ", 250),
    ],
)
def test_parameters(serve, command, code):
    """Those of extensions that are not announced are refused, not passed over: the message would not be what it was."""
    _running, address = serve(INCOMING)
    with connect(address) as client:
        client.ehlo()
        assert client.docmd(command)[0] == code
        if code == 250:
            assert client.docmd("RCPT TO:<alice@example.org> NOTIFY=NEVER")[0] == 555
            assert client.docmd("RCPT TO:<alice@example.org>")[0] == 250


def test_every_answer_has_a_status(serve):
    """Enhanced codes are announced: RFC 2034 wants them in all answers but those to EHLO and HELO."""
    _running, address = serve(INCOMING)
    commands = (
        "MAIL FROM:<a@b.example>", "MAIL FROM:<a@b.example>", "RCPT TO:<alice@example.org>", "RCPT TO:<nobody@example.org>",
        "RCPT TO:nonsense>", "RSET", "RCPT TO:<alice@example.org>", "EXPN x", "NOOP", "VRFY x", "AUTH PLAIN", "STARTTLS",
        "MAIL FROM:<a@b@c>", "nonsense", "QUIT",
    )  # fmt: skip
    with connect(address) as client:
        assert b"\nENHANCEDSTATUSCODES" in b"\n" + client.ehlo()[1]
        assert not re.match(rb"2\.", client.helo()[1])
        for command in commands:
            code, text = client.docmd(command)
            assert re.match(rb"%d\.\d\.\d " % (code // 100), text), (command, code, text)


def test_what_comes_behind_starttls_is_forgotten(serve):
    """Whoever sits in between might have put it there: CVE-2011-0411."""
    _running, address = serve(SUBMISSION)
    made, file = talk(address)
    with made, file:
        made.sendall(b"EHLO x\r\n")
        while file.readline()[3:4] == b"-":
            pass
        made.sendall(b"STARTTLS\r\nNOOP\r\nNOOP\r\n")
        assert file.readline().startswith(b"220 ")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(made) as secure:
            secure.sendall(b"QUIT\r\n")
            assert read_to(secure, b"\r\n").startswith(b"221 ")


@pytest.mark.parametrize("body", [b"a\r\n\n.\n\r\nb", b"a\n.\r\nb", b"a\r\n.\nb", b"a\r.\r\nb", b"a\n\nb"])
def test_bare_line_ends_are_refused(serve, tmp_path, body):
    """And what follows them is text, whatever it looks like: no second message comes of it."""
    _running, address = serve(INCOMING)
    made, file = talk(address)
    inner = b"MAIL FROM:<a@b.c>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nsmuggled\r\n"
    with made, file:
        made.sendall(b"HELO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n")
        assert [file.readline()[:3] for _ in range(4)] == [b"250", b"250", b"250", b"354"]
        made.sendall(body + b"\r\n" + inner + b".\r\nNOOP\r\n")
        assert [file.readline()[:3] for _ in range(2)] == [b"554", b"250"]
    assert letters(tmp_path / "mail/example.org/alice") == []


def test_long_lines_and_messages(serve, tmp_path):
    """Each is refused at its end, and the connection goes on."""
    running, address = serve(INCOMING, "size-limit 100KB")
    made, file = talk(address)
    with made, file:
        made.sendall(b"NOOP " + b"x" * 100_000 + b"\r\nNOOP\r\n" + b"EHLO x\r\n")
        assert [file.readline()[:3] for _ in range(2)] == [b"500", b"250"]
        lines = []
        while not lines or lines[-1][3:4] == b"-":
            lines.append(file.readline())
        assert b"250-SIZE 102400\r\n" in lines
        made.sendall(
            b"MAIL FROM:<a@b.c> SIZE=200000\r\nMAIL FROM:<a@b.c> SIZE=10\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"
        )
        assert [file.readline()[:3] for _ in range(4)] == [b"552", b"250", b"250", b"354"]
        made.sendall(b"x" * 50_000 + b"\r\nRCPT TO:<b>\r\n.\r\n")
        assert file.readline()[:3] == b"500"
        made.sendall(b"MAIL FROM:<a@b.c>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n" + b"x" * 98 + b"\r\n")
        assert [file.readline()[:3] for _ in range(3)] == [b"250", b"250", b"354"]
        made.sendall((b"x" * 98 + b"\r\n") * 2000 + b".\r\n")
        assert file.readline()[:3] == b"552"
        # At once: the server leaves before the last of them, and a later send would be refused.
        made.sendall(b"RUBBISH \xff\0\r\n" * 19)
        codes = [line[:3] for line in file]
        assert codes[-1] == b"421"
    assert letters(tmp_path / "mail/example.org/alice") == []
    assert "Traceback" not in running.errors


def test_half_logins_end_and_a_thousand_connections_do_no_harm(serve, tmp_path):
    """A client that does not log in is cut; others are served."""
    _running, address = serve(SUBMISSION, "<limits>\n login-timeout 8s\n </limits>")
    with descriptors(4096), contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(1000)]
        began = time.monotonic()
        with connect(address, tmp_path, tls=True, login=("alice", "secret")) as client:
            client.sendmail("alice@example.org", ["alice@example.org"], MESSAGE)
            for one in (silent[0], silent[-1]):
                with contextlib.suppress(ConnectionError):
                    while one.recv(1000):
                        pass
            wait_until(lambda: time.monotonic() - began > 8.5, 30)
            assert client.noop()[0] == 250


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not here")
def test_swaks(serve, tmp_path):
    """Over STARTTLS with either mechanism, and over LMTP."""
    _running, address = serve(SUBMISSION)
    for mechanism in ("PLAIN", "LOGIN"):
        command = ["swaks", "--server", f"127.0.0.1:{address[1]}", "--tls", "--auth", mechanism, "--auth-user", "alice", "--auth-password", "secret",
                   "--from", "alice@example.org", "--to", "alice@example.org", "--helo", "x"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout
    assert len(letters(tmp_path / "mail/alice")) == 2
    _running, address = serve(LMTP)
    done = subprocess.run(["swaks", "--server", f"127.0.0.1:{address[1]}", "--protocol", "LMTP", "--from", "a@b.c", "--to", "alice@example.org"],
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert len(letters(tmp_path / "mail/alice")) == 3


def test_curl(serve, tmp_path):
    """By STARTTLS, certificate checked."""
    _running, address = serve(SUBMISSION)
    command = ["curl", "-sS", "--ssl-reqd", "--cacert", str(tmp_path / "ca.pem"), f"smtp://localhost:{address[1]}/client", "-4", "--user", "alice:secret",
               "--mail-from", "alice@example.org", "--mail-rcpt", "alice@example.org", "-T", "-"]  # fmt: skip
    done = subprocess.run(command, input=MESSAGE, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(letters(tmp_path / "mail/alice")) == 1


def test_tls_from_the_first_byte(serve, tmp_path):
    """Submission of RFC 8314 (port 465): curl, swaks and smtplib; STARTTLS is neither offered nor taken; nobody logs in before."""
    text = SUBMISSION.replace("address systemd:name=h", "tls-address systemd:name=h")
    running, address = serve(text)
    sender = ("--mail-from", "alice@example.org", "--mail-rcpt", "alice@example.org", "-T", "-")
    command = ["curl", "-sS", "--cacert", str(tmp_path / "ca.pem"), "--user", "alice:secret", *sender]
    done = subprocess.run(
        [*command, f"smtps://127.0.0.1:{address[1]}/client"],
        input=MESSAGE, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"with ESMTPSA" in letters(tmp_path / "mail/alice")[0]
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    with smtplib.SMTP_SSL("127.0.0.1", address[1], local_hostname="client", timeout=30, context=context) as client:
        client.ehlo()
        assert client.has_extn("auth") and not client.has_extn("starttls")
        assert client.docmd("STARTTLS")[0] // 100 == 5
        assert client.docmd("MAIL", "FROM:<alice@example.org>")[0] == 530
        client.login("alice", "secret")
        client.sendmail("alice@example.org", ["bob@example.org"], MESSAGE)
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("alice@example.org", ["a@elsewhere.org"], MESSAGE)
    assert len(letters(tmp_path / "mail/bob")) == 1
    # Who speaks plain to it is told nothing.
    with socket.create_connection(address, timeout=30) as made:
        made.sendall(b"EHLO x\r\n")
        with contextlib.suppress(ConnectionError):
            assert not made.recv(100).startswith(b"2")
    assert "Traceback" not in running.errors
    if shutil.which("swaks") is not None:
        command = ["swaks", "--server", f"127.0.0.1:{address[1]}", "--tls-on-connect", "--auth", "PLAIN", "--auth-user", "alice", "--auth-password", "secret",
                   "--from", "alice@example.org", "--to", "alice@example.org", "--helo", "x"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0 and len(letters(tmp_path / "mail/alice")) == 2, done.stdout


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_a_message_on_its_way_arrives(start, tmp_path, how):
    """Over a reload and over a stop; afterwards the connection is told that it is over."""
    (tmp_path / "mail/example.org/alice").mkdir(parents=True)
    made = Service(partial(start), tmp_path, servers=INCOMING.format(folder=tmp_path, more=""))
    connection, file = talk(made.passed.getsockname())
    with connection, file:
        connection.sendall(b"HELO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nbegun\r\n")
        assert [file.readline()[:3] for _ in range(4)] == [b"250", b"250", b"250", b"354"]
        if how == "reload":
            assert made.reload().returncode == 0
            with connect(made.passed.getsockname()) as client:
                assert client.noop()[0] == 250
        else:
            made.running.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
        connection.sendall(b"done\r\n.\r\n")
        assert file.readline()[:3] == b"250"
        assert file.readline()[:3] == b"421"
        assert file.readline() == b""
    [letter] = letters(tmp_path / "mail/example.org/alice")
    assert letter.endswith(b"begun\ndone\n")
    if how == "restart":
        assert made.running.wait_exit(40) == 0


def test_check_finds_what_is_wrong(tmp_path):
    """All at once, with lines."""
    (tmp_path / "a.conf").write_text(
        "<smtp s>\n address 127.0.0.1:0\n maildir none/x\n login optional\n domains a..b\n</smtp>\n"
        "<smtp t>\n address 127.0.0.1:0\n auth staf\n maildir x\n delivery os:getcwd\n protocol lmtp\n</smtp>\n"
        "<smtp u>\n address 127.0.0.1:0\n domains example.org\n delivery os:name\n</smtp>\n"
    )
    done = subprocess.run([APPD, "check", "a.conf"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 78 and "a.conf:5: domains: 'a..b' is no domain" in done.stderr
    text = (tmp_path / "a.conf").read_text().replace("a..b", "a.b")
    (tmp_path / "a.conf").write_text(text)
    done = subprocess.run([APPD, "check", "a.conf"], capture_output=True, text=True, check=False, cwd=tmp_path)
    told = [re.match(r"a\.conf:(\d+): (.*)", one).groups() for one in done.stderr.splitlines()]
    assert [line for line, _ in told] == ["4", "3", "7", "9", "9", "9", "17"], told
    assert os.listdir(tmp_path) == ["a.conf"]
