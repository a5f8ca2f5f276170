"""One table of expectations for both adapters: handshakes in memory, with Python's ssl as the client."""

from __future__ import annotations

import contextlib
import errno
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from OpenSSL import SSL
from support.authority import Authority, Issued, new_key, write_secret

from appd.errors import Place
from appd.tls import openssl, stdlib
from appd.tls.material import read_material
from appd.tls.policy import CIPHERS, Policy, Source

ROOT = Authority("Root")
STRANGER = Authority("Root")  # of the same name, which is another
SUB = Authority("Sub", by=ROOT)
HERE = Place("appd.conf", 1)
SITES = {
    "default": SUB.issue("default.example", "*.wild.example"),
    "exact": ROOT.issue("exact.wild.example"),
    "rsa": ROOT.issue("rsa.example", kind="rsa"),
}
CLIENTS = {
    "good": ROOT.issue("client.example", "uri:spiffe://prod/ns/app", "email:ops@Example.org", common_name="client"),
    "of sub": SUB.issue("sub.client.example"),
    "stranger": STRANGER.issue("client.example"),
    "expired": ROOT.issue("client.example", days=-1),
    "revoked": ROOT.issue("client.example"),
}


class Refused(Exception):
    """The server did not go on."""


class OpenSslServer:
    """The server's side on pyOpenSSL."""

    def __init__(self, contexts: openssl.Contexts) -> None:
        self._connection = SSL.Connection(contexts.default, None)
        self._connection.set_accept_state()

    def step(self, data: bytes) -> bytes:
        if data:
            self._connection.bio_write(data)
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            raise Refused(self._out(), str(error)) from None
        return self._out()

    def _out(self) -> bytes:
        try:
            return self._connection.bio_read(65536)
        except SSL.WantReadError:
            return b""

    def admitted(self) -> bool:
        return True

    @property
    def protocol(self) -> str:
        return self._connection.get_protocol_version_name()


class StdlibServer:
    """The server's side on Python's ssl."""

    def __init__(self, contexts: stdlib.Contexts) -> None:
        self._contexts = contexts
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = contexts.default.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def step(self, data: bytes) -> bytes:
        self._incoming.write(data)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            raise Refused(self._outgoing.read(), str(error)) from None
        return self._outgoing.read()

    def admitted(self) -> bool:
        return self._contexts.admits(self._object.getpeercert(binary_form=True))

    @property
    def protocol(self) -> str:
        return self._object.version() or ""


ADAPTERS: dict[str, tuple[Any, Any]] = {
    "openssl": (openssl.Contexts, OpenSslServer),
    "stdlib": (stdlib.Contexts, StdlibServer),
}


def client_context(
    tmp_path: Path, certificate: Issued | None = None, most: ssl.TLSVersion | None = None, alpn: list[str] | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ROOT.pem.decode())
    if certificate is not None:
        context.load_cert_chain(certificate.write(tmp_path / "client.pem"))
    if most is not None:
        context.maximum_version = most
        if most < ssl.TLSVersion.TLSv1_2:
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.set_ciphers("ALL:@SECLEVEL=0")
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def handshake(server: Any, context: ssl.SSLContext, name: str | None = "default.example") -> ssl.SSLObject:
    """A handshake in memory.

    Raises:
        Refused: The server, or the client by an alert of the server's.
    """
    context.check_hostname = name is not None
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    for _round in range(8):
        try:
            client.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            done = False
        except ssl.SSLCertVerificationError:
            raise
        except ssl.SSLError as error:
            raise Refused(b"", str(error)) from None
        data = outgoing.read()
        if done and not data:
            break
        try:
            incoming.write(server.step(data))
        except Refused as refused:
            incoming.write(refused.args[0])
            try:
                client.do_handshake()
                client.read(1)
            except ssl.SSLError as error:
                raise Refused(str(error), *refused.args) from None
            raise
    if not server.admitted():
        raise Refused(b"", "not admitted")
    return client


@pytest.fixture(params=ADAPTERS)
def serve(request, tmp_path):
    """Makes the server's side of a connection for a policy."""
    contexts_of, server_of = ADAPTERS[request.param]
    made: dict[Policy, Any] = {}

    def make(*sites: str, **policy: Any) -> Any:
        sources = tuple(
            Source("certificate", str(SITES[one].write(tmp_path / f"{one}.pem")), HERE) for one in sites or ("default",)
        )
        whole = Policy(HERE, sources, **policy)
        if whole not in made:
            material, unseen = read_material(whole)
            assert material is not None
            assert not unseen
            made[whole] = contexts_of(whole, material)
        return server_of(made[whole])

    return make


@pytest.fixture
def client_ca(tmp_path):
    """The authority of clients, and a list of those that it revoked."""
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    (tmp_path / "crl.pem").write_bytes(ROOT.revoke(CLIENTS["revoked"]))
    return {
        "authorities": (Source("client-ca", str(tmp_path / "ca.pem"), HERE),),
        "client_verify": "required",
    }


def test_chain_and_name(serve, tmp_path):
    """The chain that is sent leads to the authority, and the certificate is for the name."""
    client = handshake(serve(), client_context(tmp_path))
    assert dict(client.getpeercert()["subjectAltName"])["DNS"] == "*.wild.example"
    assert client.version() == "TLSv1.3"


ASKED = [
    ("default.example", "default"),
    ("x.wild.example", "default"),
    ("exact.wild.example", "exact"),
    ("EXACT.wild.example", "exact"),
    ("rsa.example", "rsa"),
    ("unknown.example", "default"),
    (None, "default"),
]


@pytest.mark.parametrize(("name", "site"), ASKED)
def test_certificate_by_name(serve, tmp_path, name, site):
    """Exact before wildcard, the first for whoever asks for something else or for nothing."""
    context = client_context(tmp_path)
    context.hostname_checks_common_name = False
    context.check_hostname = False
    server = serve("default", "exact", "rsa")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    for _round in range(3):
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            incoming.write(server.step(outgoing.read()))
    assert client.getpeercert(binary_form=True) == SITES[site].der


@pytest.mark.parametrize("name", ["unknown.example", "a.b.wild.example", None])
def test_unknown_name_is_refused(serve, tmp_path, name):
    """unknown-name refuse: no handshake without a name that a certificate has."""
    server = serve("default", "rsa", unknown_name="refuse")
    with pytest.raises(Refused) as caught:
        handshake(server, client_context(tmp_path), name)
    said = str(caught.value).lower()
    assert "handshake failure" in said or "unrecognized" in said


def test_known_names_are_not_refused(serve, tmp_path):
    """unknown-name refuse, and one certificate only."""
    assert handshake(serve("rsa", unknown_name="refuse"), client_context(tmp_path), "rsa.example")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_clients_are_refused(serve, tmp_path, version):
    """TLS 1.0 and 1.1 are RFC 8996's."""
    with pytest.raises(Refused) as caught:
        handshake(serve("rsa"), client_context(tmp_path, most=version), "rsa.example")
    assert "version" in str(caught.value).lower()


def test_tls_1_2(serve, tmp_path):
    """With a suite of the guideline, forward secret."""
    server = serve()
    client = handshake(server, client_context(tmp_path, most=ssl.TLSVersion.TLSv1_2))
    assert server.protocol == "TLSv1.2"
    assert client.cipher()[0] in CIPHERS.split(":")


def test_minimum_version(serve, tmp_path):
    """minimum-version 1.3."""
    with pytest.raises(Refused):
        handshake(serve(minimum_version="1.3"), client_context(tmp_path, most=ssl.TLSVersion.TLSv1_2))
    assert handshake(serve(minimum_version="1.3"), client_context(tmp_path)).version() == "TLSv1.3"


def test_ciphers(serve, tmp_path):
    """A list of one's own."""
    only = "ECDHE-ECDSA-CHACHA20-POLY1305"
    client = handshake(serve(ciphers=only), client_context(tmp_path, most=ssl.TLSVersion.TLSv1_2))
    assert client.cipher()[0] == only


@pytest.mark.parametrize(
    "wanted", ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"]
)
def test_the_client_chooses_the_suite(serve, tmp_path, wanted):
    """Of those that are good it knows best which its processor is fast with: Mozilla's guideline."""
    context = client_context(tmp_path, most=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(f"{wanted}:ECDHE+AESGCM:ECDHE+CHACHA20")
    assert handshake(serve(), context).cipher()[0] == wanted
    assert handshake(serve("default", "exact"), context, "exact.wild.example").cipher()[0] == wanted


def test_weak_suites_are_not_offered(serve, tmp_path):
    """No CBC, no key exchange by RSA."""
    context = client_context(tmp_path, most=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("AES128-GCM-SHA256:AES128-SHA:ECDHE-RSA-AES128-SHA")
    with pytest.raises(Refused):
        handshake(serve("rsa"), context, "rsa.example")


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), (["smtp"], None), (None, None)],
)
def test_alpn(serve, tmp_path, offered, agreed):
    """The server type's protocols; who offers none of them goes on without."""
    client = handshake(serve(alpn=("http/1.1",)), client_context(tmp_path, alpn=offered))
    assert client.selected_alpn_protocol() == agreed


@pytest.mark.parametrize("most", [None, ssl.TLSVersion.TLSv1_2], ids=["1.3", "1.2"])
class TestClientCertificates:
    """Mutual TLS."""

    def test_good(self, serve, client_ca, tmp_path, most):
        """One of the authority's, and by way of an authority below it."""
        for one in ("good", "of sub"):
            assert handshake(serve(**client_ca), client_context(tmp_path, CLIENTS[one], most))

    @pytest.mark.parametrize("one", ["stranger", "expired", None])
    def test_bad(self, serve, client_ca, tmp_path, most, one):
        """Of another authority, expired, or none at all."""
        with pytest.raises(Refused):
            handshake(serve(**client_ca), client_context(tmp_path, CLIENTS[one] if one else None, most))

    def test_optional(self, serve, client_ca, tmp_path, most):
        """None is fine, a bad one is not."""
        client_ca["client_verify"] = "optional"
        assert handshake(serve(**client_ca), client_context(tmp_path, None, most))
        with pytest.raises(Refused):
            handshake(serve(**client_ca), client_context(tmp_path, CLIENTS["stranger"], most))

    def test_revoked(self, serve, client_ca, tmp_path, most):
        """With a list, who is on it is refused."""
        assert handshake(serve(**client_ca), client_context(tmp_path, CLIENTS["revoked"], most))
        client_ca["revocations"] = (Source("crl", str(tmp_path / "crl.pem"), HERE),)
        assert handshake(serve(**client_ca), client_context(tmp_path, CLIENTS["good"], most))
        with pytest.raises(Refused):
            handshake(serve(**client_ca), client_context(tmp_path, CLIENTS["revoked"], most))

    @pytest.mark.parametrize(
        ("pattern", "fits"),
        [
            (("dns", "client.example"), True),
            (("dns", "other.example"), False),
            (("uri", "spiffe://prod/*"), True),
            (("email", "ops@example.org"), True),
        ],
    )
    def test_names(self, serve, client_ca, tmp_path, most, pattern, fits):
        """client-names: signed is not enough."""
        client_ca["client_names"] = (("dns", "nobody.example"), pattern)
        if fits:
            assert handshake(serve(**client_ca), client_context(tmp_path, CLIENTS["good"], most))
            return
        with pytest.raises(Refused):
            handshake(serve(**client_ca), client_context(tmp_path, CLIENTS["good"], most))

    def test_names_that_cannot_be_read(self, serve, client_ca, tmp_path, most):
        """A certificate that OpenSSL takes, and of which nobody can say whose it is: refused, and nothing is raised."""
        x400 = x509.UnrecognizedExtension(x509.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("3004a3023000"))
        client_ca["client_names"] = (("dns", "client.example"),)
        with pytest.raises(Refused):
            handshake(serve(**client_ca), client_context(tmp_path, ROOT.issue_odd(x400), most))

    def test_also_behind_another_name(self, serve, client_ca, tmp_path, most):
        """The certificate that is chosen by name asks for the client's too."""
        with pytest.raises(Refused):
            handshake(serve("default", "rsa", **client_ca), client_context(tmp_path, None, most), "rsa.example")
        with pytest.raises(Refused):
            handshake(
                serve("default", "rsa", **client_ca), client_context(tmp_path, CLIENTS["stranger"], most), "rsa.example"
            )
        assert handshake(
            serve("default", "rsa", **client_ca), client_context(tmp_path, CLIENTS["good"], most), "rsa.example"
        )


@pytest.mark.parametrize("algorithms", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"])
def test_two_kinds_of_key_for_one_name(tmp_path, algorithms):
    """Clients that know only one kind get that one, each with its own chain."""
    ec, rsa = SUB.issue("two.example"), ROOT.issue("two.example", kind="rsa")
    sources = tuple(
        Source("certificate", str(one.write(tmp_path / f"{number}.pem")), HERE) for number, one in enumerate((ec, rsa))
    )
    policy = Policy(HERE, sources)
    material, _unseen = read_material(policy)
    for contexts_of, server_of in ADAPTERS.values():
        context = client_context(tmp_path, most=ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(algorithms)
        client = handshake(server_of(contexts_of(policy, material)), context, "two.example")
        assert client.getpeercert(binary_form=True) == (ec if "ECDSA" in algorithms else rsa).der


@pytest.mark.parametrize("library", [openssl, stdlib], ids=["openssl", "stdlib"])
def test_unknown_ciphers_are_refused(library):
    """OpenSSL itself passes over what it does not know, as long as it knows something."""
    policy = Policy(HERE, (), ciphers="ECDHE-RSA-AES128-GCM-SHA256:NONSENSE:!aNULL:TLS_AES_128_GCM_SHA256:@STRENGTH")
    said = library.refusals(policy)
    assert [one.split("'")[1] for one in said] == ["NONSENSE", "TLS_AES_128_GCM_SHA256"]
    assert library.refusals(Policy(HERE, ())) == []


@pytest.mark.parametrize("library", [openssl, stdlib], ids=["openssl", "stdlib"])
def test_what_is_left_out_need_not_be_there(library):
    """Lists that people copy leave out what OpenSSL has not had for years."""
    assert library.refusals(Policy(HERE, (), ciphers="HIGH:!aNULL:!MD5:!RC4:!EXPORT:-3DES")) == []


def test_a_key_is_never_in_an_error(tmp_path):
    """A library that refuses a pair says why, not what it was."""
    from appd.tls.certificates import Pair
    from appd.tls.material import Material
    from appd.tls.names import NameIndex

    good, other = SITES["default"], new_key()
    pem = Issued(good.certificate, other, []).key_pem()
    pair = Pair("site.pem", ("a",), 0.0, "EC", good.certificate_pem, pem, "1")
    for library in (openssl, stdlib):
        with pytest.raises(ValueError) as caught:
            library.Contexts(Policy(HERE, ()), Material((pair,), NameIndex([(("a",), "EC")]), b"", (), {}))
        assert "mismatch" in str(caught.value).lower()
        assert pem.split(b"\n")[1].decode() not in str(caught.value)


def test_secrets_are_written_privately(tmp_path):
    """The helper of the tests does what appd demands."""
    assert write_secret(tmp_path / "x", b"").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("library", [openssl, stdlib], ids=["openssl", "stdlib"])
def test_a_weak_certificate_behind_a_good_one_is_refused(tmp_path, library):
    """Its context is made when somebody asks for its name, and then it would be too late to say so."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    weak = ROOT.issue("weak.example", key=rsa.generate_private_key(65537, 1024))
    paths = [SITES["default"].write(tmp_path / "0.pem"), weak.write(tmp_path / "1.pem")]
    alone, policy = (
        Policy(HERE, tuple(Source("certificate", str(one), HERE) for one in those)) for those in (paths[1:], paths)
    )
    try:
        library.Contexts(alone, read_material(alone)[0])
    except ValueError:
        pass
    else:
        pytest.skip("this OpenSSL takes a key of 1024 bits")
    material, _unseen = read_material(policy)
    with pytest.raises(ValueError, match=r"1\.pem: .*does not take it: .*key too small"):
        library.Contexts(policy, material)


@pytest.mark.parametrize("library", [openssl, stdlib], ids=["openssl", "stdlib"])
def test_without_descriptors_a_name_is_refused_for_now(tmp_path, monkeypatch, library):
    """The context for a name is made when it is first asked for. If that fails the next client has more luck."""
    paths = [SITES[one].write(tmp_path / f"{one}.pem") for one in ("default", "exact")]
    policy = Policy(HERE, tuple(Source("certificate", str(one), HERE) for one in paths))
    material, _unseen = read_material(policy)
    contexts_of, server_of = ADAPTERS["openssl" if library is openssl else "stdlib"]
    contexts = contexts_of(policy, material)

    def as_file(_data):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(library, "as_file", as_file)
        for _ in range(2):
            with pytest.raises(Refused):
                handshake(server_of(contexts), client_context(tmp_path), "exact.wild.example")
        assert handshake(server_of(contexts), client_context(tmp_path))
    client = handshake(server_of(contexts), client_context(tmp_path), "exact.wild.example")
    assert client.getpeercert(binary_form=True) == SITES["exact"].der


@pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_session_does_not_outlive_a_revocation(tmp_path, client_ca, adapter, most):
    """A session that is resumed shows no certificate again. The tickets of before a renewal are nobody's."""
    contexts_of, server_of = ADAPTERS[adapter]
    site = SITES["default"].write(tmp_path / "default.pem")
    crl = tmp_path / "crl.pem"
    crl.write_bytes(ROOT.revoke(CLIENTS["revoked"]))
    revocations = (Source("crl", str(crl), HERE),)
    policy = Policy(HERE, (Source("certificate", str(site), HERE),), revocations=revocations, **client_ca)
    material, _unseen = read_material(policy)
    contexts, context = contexts_of(policy, material), client_context(tmp_path, CLIENTS["good"], most)

    def connect(session: ssl.SSLSession | None) -> ssl.SSLObject:
        server, incoming, outgoing = server_of(contexts), ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="default.example", session=session)
        for _round in range(3):
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
            incoming.write(server.step(outgoing.read()))
        with contextlib.suppress(ssl.SSLWantReadError):  # the ticket of TLS 1.3
            client.read(1)
        return client

    first = connect(None)
    assert not first.session_reused
    assert connect(first.session).session_reused
    crl.write_bytes(ROOT.revoke(CLIENTS["good"]))
    material, _unseen = read_material(policy, before=material)
    contexts = contexts_of(policy, material)
    with pytest.raises((Refused, ssl.SSLError)):
        connect(first.session)
