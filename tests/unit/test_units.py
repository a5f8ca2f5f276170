"""What .socket units say."""

from __future__ import annotations

from pathlib import Path

from appd.address import parse
from appd.systemd.units import find_units, parse_unit, sockets_for, sockets_of

SHIPPED = Path(__file__).parents[2] / "units"


def test_unit():
    """Names, several Listen lines, comments, continued lines, a reset by an empty value, other sections."""
    text = (
        "# ListenStream=1\n[Unit]\nListenStream=2\n[Socket]\nListenStream=3\nListenStream=\nListenStream = 4\n"
        "ListenDatagram=\\\n5\nFileDescriptorName=web\n"
    )
    unit = parse_unit("x.socket", [text])
    assert unit.listen == (("stream", "4"), ("datagram", "5"))
    assert (unit.fd_name, unit.service, unit.accept) == ("web", "x.service", False)


def test_defaults():
    """Without FileDescriptorName= the unit's own name; with Accept=yes `connection`."""
    assert parse_unit("x.socket", ["[Socket]\nListenStream=1\n"]).fd_name == "x.socket"
    unit = parse_unit("x.socket", ["[Socket]\nListenStream=1\nAccept=yes\nService=y@.service\n"])
    assert (unit.fd_name, unit.service, unit.accept) == ("connection", "y@.service", True)


def test_units_of_others(tmp_path):
    """Whose service is named or in the folder, and is not the one that is asked for; instances count as their template."""
    for name in ("dbus.socket", "appd.socket", "appd@.socket", "spare.socket"):
        (tmp_path / name).write_text("[Socket]\nListenStream=1\n")
    (tmp_path / "syslog.socket").write_text("[Socket]\nListenDatagram=1\nService=syslog.service\n")
    for name in ("dbus.service", "appd.service", "appd@.service"):
        (tmp_path / name).write_text("[Service]\n")

    def own(service: str) -> list[str]:
        return [one.name for one in sockets_for(service, str(tmp_path))]

    assert own("appd.service") == ["appd.socket", "spare.socket"]
    assert own("appd@shop.service") == ["appd@.socket", "spare.socket"]


def test_units_of_other_instances(tmp_path):
    """One of its own goes before the template's, and those of another instance are another's."""
    for name, service in (
        ("appd@.socket", ""),
        ("appd@shop.socket", "Service=appd@shop.service"),
        ("appd-admin@shop.socket", "Service=appd@shop.service"),
        ("appd-admin@blog.socket", "Service=appd@blog.service"),
    ):
        (tmp_path / name).write_text(f"[Socket]\nListenStream=1\n{service}\n")

    def own(service: str) -> list[str]:
        return [one.name for one in sockets_for(service, str(tmp_path))]

    assert own("appd@shop.service") == ["appd-admin@shop.socket", "appd@shop.socket"]
    assert own("appd@blog.service") == ["appd-admin@blog.socket", "appd@.socket"]


def test_drop_ins(tmp_path):
    """Drop-ins add and override, those of a higher folder hide those below of the same name."""
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    (lib / "appd.socket.d").mkdir(parents=True)
    (etc / "appd.socket.d").mkdir(parents=True)
    (lib / "appd.socket").write_text("[Socket]\nListenStream=80\nFileDescriptorName=http\n")
    (lib / "appd.socket.d" / "a.conf").write_text("[Socket]\nListenStream=81\n")
    (etc / "appd.socket.d" / "a.conf").write_text("[Socket]\nListenStream=82\n")
    (lib / "other.socket").write_text("[Socket]\nListenStream=83\n")
    (lib / "more.socket").write_text("[Socket]\nListenStream=84\nService=appd.service\n")
    found = find_units("appd.service", (str(etc), str(lib)))
    assert [unit.name for unit in found] == ["appd.socket", "more.socket"]
    assert [text for _kind, text in found[0].listen] == ["80", "82"]


def test_sockets_of():
    """A name means every socket of it, a position one of them."""
    units = [parse_unit("x.socket", ["[Socket]\nListenStream=1\nListenStream=2\nFileDescriptorName=web\n"])]
    assert [text for _unit, _kind, text in sockets_of(parse("systemd:name=web"), units)] == ["1", "2"]
    assert [text for _unit, _kind, text in sockets_of(parse("systemd:name=web:position=1"), units)] == ["2"]
    assert sockets_of(parse("systemd:name=other"), units) == []


def test_shipped_units():
    """What is shipped: the names that the example uses, one socket each, and the lines that the manual promises."""
    (socket,), (template,) = (sockets_for(one, str(SHIPPED)) for one in ("appd.service", "appd@shop.service"))
    assert (socket.name, socket.listen, socket.fd_name) == ("appd.socket", (("stream", "8080"),), "http")
    assert template.listen == (("stream", "/run/appd-sockets/shop.sock"),)
    for name in "appd.service", "appd@.service":
        text = (SHIPPED / name).read_text()
        for line in (
            "Type=notify", "KillMode=mixed", "Restart=on-failure", "RestartSec=1s", "StartLimitIntervalSec=0",
            "TimeoutStopSec=", "WatchdogSec=", "LimitNOFILE=",
        ):  # fmt: skip
            before, _, _ = text.partition(f"\n{line}")
            assert before != text and before.splitlines()[-1].startswith(
                ("#", "[", "NotifyAccess", "StartLimit", "Restart")
            )
        assert "RestartPreventExitStatus" not in text and "ExecStartPre" not in text and "Also=" not in text
