"""Log events to journal entries, without anybody waiting for the journal.

The way of an entry::

    Twisted event ──┐
    logging record ─┼─▶ level filter ─▶ Entry ─▶ bounded queue ─▶ writer thread ─▶ sink ─▶ journald | stderr
    print line ─────┘        (in the thread that logs)               (the only one that waits)

An event is turned into text in the thread that logs it, because it refers to objects that live on and change. From
there on it is plain data. What does not fit into the queue is dropped and counted, and the count is an entry of its own
as soon as writing goes again.

The journal is spoken to over its native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/) and not by
``systemd.journal.sendv``: that call keeps the interpreter lock while it waits for journald (python-systemd 235; open
upstream as pull request 170), so that with a stopped journald every thread of the process stands still, whichever
called it. It also takes an absent journal for success. See ``native.py``.

Importing this package imports neither Twisted nor ``logging``, ``json``, ``socket`` or ``traceback``.
"""

from appd.journal.entry import CRITICAL, DEBUG, ERROR, INFO, NOTICE, WARNING, Entry
from appd.journal.log import Log

__all__ = ["CRITICAL", "DEBUG", "ERROR", "INFO", "NOTICE", "WARNING", "Entry", "Log"]
