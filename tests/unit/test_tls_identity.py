"""A client's certificate → let in or not, and what an application is told."""

from __future__ import annotations

import pytest
from cryptography import x509
from support.authority import Authority

from appd.supervisor.overview import certificates
from appd.tls.identity import is_admitted, is_called, variables
from appd.tls.values import client_name

ROOT = Authority("Root")
OPS = ROOT.issue(
    "ops.example",
    "*.star.example",
    "uri:spiffe://prod/ns/shop",
    "email:Ops@Example.org",
    common_name="Zoë",
    subject=[(x509.NameOID.COUNTRY_NAME, "DE"), (x509.NameOID.ORGANIZATION_NAME, 'Acme, "Inc"')],
)
BARE = ROOT.issue(common_name="bare.example")
# An X.400 address among the names, which no library reads; names twice, which RFC 5280 forbids.
ODD = {
    "X.400": ROOT.issue_odd(
        x509.UnrecognizedExtension(x509.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("3004a3023000"))
    ),
    "twice": ROOT.issue_odd(x509.SubjectAlternativeName([x509.DNSName("ops.example")]), twice=True),
}

ADMITTED = [
    ("dns:ops.example", True),
    ("DNS:OPS.Example.", True),
    ("dns:*.example", False),
    ("dns:example", False),
    ("dns:star.example", False),
    ("dns:*.star.example", False),
    ("dns:a.star.example", False),
    ("uri:spiffe://prod/ns/shop", True),
    ("uri:spiffe://prod/ns/*", True),
    ("uri:spiffe://prod/*", True),
    ("uri:spiffe://prod", False),
    ("uri:spiffe://pro/*", False),
    ("uri:spiffe://prod/ns/sho", False),
    ("uri:SPIFFE://prod/ns/shop", False),
    ("email:Ops@example.ORG", True),
    ("email:ops@example.org", False),
    ("email:*@example.org", True),
    ("email:*@ample.org", False),
]


@pytest.mark.parametrize(("pattern", "admitted"), ADMITTED)
def test_client_names(pattern, admitted):
    """A certificate for *.star.example is not one that is called a.star.example."""
    if pattern == "dns:*.example":
        # A * of ours stands for one label; ops.example has none before the domain of two that a pattern needs.
        with pytest.raises(ValueError, match="the first label"):
            client_name(pattern)
        return
    assert is_admitted(OPS.der, [client_name(pattern)]) is admitted
    assert not is_admitted(BARE.der, [client_name(pattern)])


def test_wildcards_of_ours():
    """One label, of the certificate's own names."""
    client = ROOT.issue("a.clients.example", "b.c.others.example")
    assert is_admitted(client.der, [client_name("dns:*.clients.example")])
    assert not is_admitted(client.der, [client_name("dns:*.others.example")])


def test_no_names_admit_all():
    """client-names is a choice."""
    assert is_admitted(BARE.der, [])


def test_what_is_no_certificate_is_not_admitted():
    """Whatever the library says of it."""
    assert not is_admitted(b"x", [("dns", "x")])


@pytest.mark.parametrize("odd", ODD)
def test_names_that_cannot_be_read_admit_nobody(odd):
    """OpenSSL has verified it, and who it is cannot be said: no names, no user, and nothing is raised."""
    assert not is_admitted(ODD[odd].der, [("dns", "ops.example")])
    assert not is_called(ODD[odd].der, "ops.example")
    found = told(ODD[odd].der, "cn")
    assert found["SSL_CLIENT_VERIFY"].startswith("FAILED:")
    assert "REMOTE_USER" not in found


def told(der, remote_user="none", name="a.example"):
    return variables(der, protocol="TLSv1.3", cipher="TLS_AES_128_GCM_SHA256", name=name, remote_user=remote_user)


def test_without_a_certificate():
    """The connection alone."""
    assert told(None, "cn") == {
        "HTTPS": "on",
        "SSL_PROTOCOL": "TLSv1.3",
        "SSL_CIPHER": "TLS_AES_128_GCM_SHA256",
        "SSL_TLS_SNI": "a.example",
        "SSL_CLIENT_VERIFY": "NONE",
    }


def test_with_a_certificate():
    """mod_ssl's names; a character that is none of latin-1 comes as its bytes, as PEP 3333 has it."""
    found = told(OPS.der)
    assert found["SSL_CLIENT_VERIFY"] == "SUCCESS"
    assert found["SSL_CLIENT_S_DN_CN"] == "Zoë".encode().decode("latin-1")
    assert found["SSL_CLIENT_S_DN_O"] == 'Acme, "Inc"'
    assert found["SSL_CLIENT_S_DN_C"] == "DE"
    assert found["SSL_CLIENT_I_DN"] == "CN=Root"
    assert found["SSL_CLIENT_M_SERIAL"] == f"{OPS.certificate.serial_number:X}"
    assert found["SSL_CLIENT_SAN_DNS_0"] == "ops.example"
    assert found["SSL_CLIENT_SAN_DNS_1"] == "*.star.example"
    assert found["SSL_CLIENT_SAN_URI_0"] == "spiffe://prod/ns/shop"
    assert found["SSL_CLIENT_SAN_Email_0"] == "Ops@Example.org"
    assert found["SSL_CLIENT_V_END"].endswith("GMT")
    assert found["SSL_CLIENT_CERT"].encode() == OPS.certificate_pem
    assert "REMOTE_USER" not in found


@pytest.mark.parametrize(
    ("choice", "user"),
    [
        ("cn", "Zoë".encode().decode("latin-1")),
        ("dns", "ops.example"),
        ("uri", "spiffe://prod/ns/shop"),
        ("email", "Ops@Example.org"),
        ("none", None),
    ],
)
def test_remote_user(choice, user):
    """By choice."""
    assert told(OPS.der, choice).get("REMOTE_USER") == user


def test_remote_user_that_is_not_there():
    """A certificate without such a name gives no user, rather than another's."""
    assert "REMOTE_USER" not in told(BARE.der, "email")
    assert told(BARE.der, "subject")["REMOTE_USER"] == "CN=bare.example"


@pytest.mark.parametrize("name", ["root\nREMOTE_USER=other", "root\0", "root\x7f"])
def test_remote_user_is_no_control_character(name):
    """Whoever writes a log of users would be told lies."""
    assert "REMOTE_USER" not in told(ROOT.issue("a.example", common_name=name).der, "cn")


@pytest.mark.parametrize("name", ["a.example\nGET /", "\x1b[2J", "\ufffd.example"])
def test_a_name_that_is_none_is_not_told(name):
    """Anybody may ask for anything, before there is a certificate."""
    assert "SSL_TLS_SNI" not in told(None, name=name)


def test_what_cannot_be_read_is_nobody():
    """OpenSSL has verified it, and more is not known."""
    found = told(b"\x30\x00", "cn")
    assert found["SSL_CLIENT_VERIFY"].startswith("FAILED:")
    assert "REMOTE_USER" not in found


@pytest.mark.parametrize(
    "text", ["", "x", "{}", "[1]", '[{"server": "a"}]', '{"a": 1}', '[{"expires": "soon"}]', "null"]
)
def test_supervisor_takes_nothing_for_granted(text):
    """Hosted code may write to NOTIFY_SOCKET too."""
    assert certificates(text) == []
