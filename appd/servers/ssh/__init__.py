"""The `ssh` server type: files over SFTP and a Python shell for operators, by twisted.conch."""
