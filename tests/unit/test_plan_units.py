"""Where the plan and the .socket units say different things."""

from __future__ import annotations

from appd.commands.check import disagreements
from appd.config import load
from appd.registry import Registry
from appd.systemd.units import find_units, parse_unit
from appd.worker.plan import make_plan


def found(tmp_path, addresses, units, serves=None) -> list[str]:
    file = tmp_path / "appd.conf"
    file.write_text("<echo e>\n" + "".join(f" address {one}\n" for one in addresses) + "</echo>\n")
    plan = make_plan(load(str(file)), Registry(), None, {})
    parsed = [parse_unit(name, [f"[Socket]\n{text}"]) for name, text in units.items()]
    return [one.message for one in disagreements(plan, parsed, serves or {})]


def test_what_the_finished_server_serves(tmp_path):
    """It counts, not what its server type could serve."""
    units = {"a.socket": "ListenStream=1\nListenDatagram=1\n"}
    assert found(tmp_path, ["systemd:name=a.socket"], units) == []
    assert found(tmp_path, ["systemd:name=a.socket"], units, {"e": ("datagram",)}) == [
        "systemd:name=a.socket: a.socket passes a stream socket (1), but server 'e' takes datagram"
    ]


def test_accepted_connections(tmp_path):
    """Accept=yes is for who serves streams; its service is a template."""
    units = {"a.socket": "ListenStream=1\nAccept=yes\n"}
    assert found(tmp_path, ["systemd:name=connection"], units, {"e": ("stream",)}) == []
    assert found(tmp_path, ["systemd:name=connection"], units, {"e": ("datagram",)}) == [
        "systemd:name=connection: a.socket passes accepted connections (1) to instances of a@.service, "
        "as Accept=yes has it, but server 'e' takes datagram"
    ]


def test_index(tmp_path):
    """It hides no more units than it may mean."""
    units = {"a.socket": "ListenStream=1\n"}
    assert found(tmp_path, ["systemd:index=0"], units) == []
    assert found(tmp_path, ["systemd:index=0"], units, {"e": ("datagram",)}) == [
        "a.socket passes 'a.socket', which no server claims"
    ]
    units["b.socket"] = "ListenStream=2\n"
    assert found(tmp_path, ["systemd:index=0", "systemd:index=1"], units) == []
    assert found(tmp_path, ["systemd:index=0"], units) == [
        "a.socket, b.socket: 2 sockets that no name claims, more than the file has index= addresses (1)"
    ]
    assert found(tmp_path, ["systemd:index=0", "systemd:name=c"], units)[0].startswith(
        "systemd:name=c: no .socket unit"
    )


def test_the_service_of_a_unit_that_accepts(tmp_path):
    """systemd.socket(5): x.socket with Accept=yes starts instances of x@.service."""
    (tmp_path / "appd.socket").write_text("[Socket]\nListenStream=1\nAccept=yes\n")
    (unit,) = find_units("appd@one.service", (str(tmp_path),))
    assert unit.service == "appd@.service" and find_units("appd.service", (str(tmp_path),)) == []
