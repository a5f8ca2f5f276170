"""What is wrong with servers that serve on: as one word, and for people."""

from __future__ import annotations

from appd.troubles import Trouble, brief, pack, sentence, together, unpack

ONE = Trouble(
    "web",
    "the certificates on disk have been refused",
    1_800_000_000,
    "/x y.pem: it is not PEM; the former ones are served",
)


def test_for_people():
    """Who, what, since when, why; in a short text the first, and how many more there are."""
    said = sentence(ONE)
    assert said == (
        "server web: the certificates on disk have been refused since 2027-01-15 08:00 UTC: "
        "/x y.pem: it is not PEM; the former ones are served"
    )
    assert (brief([]), brief([ONE])) == ("", said)
    other = ONE._replace(server="shop")
    assert brief([ONE, other, other]) == f"{said} (and 2 more: `appd status`)"
    assert len(brief([ONE._replace(reason="x" * 5000)])) < 400


def test_as_one_word():
    """Without a blank, and never longer than a message may be."""
    word = pack([ONE])
    assert " " not in word and unpack(word) == [ONE]
    assert len(pack([ONE._replace(reason="x" * 5000)] * 500)) < 20_000


def test_what_is_none():
    """Hosted code may say anything in its place; a worker of an earlier version says nothing."""
    for word in (
        "",
        "[",
        "7",
        "{}",
        "[" * 100_000,
        "[[]]",
        '[["a", "b", Infinity, "c"]]',
        '[["a", "b", "x", "c"]]',
        "[1]",
    ):
        assert unpack(word) == []


def test_of_all_workers():
    """One for each, since the first of them."""
    later = ONE._replace(since=ONE.since + 60)
    other = ONE._replace(server="shop")
    assert together([later, other, ONE]) == [other, ONE]
