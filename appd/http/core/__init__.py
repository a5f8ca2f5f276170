"""HTTP/1.1 without sockets, threads and clocks: bytes to requests, responses to bytes."""
