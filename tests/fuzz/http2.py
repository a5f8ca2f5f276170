"""Fuzzes HTTP/2: `make fuzz`, or `python tests/fuzz/http2.py [CORPUS…] [libFuzzer's options]`.

The input is what a client sends behind its preface and first SETTINGS. It is read in one piece and in three, which must
agree, and by h2, which must not refuse what we take, but for what `support.h2_view` lists. Then a server answers what was
asked for, as far as the windows let it. Anything that is raised is a finding, which libFuzzer writes to a file; it
becomes a case of tests/corpora/http2.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

with atheris.instrument_imports(include=["appd.http.h2"]):
    from support.h2_view import by_us, differ
    from support.http2 import cases, connection, greeting

    from appd.http.h2.codes import Code
    from appd.http.h2.encoding import encode_fields
    from appd.http.h2.events import Kind

BLOCK = encode_fields([(":status", "200"), ("x", "y")])


def one_input(data: bytes) -> None:
    """Reads an input in every way."""
    if len(data) < 3:
        return
    first, second, data = data[0], data[1], greeting() + data[2:]
    edges = sorted({0, len(data), first * 7 % len(data), (first << 8 | second) % len(data)})
    pieces = [data[start:end] for start, end in pairwise(edges)]
    assert by_us(pieces) == by_us([data]), pieces
    difference = differ(data)
    assert difference is None, difference
    _answer(pieces, second)


def _answer(pieces: list[bytes], how: int) -> None:
    """Answers each request when it comes; the streams are in whatever state they are."""
    core = connection()
    for piece in pieces:
        for kind, stream, what, more in core.receive(piece):
            if kind == Kind.REQUEST:
                if how & 1:
                    core.send_head(stream, BLOCK, end=bool(how & 2))
                elif not core.send_whole(stream, BLOCK, bytes(how)):
                    core.send_head(stream, BLOCK)
                    while (room := core.room(stream)) > 0 and how > 8:
                        core.send_data(stream, bytes(min(room, how)), end=room <= how)
                        how -= 8
            elif kind == Kind.DATA:
                core.give_back(stream, more)
            elif kind == Kind.END and how & 4:
                core.reset(stream, Code.NO_ERROR)
            elif kind == Kind.FAULT:
                core.go_away(what, more)
        core.take_out()


def write_seeds(folder: Path) -> None:
    """Writes the corpus as libFuzzer wants it: a file an input."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(cases()):
        if case.data.startswith(greeting()):
            (folder / f"rules-{number}").write_bytes(b"\x07\x1d" + case.data[len(greeting()) :])


if __name__ == "__main__":
    folders = [one for one in sys.argv[1:] if not one.startswith("-")]
    if folders:
        write_seeds(Path(folders[0]))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
