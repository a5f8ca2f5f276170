"""`<timer>`: a callable every so often."""
