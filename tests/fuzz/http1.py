"""Fuzzes the core of HTTP: `make fuzz`, or `python tests/fuzz/http1.py [CORPUS…] [libFuzzer's options]`.

The input is cut in two places and read three ways, which must agree: in one piece, in pieces, and by h11, which must not
refuse what we take. Other bytes are read as the header of a proxy and as fields of proxies. Anything that is raised but
`Refused` is a finding, which libFuzzer writes to a file; it becomes a case of tests/corpora/http1.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

with atheris.instrument_imports(include=["appd.http"]):
    from support.h11_view import differ
    from support.http1 import CORPORA, cases, events

    from appd.http.core.errors import Refused
    from appd.http.core.forwarded import Trusted, read_claims
    from appd.http.core.proxyprotocol import read_proxy_header

TRUSTED = Trusted(["10.0.0.0/8", "unix"])
FIELDS = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded")


def one_input(data: bytes) -> None:
    """Reads an input in every way."""
    if len(data) < 4:
        return
    what, first, second, data = data[0], data[1], data[2], data[3:]
    if what & 3 == 3:
        _proxies(data)
        return
    whole = events([data])
    cuts = sorted({first % len(data), (first << 8 | second) % len(data)} - {0})
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert events(pieces) == whole, (pieces, events(pieces), whole)
    difference = differ(data)
    assert difference is None, difference


def _proxies(data: bytes) -> None:
    with suppress(Refused):
        read_proxy_header(data)
    values = data.decode("latin-1").split("\n")
    with suppress(Refused):
        read_claims(dict(zip(FIELDS, values, strict=False)), "", TRUSTED)


def write_seeds(folder: Path) -> None:
    """Writes the corpora as libFuzzer wants them: a file an input."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in CORPORA.glob("*.cases"):
        for number, case in enumerate(cases(path)):
            (folder / f"{path.stem}-{number}").write_bytes(b"\0\x07\x1d" + case.data)


if __name__ == "__main__":
    folders = [one for one in sys.argv[1:] if not one.startswith("-")]
    if folders:
        write_seeds(Path(folders[0]))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
