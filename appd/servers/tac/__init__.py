"""`<tac>`: the application of a .tac file."""
