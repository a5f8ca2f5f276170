"""HTTP/2 (RFC 9113) and its header compression (RFC 7541) without I/O: bytes and answers in, events and bytes out.

    codes ◀── states ◀── settings ◀── blocks ◀── receiving ◀── connection ──▶ the driver on the loop
              what a frame may do        fields of a head        frames → events, and back

The states of a stream are a table. A head that a client repeats byte for byte is decoded once, as long as the table of
the compression stays as it is; heads of responses never touch that table, so that they are made once, too.
"""
