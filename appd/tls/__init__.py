"""TLS: one policy, one adapter a library.

`<tls>` → `policy` (what is asked for) → `material` (what was read and checked) → an adapter: `openssl` for Twisted's
transports, `stdlib` for who has sockets of its own. `termination` is what a listener holds, `renewal` what keeps it
fresh. Nothing here imports OpenSSL or cryptography before a `<tls>` asks for it.
"""
