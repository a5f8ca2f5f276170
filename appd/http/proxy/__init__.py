"""Requests that another server answers: `<proxy>`, as an ASGI application of its own.

    request ─▶ fields ─▶ balance ─▶ forwarding (aiohttp) ─▶ response
                                    bridge: the same for WebSockets

What goes where is decided without sockets (`upstream`, `fields`, `balance`, `retries`); `forwarding` and `bridge` move
the bytes, with aiohttp as the client. It is imported when a server starts and a file has a `<proxy>`.
"""
