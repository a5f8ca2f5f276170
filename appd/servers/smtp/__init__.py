"""The `smtp` server type: mail from clients (submission) and from other servers (SMTP, LMTP), by twisted.mail."""
