"""What lies beside the application."""

answer = b"from beside, in "
