"""What is said in a line: parameters of MAIL and RCPT, and enhanced status codes in answers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from twisted.mail.smtp import SMTPServerError

__all__ = ["MAIL_PARAMETERS", "look_at_parameters", "with_status"]

# RFC 1870, RFC 6152 and RFC 4954, 5: what is announced, and how its values look.
MAIL_PARAMETERS: Mapping[bytes, re.Pattern[bytes]] = {
    b"SIZE": re.compile(rb"[0-9]{1,20}"),
    b"BODY": re.compile(rb"7BIT|8BITMIME", re.I),
    b"AUTH": re.compile(rb"[!-~]{1,500}"),
}
# RFC 3463 and RFC 5248, of answers that have none.
_STATUS = {
    221: b"2.0.0",
    235: b"2.7.0",
    421: b"4.3.2",
    500: b"5.5.2",
    501: b"5.5.4",
    502: b"5.5.1",
    503: b"5.5.1",
    504: b"5.5.4",
    535: b"5.7.8",
    553: b"5.1.3",
}
_HAS_STATUS = re.compile(rb"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?: |\Z)")


def look_at_parameters(text: bytes, known: Mapping[bytes, re.Pattern[bytes]], size_limit: int) -> None:
    """Looks at the parameters of MAIL or RCPT.

    Args:
        text: What is behind the path.
        known: The keywords that are taken, each with how its value looks.
        size_limit: The longest message that is taken, in bytes.

    Raises:
        SMTPServerError: One is not known (555: RFC 5321, 4.1.1.11) or has no such value, or the message is too long.
    """
    for one in text.split():
        keyword, _is, value = one.partition(b"=")
        pattern = known.get(keyword.upper())
        if pattern is None:
            raise SMTPServerError(555, "5.5.4 a parameter that is not known here")
        if not pattern.fullmatch(value):
            raise SMTPServerError(501, "5.5.4 no value for that parameter")
        if keyword.upper() == b"SIZE" and int(value) > size_limit:
            raise SMTPServerError(552, "5.3.4 the message is too long")


def with_status(code: int, message: bytes) -> bytes:
    """An answer with its enhanced status code, which goes with every one where they are announced: RFC 2034, 4.

    Args:
        code: The code of three digits.
        message: What it says, one line.
    """
    if code == 220 or code // 100 not in (2, 4, 5) or _HAS_STATUS.match(message):
        return message
    return _STATUS.get(code, b"%d.0.0" % (code // 100)) + b" " + message
