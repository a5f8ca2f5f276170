"""The `syslog` server type: messages of RFC 5424 and RFC 3164 into the journal."""
