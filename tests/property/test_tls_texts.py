"""Whatever is written in a <tls> section or lies in a PEM file: a value or a ValueError, and names that match as RFC 9525 says."""

from __future__ import annotations

import base64
import time

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.authority import Authority

from appd.tls.authorities import check_authorities, check_revocations
from appd.tls.certificates import read_pair
from appd.tls.identity import is_admitted, variables
from appd.tls.names import NameIndex
from appd.tls.values import client_name, passphrase, version

ROOT = Authority("Root")
SUB = Authority("Sub", by=ROOT)
SITE = SUB.issue("a.example", "uri:spiffe://a/b", "email:a@b.example")
FILES = [SITE.pem, SITE.pem + ROOT.pem, ROOT.pem, ROOT.revoke(SITE)]
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=2, max_size=4).map(".".join)


@given(st.text())
@example("dns:")
@example("uri:/*")
@example("email:@")
def test_values(text):
    """Every converter takes any text; the one of passphrases never shows it."""
    for converter in (client_name, version):
        try:
            converter(text)
        except ValueError as error:
            assert "\n" not in str(error)
    try:
        passphrase(text, "/etc/appd.conf")
    except ValueError as error:
        with pytest.raises(ValueError) as other:
            passphrase("swordfish", "/etc/appd.conf")
        assert str(error) == str(other.value)


def damaged(draw):
    """A file of ours with a part that is cut out, doubled or replaced."""
    data = draw(st.sampled_from(FILES))
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, len(data)))
    return data[:start] + draw(st.sampled_from([b"", data[start:end] * 2, b"\0", b"-----", b"\n"])) + data[end:]


DERS = [SITE.der, SUB.certificate.public_bytes(Encoding.DER)]


def odd(draw):
    """A chain with a certificate in it of which some bytes are others: PEM that is good, and what is in it is not."""
    wrong = draw(st.sampled_from(DERS))
    der = bytearray(wrong)
    for place in draw(st.lists(st.integers(0, len(der) - 1), min_size=1, max_size=3)):
        der[place] = draw(st.integers(0, 255))
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(bytes(der)) + b"-----END CERTIFICATE-----\n"
    return pem + SITE.key_pem() if wrong is SITE.der else SITE.certificate_pem + pem + SITE.key_pem()


@pytest.mark.filterwarnings("ignore")  # of serial numbers that are none
@settings(deadline=None)
@given(st.one_of(st.binary(), st.composite(damaged)(), st.composite(odd)()))
def test_files(data):
    """What is damaged is a ValueError of one line, and holds no line of the key."""
    secret = SITE.key_pem().decode().split("\n")[1]
    for read in (
        lambda: read_pair("x", [data], None, None, time.time()),
        lambda: check_authorities(data, time.time()),
        lambda: check_revocations([data], [], time.time()),
    ):
        try:
            read()
        except ValueError as error:
            assert "\n" not in str(error)
            assert secret not in str(error)


@given(st.binary())
def test_clients(der):
    """What is no certificate is nobody."""
    assert not is_admitted(der, [("dns", "a.example")])
    told = variables(der, protocol="TLSv1.3", cipher="x", remote_user="cn")
    assert "REMOTE_USER" not in told


@given(st.lists(NAME, min_size=1, max_size=5), NAME, LABEL)
def test_names(names, wanted, label):
    """An exact name is found whatever else there is; a wildcard takes one label, not none and not two."""
    index = NameIndex([((one, f"*.{one}"), "EC") for one in names])
    for one in names:
        (found,) = index.find(one)
        assert one in (names[found], f"{one.partition('.')[0]}.{names[found]}")
        assert index.find(f"{label}.{one}".upper())
    (number,) = index.find(wanted) or (None,)
    if number is not None:
        assert wanted == names[number] or wanted.partition(".")[2] == names[number]
    else:
        assert wanted not in names
