"""What the first answer of a cold start does without."""

NEEDLESS = {
    "OpenSSL", "ZConfig", "argparse", "array", "asyncio", "attr", "collections", "concurrent", "contextlib",
    "cryptography", "ctypes", "dataclasses", "difflib", "enum", "fcntl", "functools", "heapq", "importlib", "inspect",
    "ipaddress", "json", "keyword", "logging", "operator", "pathlib", "queue", "re", "reprlib", "selectors", "shutil",
    "signal", "socket", "ssl", "struct", "systemd", "tempfile", "threading", "traceback", "twisted", "types", "typing",
    "urllib", "warnings", "zlib", "zope",
}  # fmt: skip
