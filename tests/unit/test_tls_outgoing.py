"""Outgoing TLS: whom it believes, by Python's ssl and on Twisted's transports, in memory."""

from __future__ import annotations

import contextlib
import os
import ssl

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from support.authority import Authority
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory

from appd.config import load
from appd.errors import ConfigurationError, Place
from appd.registry import Registry
from appd.sealed import read_sealed
from appd.systemd.notify import Notifier
from appd.tls.connecting import NotTrusted
from appd.tls.keeping import Keeping
from appd.tls.material import read_material
from appd.tls.outgoing import Outgoing, make_outgoing
from appd.tls.policy import Policy, Source
from appd.worker.plan import make_plan

ROOT = Authority("Root")
STRANGER = Authority("Stranger")
HERE = Place("appd.conf", 1)


def outgoing(folder, server_name="", **policy):
    """What trusts Root."""
    ca = ROOT.write(folder / "ca.pem")
    asked = Policy(HERE, (), authorities=(Source("ca", str(ca), HERE),), client_verify="required")._replace(**policy)
    told: list[str] = []
    now = [0.0]
    made = Outgoing(asked, read_material(asked)[0], server_name, lambda: now[0], told.append)
    made.told, made.now = told, now
    return made


class Server:
    """The other end, in memory."""

    def __init__(self, folder, issued, **settings):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.write(folder / "server.pem"))
        if settings.get("asks"):
            context.load_verify_locations(cadata=ROOT.pem.decode())
            context.verify_mode = ssl.CERT_REQUIRED
        if "alpn" in settings:
            context.set_alpn_protocols(settings["alpn"])
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def step(self, data):
        """Takes bytes, gives bytes."""
        self.incoming.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()


def by_ssl(made, server, host):
    """A handshake by Python's ssl."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = made.context("h2", "http/1.1").wrap_bio(incoming, outgoing, server_hostname=made.name(host))
    for _round in range(4):
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            incoming.write(server.step(outgoing.read()))
        else:
            server.step(outgoing.read())
            return client
    raise AssertionError("no end of the handshake")


class Kept(Protocol):
    lost = None

    def connectionLost(self, reason=None):
        self.lost = reason


def by_twisted(made, server, host):
    """A handshake on Twisted's transports; raises what the connection ended with."""
    inner = Factory.forProtocol(Kept)
    protocol = TLSMemoryBIOFactory(made.creator(host), True, inner).buildProtocol(None)
    wire = StringTransport()
    wire.abortConnection = wire.loseConnection
    protocol.makeConnection(wire)
    while data := wire.value():
        wire.clear()
        with contextlib.suppress(ssl.SSLError):  # it is told why it is not believed
            if answer := server.step(data):
                protocol.dataReceived(answer)
    if wire.disconnecting:
        served = protocol.wrappedProtocol
        protocol.connectionLost(None)
        served.lost.raiseException()
    assert protocol._handshakeDone
    return protocol


@pytest.mark.parametrize("shake", [by_ssl, by_twisted])
class TestBoth:
    """The same table for both libraries."""

    def test_a_name(self, shake, tmp_path):
        """The certificate has it, by a wildcard too."""
        shake(outgoing(tmp_path), Server(tmp_path, ROOT.issue("db.example")), "db.example")
        shake(outgoing(tmp_path), Server(tmp_path, ROOT.issue("*.db.example")), "one.db.example")

    def test_an_address(self, shake, tmp_path):
        """An IP address is compared with addresses."""
        shake(outgoing(tmp_path), Server(tmp_path, ROOT.issue("ip:10.0.0.1")), "10.0.0.1")
        with pytest.raises((ssl.SSLCertVerificationError, NotTrusted)):
            shake(outgoing(tmp_path), Server(tmp_path, ROOT.issue("ip:10.0.0.1")), "10.0.0.2")

    def test_the_name_that_is_asked_for(self, shake, tmp_path):
        """`server-name` takes the place of the host."""
        shake(outgoing(tmp_path, "db.example"), Server(tmp_path, ROOT.issue("db.example")), "10.0.0.1")

    @pytest.mark.parametrize(
        ("issued", "reason"),
        [
            (lambda: ROOT.issue("other.example"), "other|not valid for|not one for|mismatch"),
            (lambda: ROOT.issue(common_name="db.example"), "not valid for|not one for|mismatch"),
            (lambda: STRANGER.issue("db.example"), "authority is not known|unable to get local issuer"),
            (lambda: ROOT.issue("db.example", days=-1), "expired"),
        ],
    )
    def test_who_is_not_believed(self, shake, tmp_path, issued, reason):
        """Another name, a common name only, another authority, an expired certificate."""
        with pytest.raises((ssl.SSLCertVerificationError, NotTrusted), match=reason):
            shake(outgoing(tmp_path), Server(tmp_path, issued()), "db.example")

    def test_a_certificate_is_shown(self, shake, tmp_path):
        """To servers that ask; they learn who it is."""
        mine = ROOT.issue("uri:spiffe://me")
        path = mine.write(tmp_path / "mine.pem")
        server = Server(tmp_path, ROOT.issue("db.example"), asks=True)
        shake(outgoing(tmp_path, certificates=(Source("certificate", str(path), HERE),)), server, "db.example")
        assert server.tls.getpeercert(True) == mine.der

    def test_the_roots_of_the_host(self, shake, tmp_path, monkeypatch):
        """Without a `ca` those count, and an authority of our own is none of them."""
        made, unseen = make_outgoing(None)
        assert unseen == []
        with pytest.raises((ssl.SSLCertVerificationError, NotTrusted)):
            shake(made, Server(tmp_path, ROOT.issue("db.example")), "db.example")
        monkeypatch.setenv("SSL_CERT_FILE", str(ROOT.write(tmp_path / "roots.pem")))
        shake(make_outgoing(None)[0], Server(tmp_path, ROOT.issue("db.example")), "db.example")

    def test_files_are_read_anew(self, shake, tmp_path):
        """A renewed authority counts after a moment; a broken file is told and what was read before is used on."""
        made = outgoing(tmp_path)
        server = ROOT.issue("db.example")
        shake(made, Server(tmp_path, server), "db.example")
        (tmp_path / "ca.pem").write_text("nonsense")
        made.now[0] = 10
        shake(made, Server(tmp_path, server), "db.example")
        assert "used on" in made.told[0]
        STRANGER.write(tmp_path / "ca.pem")
        made.now[0] = 20
        with pytest.raises((ssl.SSLCertVerificationError, NotTrusted)):
            shake(made, Server(tmp_path, server), "db.example")


def weak(folder):
    """A certificate that this OpenSSL does not take: its key is too short."""
    path = ROOT.issue("me.example", key=rsa.generate_private_key(65537, 1024)).write(folder / "weak.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with contextlib.suppress(ssl.SSLError):
        context.load_cert_chain(path)
        pytest.skip("this OpenSSL takes a key of 1024 bits")
    return path


def test_what_the_library_refuses_is_told_at_once(tmp_path):
    """By `appd check` and the start, and not when somebody wants to connect."""
    path = weak(tmp_path)
    (tmp_path / "appd.conf").write_text(
        f"<portforward>\n  address 9\n  tls-to db.example:5432\n  <client-tls>\n    certificate {path}\n  </client-tls>\n"
        "</portforward>\n"
    )
    (server,) = make_plan(load(str(tmp_path / "appd.conf")), Registry(), None, {}).servers
    with pytest.raises(ConfigurationError) as caught:
        make_outgoing(server.settings.client_tls)
    assert f"appd.conf:4: <client-tls>: {path}: OpenSSL" in str(caught.value)
    assert str(caught.value).endswith("does not take it: ee key too small")


def test_what_the_library_refuses_is_not_taken(tmp_path):
    """What was read before is used on, and that is told once as long as it is the same."""
    mine = ROOT.issue("me.example").write(tmp_path / "me.pem")
    made = outgoing(tmp_path, certificates=(Source("certificate", str(mine), HERE),))
    before = made.context()
    weak(tmp_path).replace(mine)
    for now in range(10, 60, 10):
        made.now[0] = now
        assert made.context() is before
    assert len(made.told) == 1
    assert "does not take it: ee key too small; what was read before is used on" in made.told[0]
    mine.write_bytes(b"nonsense")
    for now in range(60, 90, 10):
        made.now[0] = now
        made.context()
    assert len(made.told) == 2
    ROOT.issue("me.example").write(mine)
    made.now[0] = 100
    assert made.context() is not before
    assert len(made.told) == 2


def test_protocols_are_offered(tmp_path):
    """ALPN."""
    server = Server(tmp_path, ROOT.issue("db.example"), alpn=["http/1.1"])
    assert by_ssl(outgoing(tmp_path), server, "db.example").selected_alpn_protocol() == "http/1.1"


def test_an_address_is_no_server_name(tmp_path):
    """RFC 6066, 3: no SNI for addresses, which some servers answer with an alert."""
    asked: list[str | None] = []
    server = Server(tmp_path, ROOT.issue("ip:10.0.0.1", "db.example"))
    server.tls.context.sni_callback = lambda _tls, name, _context: asked.append(name)
    by_twisted(outgoing(tmp_path), server, "10.0.0.1")
    server = Server(tmp_path, ROOT.issue("ip:10.0.0.1", "db.example"))
    server.tls.context.sni_callback = lambda _tls, name, _context: asked.append(name)
    by_twisted(outgoing(tmp_path), server, "db.example")
    assert asked == [None, "db.example"]


@pytest.mark.parametrize("what", ["ca", "certificate"])
def test_a_worker_that_begins_with_bad_files(tmp_path, what):
    """It uses what the one before it did, says so once, and takes what is good after it."""
    ROOT.write(tmp_path / "ca.pem")
    ROOT.issue("me.example").write(tmp_path / "me.pem")
    (tmp_path / "appd.conf").write_text(
        f"<portforward>\n  address 9\n  tls-to db.example:5432\n  <client-tls>\n    ca {tmp_path}/ca.pem\n"
        f"    certificate {tmp_path}/me.pem\n  </client-tls>\n</portforward>\n"
    )
    (server,) = make_plan(load(str(tmp_path / "appd.conf")), Registry(), None, {}).servers
    section, sent, calls, logged = server.settings.client_tls, [], [], []
    notifier = Notifier({"NOTIFY_SOCKET": "@x"}, lambda _message, fds: sent.append(read_sealed(os.dup(*fds))))
    first = Keeping((), True, notifier)
    before = make_outgoing(section, keeping=first)[0]
    first.begin(calls.append)
    calls.pop()()
    if what == "ca":
        (tmp_path / "ca.pem").unlink()
    else:
        weak(tmp_path).replace(tmp_path / "me.pem")
    with pytest.raises(ConfigurationError):
        make_outgoing(section)

    def observe(event):
        if event.get("log_namespace") == "appd.tls":
            logged.append(event["line"])

    globalLogPublisher.addObserver(observe)
    try:
        second = Keeping(sent, True, notifier)
        made = make_outgoing(section, keeping=second)[0]
        second.begin(calls.append)
        calls.pop()()
        assert len(sent) == 1
        assert made.material.trust == before.material.trust
        assert made.material.pairs[0].chain == before.material.pairs[0].chain
        for _look in range(3):
            made._looked = -1e9
            made.context()
        (line,) = logged
        assert line.endswith("; what was read before is used on") and "pem: " in line
    finally:
        globalLogPublisher.removeObserver(observe)
    ROOT.write(tmp_path / "ca.pem")
    ROOT.issue("me.example").write(tmp_path / "me.pem")
    made._looked = -1e9
    made.context()
    assert made.material.pairs[0].chain != before.material.pairs[0].chain
    calls.pop()()
    assert len(sent) == 2
