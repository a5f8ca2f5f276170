"""Responses that are whole and wait to be sent together; see `appd.http.lane.crew` for why and for how long."""

from __future__ import annotations

from appd.http.lane.sending import Gone
from appd.startup.bare import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from appd.http.lane.crew import Worker

__all__ = ["Batch"]


class Batch(deque):  # type: ignore[type-arg]  # of (Client, bytes)
    """What one worker holds: clients and their responses, in order. Whoever takes one out has that client.

    Args:
        failed: Called with an exception that is nobody's.
    """

    __slots__ = ("_failed",)

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        super().__init__()
        self._failed = failed

    def visit(self, worker: Worker) -> None:
        """Sends what is there. The connections are idle then, so that no call comes of it."""
        while True:
            try:
                # Another worker may do the same.
                client, data = self.popleft()
            except IndexError:
                return
            try:
                client.send(data)
                if client.complete():
                    client.go_on(worker)
            except Gone:
                client.status = 0
                client.gone()
            except BaseException as error:
                client.close()
                self._failed(error)

    def close(self) -> None:
        """Closes the connections: nobody is left who could send."""
        while self:
            self.popleft()[0].close()
