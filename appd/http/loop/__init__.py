"""The loop driver: what a connection needs that no thread can wait for.

ASGI applications run on an asyncio loop (uvloop's where it is there) in a thread of its own, over its native transports
and with the same core as the lane: bytes in, events out.

    door ─▶ client: HTTP/1.1 ─▶ exchange: a request of an ASGI application, and its response

A server whose mounts all live here accepts here. Nothing of this is imported before a file asks for it: asyncio takes
longer to import than the lane does to answer.
"""
