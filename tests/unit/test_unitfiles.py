"""<socket> sections as units, and where they and existing units say different things."""

from __future__ import annotations

import pytest

from appd.commands.check import credential_disagreements, socket_disagreements
from appd.commands.unitfiles import service_of, unit_files
from appd.config import load
from appd.errors import ConfigurationError
from appd.systemd.units import parse_unit

SOCKETS = """
<socket http>
  listen 80
  listen [::1]:81
  bind-ipv6-only both
</socket>
<socket log%d>
  listen unix-dgram:/run/logs-%i.sock:mode=600
  listen udp:127.0.0.1:5140
  group adm
</socket>
"""
HTTP_UNIT = """\
# Made by `appd units` from <socket http> of {path}: change it there.
[Unit]
Description=Socket http of appd.service
Documentation=man:systemd.socket(5)

[Socket]
ListenStream=80
ListenStream=[::1]:81
FileDescriptorName=http
Backlog=4096
BindIPv6Only=both
Service=appd.service

[Install]
WantedBy=sockets.target
"""


def settings_of(tmp_path, text, name="appd.conf"):
    path = tmp_path / name
    path.write_text(f"{text}<echo e>\n  address systemd:name=http\n</echo>\n")
    return load(str(path)), str(path)


def units_of(tmp_path, text, name="appd.conf"):
    return unit_files(*settings_of(tmp_path, text, name))


def test_units(tmp_path):
    """A .socket unit for each section, and a drop-in that ties the service to them."""
    http, log, drop_in = units_of(tmp_path, SOCKETS)
    assert http.path == "appd.socket"
    assert http.text == HTTP_UNIT.format(path=tmp_path / "appd.conf")
    assert log.path == "appd-log\\x25d.socket"
    for line in (
        "ListenDatagram=/run/logs-%%i.sock",
        "ListenDatagram=127.0.0.1:5140",
        "FileDescriptorName=log%%d",
        "SocketMode=0600",
        "SocketGroup=adm",
        "RemoveOnStop=yes",
    ):
        assert line in log.text.splitlines()
    assert "Backlog" not in log.text, "datagrams have none"
    assert drop_in.path == "appd.service.d/50-appd-sockets.conf"
    assert "Requires=appd.socket appd-log\\x25d.socket\n" in drop_in.text
    assert "Sockets=appd.socket appd-log\\x25d.socket\n" in drop_in.text


def test_what_is_written_reads_back(tmp_path):
    """The reader of units and the writer mean the same."""
    settings, path = settings_of(tmp_path, SOCKETS)
    made = [one for one in unit_files(settings, path) if one.path.endswith(".socket")]
    parsed = [parse_unit(one.path, [one.text]) for one in made]
    assert [(one.fd_name, one.service) for one in parsed] == [("http", "appd.service"), ("log%d", "appd.service")]
    for section in settings.sockets:
        assert socket_disagreements(section, parsed) == []


def test_instances(tmp_path):
    """NAME.conf belongs to appd@NAME; no instance is called like the socket of another."""
    sockets = "<socket http>\n  listen 80\n</socket>\n<socket admin>\n  listen 81\n</socket>\n"
    names = [one.path for one in units_of(tmp_path, sockets, "shop.conf")]
    assert names == ["appd@shop.socket", "appd-admin@shop.socket", "appd@shop.service.d/50-appd-sockets.conf"]
    assert service_of("/etc/appd/my shop.conf") == "appd@my\\x20shop.service"


TLS = "<auth staff>\n  passwords credential:staff\n</auth>\n<echo t>\n  tls-address systemd:name=https\n  <tls>\n"
TLS += "    certificate credential:shop%i.pem\n    client-ca credential:ca\n  </tls>\n</echo>\n"
DROP_IN = "appd@shop.service.d/50-appd-credentials.conf"


def credential_lines_of(tmp_path, *texts):
    made = unit_files(*settings_of(tmp_path, TLS, "shop.conf"), texts)
    assert [one.path for one in made] in ([], [DROP_IN])
    return [line for one in made for line in one.text.splitlines() if "Credential" in line]


def test_credentials(tmp_path):
    """Each that the file names, in sections within sections too, has a line, and nothing in it is a specifier."""
    assert sorted(credential_lines_of(tmp_path)) == [
        "LoadCredential=ca:/etc/appd/credentials/ca",
        "LoadCredential=shop%%i.pem:/etc/appd/credentials/shop%%i.pem",
        "LoadCredential=staff:/etc/appd/credentials/staff",
    ]


def test_credentials_that_others_load_stay_theirs(tmp_path):
    """By whatever setting; what an administrator has made of a line of ours stays as it is."""
    (tmp_path / "folder").mkdir()
    theirs = "[Service]\nSetCredential=ca:text\nImportCredential=shop*\n"
    assert credential_lines_of(tmp_path, theirs) == ["LoadCredential=staff:/etc/appd/credentials/staff"]
    ours = "# Made by `appd units` from x: change it there.\n[Service]\nLoadCredentialEncrypted=staff:/srv/%i.cred\n"
    assert credential_lines_of(tmp_path, theirs, ours) == ["LoadCredentialEncrypted=staff:/srv/%i.cred"]
    assert credential_lines_of(tmp_path, theirs, "[Service]\nLoadCredential=staff:/x\n", ours) == []
    assert (
        len(
            credential_lines_of(
                tmp_path, "[Service]\nSetCredential=ca:x\nSetCredential=\n", "[Unit]\nLoadCredential=ca:/x"
            )
        )
        == 3
    )
    # A folder is loaded file by file.
    text = "<echo t>\n  tls-address 1\n  <tls>\n    certificate credential:f_a.pem\n  </tls>\n</echo>\n"
    settings, path = settings_of(tmp_path, text)
    for folder, count in ((tmp_path / "folder", 0), (tmp_path / "none", 1)):
        assert len(unit_files(settings, path, [f"[Service]\nLoadCredential=f:{folder}\n"])) == count


def test_a_credential_that_no_unit_can_load(tmp_path):
    """One line with its place."""
    text = "<echo t>\n  tls-address 1\n  <tls>\n    certificate credential:a:b\n  </tls>\n</echo>\n"
    with pytest.raises(ConfigurationError, match=r"appd.conf:4: credential:a:b: a unit takes ASCII without"):
        units_of(tmp_path, text)


def test_credentials_that_nothing_loads(tmp_path):
    """`check --units` names each with its line, until a unit of the folder loads it."""
    settings, path = settings_of(tmp_path, TLS, "shop.conf")
    found = credential_disagreements(settings, "appd@shop.service", (str(tmp_path),))
    assert sorted(one.message.split(": ")[0] for one in found) == [
        "credential:ca", "credential:shop%i.pem", "credential:staff",
    ]  # fmt: skip
    assert {one.place.line for one in found} == {2, 7, 8}
    (made,) = unit_files(settings, path)
    (tmp_path / made.path).parent.mkdir()
    (tmp_path / made.path).write_text(made.text)
    assert credential_disagreements(settings, "appd@shop.service", (str(tmp_path),)) == []
    assert len(credential_disagreements(settings, "appd@other.service", (str(tmp_path),))) == 3


def test_nothing_to_make(tmp_path):
    """A file without <socket> and credential keeps the shipped units."""
    assert units_of(tmp_path, "") == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("listen localhost:80", "takes no host name"),
        ("listen 0", "needs a port"),
        ("listen unix:/run/a:mode=600\n  listen unix:/run/b:mode=660", "one mode"),
        ("listen tcp:80:backlog=5\n  backlog 6", "one backlog"),
    ],
)
def test_what_no_unit_can_say(tmp_path, lines, message):
    """One line with its place."""
    with pytest.raises(ConfigurationError, match=f"appd.conf:[12]: <socket http>.*{message}"):
        units_of(tmp_path, f"<socket http>\n  {lines}\n</socket>\n")


def test_every_problem_at_once(tmp_path):
    """Of all sections."""
    text = "<socket http>\n listen localhost:80\n listen 0\n</socket>\n<socket b>\n listen a:1\n</socket>\n"
    with pytest.raises(ConfigurationError) as caught:
        units_of(tmp_path, text)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("ListenStream=81", "does not listen on 80"),
        ("ListenStream=80\nListenStream=81", "listens on 81 .stream., which is not here"),
        ("ListenDatagram=80", "does not listen on 80 .stream."),
        ("ListenStream=80\nSocketMode=0600", None),
        ("ListenStream=80\nBacklog=128", "has Backlog=128, here it is 7"),
        ("ListenStream=80\nBacklog=7", None),
        ("ListenStream=%i", None),
        ("ListenStream=80\nReusePort=true", None),
    ],
)
def test_disagreements(tmp_path, unit, message):
    """What the section says counts, what it does not say is the unit's."""
    settings, _path = settings_of(tmp_path, "<socket http>\n  listen 80\n  backlog 7\n</socket>\n")
    if "Backlog" not in unit:
        unit += "\nBacklog=7"
    found = socket_disagreements(
        settings.sockets[0], [parse_unit("appd.socket", [f"[Socket]\nFileDescriptorName=http\n{unit}\n"])]
    )
    if message is None:
        assert found == []
    else:
        import re

        assert any(re.search(message, one.message) for one in found), found
        assert all("appd units" in one.message for one in found)
