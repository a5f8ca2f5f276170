"""The characters of HTTP/1.x: RFC 9110, 5 and RFC 9112. Text is latin-1, a character a byte.

Quantifiers of characters are possessive, so that no input makes a pattern try twice. Those of groups are not: before
3.11.5, which Debian 12 does not have, Python takes too much for a match there (gh-106052). Their parts begin with
different characters, so that there is nothing to try twice either. What not every request needs is
compiled when it is used: all patterns of the core would take a start 2 ms more.
"""

from __future__ import annotations

from appd.startup.patterns import compiled, pattern

__all__ = ["CHUNK", "FIELD", "REQUEST_LINE", "TCHAR", "VERSION", "VTEXT"]

# RFC 9110, 5.6.2: token = 1*tchar
TCHAR = r"!#$%&'*+\-.^_`|~0-9A-Za-z"
# RFC 9110, 5.5: field-content is visible characters and obs-text, with spaces and tabs between them.
VTEXT = r"\t \x21-\x7e\x80-\xff"

# RFC 9112, 3: method SP request-target SP HTTP-version. A target is visible ASCII; a fragment is never sent, and
# servers that took one have been led past the access rules of proxies (CVE-2023-45539 of HAProxy).
REQUEST_LINE = compiled(rf"([{TCHAR}]{{1,64}}+) ([\x21\x22\x24-\x7e]++) HTTP/1\.([01])")
VERSION = pattern(r"HTTP/[0-9]\.[0-9]")
# RFC 9112, 5: no space before the colon, no line folding. Spaces after the value are cut by the reader.
FIELD = compiled(rf"([{TCHAR}]++):[\t ]*+([{VTEXT}]*+)")
# RFC 9112, 7.1: a size of 15 digits is a petabyte; extensions are checked and ignored. The spaces that 7.1.1 lets a
# recipient take around ";" are refused, as llhttp does: no sender uses them, and readers disagree on them.
_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
CHUNK = pattern(rf"([0-9A-Fa-f]{{1,15}}+)((?:;[{TCHAR}]++(?:=(?:[{TCHAR}]++|{_QUOTED}))?)*)")
