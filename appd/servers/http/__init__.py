"""The `http` server type: WSGI applications and folders of files, by host and path.

    settings ─▶ mounts ─▶ router ─▶ engine

`mounts` turns a section into checked records, `routing` finds the record for a host and a path, and neither knows who
speaks HTTP. `web` and its companions (`web_*`) are the engine, on twisted.web: only they import it.
"""
