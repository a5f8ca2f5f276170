"""The `ftp` server type: files over FTP and FTPS, by twisted.protocols.ftp."""
