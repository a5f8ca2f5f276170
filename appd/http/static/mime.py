"""The name of a file → its media type."""

from __future__ import annotations

from functools import lru_cache

from appd.startup.records import NamedTuple

__all__ = ["MediaType", "media_type"]

# Whatever else it may be, a browser does not run it.
_UNKNOWN = "application/octet-stream"
# What the web is made of, without waiting for the host's table, and the same with each: before Python 3.12 a script is
# application/javascript (RFC 9239: text/javascript), before 3.13 a font or WebP is unknown where the host has no
# /etc/mime.types, and one that knows of Qt takes a video for its translations.
_OURS = {
    ".avif": "image/avif",
    ".br": _UNKNOWN,
    ".bz2": "application/x-bzip2",
    ".css": "text/css",
    ".gif": "image/gif",
    ".gz": "application/gzip",
    ".htm": "text/html",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".mp4": "video/mp4",
    ".otf": "font/otf",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".toml": "application/toml",
    ".ts": "video/mp2t",
    ".ttf": "font/ttf",
    ".txt": "text/plain",
    ".wasm": "application/wasm",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
    ".xz": "application/x-xz",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zst": "application/zstd",
}
# Text whose type does not begin with text/ and whose readers go by a charset.
_TEXT = frozenset({"application/xhtml+xml"})


class MediaType(NamedTuple):
    """What a file is.

    Attributes:
        type: The media type.
        coding: The content coding that is part of what the file is; "" for none.
    """

    type: str
    coding: str = ""

    def with_charset(self, charset: str) -> str:
        """The value of Content-Type.

        Args:
            charset: The charset of text; "" says none.
        """
        is_text = self.type.startswith("text/") or self.type in _TEXT
        return f"{self.type}; charset={charset}" if charset and is_text else self.type


def media_type(name: str) -> MediaType:
    """The type of a file by its name.

    A compressed file is of the type of its compression, since whoever asks for `x.tar.gz` wants that and not a tar file
    that was compressed on its way. The exception is SVG, of which browsers take `.svgz` in no other way.

    Args:
        name: The name of the file.
    """
    return _of_suffix(name[name.rfind(".") :].lower() if "." in name else "")


@lru_cache(512)
def _of_suffix(suffix: str) -> MediaType:
    if suffix in _OURS:
        return MediaType(_OURS[suffix])
    if suffix == ".svgz":
        return MediaType("image/svg+xml", "gzip")
    # Late: the first question has the standard library read /etc/mime.types, some milliseconds long.
    from mimetypes import guess_type

    # With a folder before it, no name looks like a URL.
    type_, coding = guess_type(f"./name{suffix}")
    if coding is not None:
        # The suffix stands for two, as .tgz does.
        return MediaType("application/gzip" if coding == "gzip" else _UNKNOWN)
    return MediaType(type_ or _UNKNOWN)
