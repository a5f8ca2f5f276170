"""Clients of PB and AMP, in processes of their own: Twisted's, since there are no others.

usage: callers.py PROTOCOL ENDPOINT CALL…    prints what each call returned, or its error, a line each

PROTOCOL is pb, amp, or pb:USER:PASSWORD. A CALL `wait` waits for a line on standard input.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import defer, endpoints, task
from twisted.internet.threads import deferToThread
from twisted.protocols import amp
from twisted.spread import pb


class Square(amp.Command):
    arguments = ((b"number", amp.Integer()),)
    response = ((b"square", amp.Integer()),)
    errors = {ValueError: b"VALUE"}  # a table of Twisted's


async def main(reactor: Any, protocol: str, where: str, *calls: str) -> None:
    endpoint = endpoints.clientFromString(reactor, where)
    kind, *login = protocol.split(":")
    if kind == "pb":
        from twisted.cred.credentials import UsernamePassword

        factory = pb.PBClientFactory()
        await endpoint.connect(factory)
        if login:
            try:
                remote = await factory.login(UsernamePassword(login[0].encode(), login[1].encode()))
            except pb.RemoteError as error:
                print("refused", type(error).__name__, error.remoteType.decode(), error, flush=True)
                return
        else:
            remote = await factory.getRootObject()
        for one in calls:
            name, *arguments = one.split(",")
            if name == "wait":
                print("waits", flush=True)
                await deferToThread(sys.stdin.readline)
                continue
            print(await remote.callRemote(name, *arguments), flush=True)
        factory.disconnect()
    else:
        client = await endpoints.connectProtocol(endpoint, amp.AMP())
        for one in calls:
            if one == "wait":
                print("waits", flush=True)
                await deferToThread(sys.stdin.readline)
                continue
            try:
                print((await client.callRemote(Square, number=int(one)))["square"], flush=True)
            except ValueError as error:
                print("ValueError", error, flush=True)
        client.transport.loseConnection()


if __name__ == "__main__":
    task.react(lambda reactor: defer.ensureDeferred(main(reactor, *sys.argv[1:])))
