"""The `portforward` server type: connections passed on to another address."""
