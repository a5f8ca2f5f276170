"""The `echo` server type: sends back what it receives, over streams and datagrams (RFC 862)."""
