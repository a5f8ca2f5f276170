"""PEM files → pairs, or the one reason why not; names, dates, chains."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from support.authority import Authority, Issued, new_key

from appd.tls.authorities import check_authorities, check_revocations
from appd.tls.certificates import NotYet, read_pair
from appd.tls.names import NameIndex

ROOT = Authority("Root")
SUB = Authority("Sub", by=ROOT)
SITE = SUB.issue("a.example", "*.b.example")
RSA = ROOT.issue("rsa.example", kind="rsa")
OTHER = ROOT.issue("other.example")


def read(*texts: bytes, key: bytes | None = None, passphrase: bytes | None = None, now: float | None = None) -> Any:
    return read_pair("site.pem", texts, key, passphrase, now or time.time())


def test_a_file_with_everything():
    """Certificate, chain and key in one file, in whatever order the key stands."""
    for text in (SITE.pem, SITE.key_pem() + SITE.certificate_pem + SITE.chain_pem):
        pair = read(text)
        assert pair.names == ("a.example", "*.b.example")
        assert pair.chain.count(b"BEGIN CERTIFICATE") == 2
        assert abs(pair.expires - time.time() - 90 * 86400) < 3600


def test_files_apart():
    """The key and the chain may lie apart."""
    assert read(SITE.certificate_pem, SITE.chain_pem, key=SITE.key_pem()).names[0] == "a.example"
    assert read(RSA.certificate_pem, key=RSA.key_pem()).kind == "RSAPrivateKey"


def test_an_encrypted_key_is_kept_open():
    """With its passphrase it is read; adapters get it without."""
    pair = read(SITE.certificate_pem, key=SITE.key_pem(b"secret"), passphrase=b"secret")
    assert b"ENCRYPTED" not in pair.key
    assert serialization.load_pem_private_key(pair.key, None)


def test_a_certificate_without_names_is_called_by_its_common_name():
    """As old tools make them."""
    assert read(ROOT.issue(common_name="Plain.Example").pem).names == ("plain.example",)
    assert read(TWICE.pem).names == ("odd",)  # there are names, which cannot be read


def test_names_that_are_none():
    """Nobody can ask for them, and terminals and logs would be told lies."""
    assert read(ROOT.issue("a.example\nrenewed: b", "\x1b[2J", "c.example").pem).names == ("c.example",)
    nameless = read(ROOT.issue(common_name="a\nb").pem)
    assert nameless.names == ()
    assert nameless.title == "a certificate without a name"


def wrong_primes() -> bytes:
    """An RSA key whose private half is another's."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    mine, theirs = RSA.key.private_numbers(), new_key("rsa").private_numbers()
    numbers = rsa.RSAPrivateNumbers(mine.p, mine.q, theirs.d, mine.dmp1, mine.dmq1, mine.iqmp, mine.public_numbers)
    try:
        key = numbers.private_key(unsafe_skip_rsa_key_validation=True)
    except TypeError:
        pytest.skip("this cryptography makes no such key")
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def with_another(old: bytes, new: bytes, authority: Authority = ROOT) -> bytes:
    """The certificate of an authority with other bytes in it, as PEM."""
    der = authority.certificate.public_bytes(serialization.Encoding.DER)
    assert der.count(old) == 1
    text = base64.encodebytes(der.replace(old, new))
    return b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"


# id-ecPublicKey with a last arc that nobody has; version 8.
UNKNOWN_KEY = with_another(bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0209"))
VERSION = with_another(bytes.fromhex("a003020102"), bytes.fromhex("a003020107"))
BITS = with_another(b"\x0c\x03Sub", b"\x03\x03\x00ub", SUB)
TWICE = ROOT.issue_odd(x509.SubjectAlternativeName([x509.DNSName("a.example")]), twice=True)
EXPIRED = ROOT.issue("old.example", days=-1)
LATER = ROOT.issue("later.example", start=2)
WRONG = {
    "nothing": (lambda: read(b""), "it is empty"),
    "text": (lambda: read(b"hello"), "it is not PEM: no block begins with -----BEGIN"),
    "DER": (lambda: read(SITE.der), "it is DER, not PEM: `openssl x509 -inform der -in FILE` writes PEM"),
    "cut off": (lambda: read(SITE.certificate_pem[:-30]), "it is cut off: a block begins and does not end"),
    "a key that nobody knows": (
        lambda: read(SITE.pem + UNKNOWN_KEY),
        "certificate 3 in it has a key of a kind that is not known",
    ),
    "a version that nobody knows": (lambda: read(SITE.pem + VERSION), "certificate 3 in it is damaged"),
    "a name of bits": (lambda: read(SITE.certificate_pem + BITS + SITE.key_pem()), "certificate 2 in it is damaged"),
    "authority with extensions twice": (
        lambda: check_authorities(TWICE.certificate_pem, time.time()),
        "'odd' is no authority: its certificate may not sign others",
    ),
    "chain cut off": (
        lambda: read(SITE.certificate_pem + SITE.chain_pem[:-30], key=SITE.key_pem()),
        "it is cut off: a block begins and does not end",
    ),
    "begins only": (
        lambda: read(b"-----BEGIN CERTIFICATE-----\n" * 300_000),  # each was looked for to the end of the file
        "it is cut off: a block begins and does not end",
    ),
    "no key": (
        lambda: read(SITE.certificate_pem),
        "it has no private key: add the key to it, or name it with private-key",
    ),
    "no certificate": (lambda: read(SITE.key_pem()), "it holds no certificate"),
    "two keys": (lambda: read(SITE.pem + OTHER.key_pem()), "it has 2 private keys"),
    "another key": (
        lambda: read(SITE.certificate_pem, key=OTHER.key_pem()),
        "the private key does not match the certificate of 'a.example'",
    ),
    "no passphrase": (
        lambda: read(SITE.certificate_pem, key=SITE.key_pem(b"secret")),
        "the private key is encrypted, and there is no key-passphrase",
    ),
    "wrong passphrase": (
        lambda: read(SITE.certificate_pem, key=SITE.key_pem(b"secret"), passphrase=b"geheim"),
        "key-passphrase does not open the private key, or of a kind that is not known",
    ),
    "damaged key": (
        lambda: read(SITE.certificate_pem, key=b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        "the private key is damaged, or of a kind that is not known",
    ),
    "damaged certificate": (
        lambda: read(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + SITE.key_pem()),
        "certificate 1 in it is damaged",
    ),
    "halves of two keys": (
        lambda: read(RSA.certificate_pem, key=wrong_primes()),
        "the private key is damaged: its halves do not fit",
    ),
    "authority first": (
        lambda: read(SITE.chain_pem + SITE.certificate_pem + SITE.key_pem()),
        "the chain is out of order: 'a.example' has the key and must come first, before 'Sub'",
    ),
    "another's chain": (
        lambda: read(SITE.certificate_pem, ROOT.pem, key=SITE.key_pem()),
        "the chain is out of order: 'a.example' was signed by 'Sub', but certificate 2 is 'Root'",
    ),
    "a namesake's chain": (
        lambda: read(SITE.certificate_pem, Authority("Sub", by=ROOT).pem, key=SITE.key_pem()),
        "the chain is broken: 'Sub' has not signed 'a.example'",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong(what):
    """One reason each, and no byte of a key in it."""
    call, reason = WRONG[what]
    if what == "a namesake's chain" and not hasattr(SITE.certificate, "verify_directly_issued_by"):
        pytest.skip("this cryptography verifies no signatures")
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == reason


def test_dates():
    """What has expired or is not yet valid is refused, an authority in the chain too; a clock may differ a little."""
    with pytest.raises(ValueError, match=r"the certificate of 'old.example' has expired on \d{4}-\d\d-\d\d\Z"):
        read(EXPIRED.pem)
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"
    with pytest.raises(NotYet, match=rf"the certificate of 'later.example' is not valid before {when}\Z") as caught:
        read(LATER.pem)
    assert abs(caught.value.begins - time.time() - 2 * 86400) < 3600
    assert caught.value.pair.names == ("later.example",)
    assert read(LATER.pem, now=time.time() + 2 * 86400 - 100)
    with pytest.raises(ValueError, match="the certificate of 'Sub' has expired"):
        read(SUB.issue("long.example", days=9000).pem, now=time.time() + 4000 * 86400)


def test_authorities():
    """What signs for clients must be allowed to sign, and be valid."""
    assert check_authorities(ROOT.pem + SUB.pem, time.time()) == [ROOT.certificate, SUB.certificate]
    with pytest.raises(ValueError, match=r"'a\.example' is no authority"):
        check_authorities(ROOT.pem + SITE.certificate_pem, time.time())
    with pytest.raises(ValueError, match="it is not PEM"):
        check_authorities(b"x", time.time())
    with pytest.raises(NotYet, match="the certificate of 'Root' is not valid before"):
        check_authorities(ROOT.pem, time.time() - 2 * 86400)


def test_lists_of_revoked_certificates():
    """Valid, and one of every authority: OpenSSL refuses every client whose authority has none."""
    now, both = time.time(), check_authorities(ROOT.pem + SUB.pem, time.time())
    check_revocations([ROOT.revoke(), SUB.revoke(SITE)], both, now)
    check_revocations([ROOT.revoke() + SUB.revoke(SITE)], both, now)
    with pytest.raises(ValueError, match="there is no list of 'Sub': every client of theirs would be refused"):
        check_revocations([ROOT.revoke()], both, now)
    with pytest.raises(ValueError, match="the list of CN=Sub was not signed by its authority: every client of theirs"):
        check_revocations([ROOT.revoke(), Authority("Sub", by=ROOT).revoke()], both, now)
    with pytest.raises(ValueError, match="the list of CN=Root has expired on"):
        check_revocations([ROOT.revoke(days=-2)], both, now)
    with pytest.raises(ValueError, match="it holds no list"):
        check_revocations([ROOT.pem], both, now)
    with pytest.raises(NotYet, match="the list of CN=Root is not valid before"):
        check_revocations([ROOT.revoke()], both, now - 61 * 86400)


def test_repr_shows_no_key():
    """Whatever is logged by accident."""
    assert "BEGIN" not in repr(read(SITE.pem))


class TestNames:
    """The name that a client asks for."""

    index = NameIndex(
        [
            (("a.example", "*.a.example"), "EC"),
            (("www.a.example",), "EC"),
            (("A.example.", "*.other"), "RSA"),
            (("a.example",), "EC"),
        ]
    )

    def test_exact_before_wildcard(self):
        """Whatever the order of the file."""
        assert self.index.find("www.a.example") == (1,)
        assert self.index.find("shop.a.example") == (0,)

    def test_kinds_of_keys_belong_together(self):
        """One name, an EC and an RSA key; of two of the same kind the first."""
        assert self.index.find("a.example") == (0, 2)
        assert self.index.default == (0, 2)

    def test_in_any_case(self):
        """And with the dot of the root."""
        assert self.index.find("WWW.A.Example.") == (1,)

    @pytest.mark.parametrize("name", ["x.y.a.example", "example", "b.example", ".a.example.b", "*", "other"])
    def test_unknown(self, name):
        """A wildcard is one label."""
        assert self.index.find(name) == ()

    def test_without_names(self):
        """A certificate that is called nothing is the default all the same."""
        assert NameIndex([((), "EC")]).default == (0,)


def test_issued_in_a_chain():
    """The helper of the tests itself makes what it says."""
    assert isinstance(SITE, Issued)
    assert SITE.issuers == [SUB.certificate]
