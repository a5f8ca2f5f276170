"""The `http` server type: WSGI applications and folders of files, by host and path.

    settings ─▶ mounts ─▶ service ─▶ engine: `appd.http`

`mounts` turns a section into checked records, and `service` has an engine serve them on its addresses. Here is what of
it needs Twisted: `loop` and `described` carry its loop and its connections, `resource` is a mount.
"""
