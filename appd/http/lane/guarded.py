"""A mount behind a guard, on the lane.

Mounts without one do not know of it. A password that was right a moment ago costs a keyed hash; one that has to be
looked at is a call among those of the applications, so that whoever polls goes on polling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appd.http.basic import Guard, Refusal
from appd.http.lane.gateway import Call
from appd.http.lane.mounted import Application, Mounted, Whole
from appd.http.site import Mount

if TYPE_CHECKING:
    from typing import IO

    from appd.http.core.request import Request
    from appd.http.lane.client import Client
    from appd.http.lane.crew import Worker
    from appd.http.lane.lane import Lane
    from appd.http.routing import Found

__all__ = ["Guarded"]


class Guarded(Mounted):
    """A mount for those who may.

    Args:
        mount: What the file says of it.
        inner: What answers them.
        guard: What asks the others.
        lane: What runs calls.
    """

    def __init__(self, mount: Mount, inner: Application | Whole, guard: Guard, lane: Lane) -> None:
        super().__init__(mount)
        self.wants_body = inner.wants_body
        self.share = inner.share if isinstance(inner, Application) else lane.admission.share(None)
        self._inner = inner
        self._guard = guard
        self._lane = lane

    def takes_body(self, request: Request) -> bool:
        """See `Mounted`: of whoever shows nothing no body is kept."""
        return self.wants_body and "authorization" in request.named

    def answer(self, client: Client, request: Request, found: Found, body: IO[bytes] | None, worker: Worker) -> bool:
        authorization = request.named.get("authorization")
        user = self._guard.known(authorization)
        call: Any
        if user is not None:
            if isinstance(self._inner, Whole):
                return self._inner.answer(client, request, found, body, worker)
            call = _Known(self._inner, client, request, found.path_info, body, user)
        else:
            refusal = self._guard.refusal(authorization, client.far[0])
            if refusal is not None:
                return self._refuse(client, refusal, body)
            call = _Check(self, client, request, found, body)
        begun = self._lane.begin(call, worker, client.server.limits.queue)
        if begun is not None:
            return begun
        client.server.tell_full()
        return self._refuse(client, Refusal(503, (("Retry-After", "1"),)), body)

    def _refuse(self, client: Client, refusal: Refusal, body: IO[bytes] | None) -> bool:
        if body is not None:
            body.close()
        client.claim()
        return client.plain(refusal.status, *refusal.fields)

    def check(self, call: _Check) -> bool:
        """Looks at the credentials of a request and answers it, but for its end. Returns as `Call.run`."""
        client, request, found, body = call.client, call.request, call.found, call.body
        verdict = self._guard.verify(request.named["authorization"], client.far[0])
        if isinstance(verdict, Refusal):
            if body is not None:
                body.close()
            client.claim()
            return client.plain_page(verdict.status, *verdict.fields)
        if isinstance(self._inner, Whole):
            return self._inner.deliver(client, request, found, body)
        return _Known(self._inner, client, request, found.path_info, body, verdict).run()


class _Known(Call):
    """A call for a user who is known: RFC 3875, 4.1.1 and 4.1.11."""

    __slots__ = ("_user",)

    def __init__(self, mount: Any, client: Client, request: Request, path_info: str, body: Any, user: str) -> None:
        super().__init__(mount, client, request, path_info, body)
        self._user = user

    def _environ(self) -> dict[str, Any]:
        environ = super()._environ()
        environ["REMOTE_USER"] = self._user.encode("utf-8", "surrogateescape").decode("latin-1")
        environ["AUTH_TYPE"] = "Basic"
        # The application has no use for the password, and its error reports have none either.
        environ.pop("HTTP_AUTHORIZATION", None)
        return environ


class _Check:
    """The look at a password, as a call of the mount; the call of the application goes on in its place."""

    __slots__ = ("body", "client", "found", "mount", "request")

    def __init__(self, mount: Guarded, client: Client, request: Request, found: Found, body: IO[bytes] | None) -> None:
        self.mount = mount
        self.client = client
        self.request = request
        self.found = found
        self.body = body

    def run(self) -> bool:
        """See `appd.http.lane.gateway.Call`."""
        return self.mount.check(self)

    def cancel(self) -> None:
        """See `appd.http.lane.gateway.Call`."""
        if self.body is not None:
            self.body.close()
        self.client.dismiss()
