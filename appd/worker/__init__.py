"""A worker: one process that serves, from its file to its end."""
