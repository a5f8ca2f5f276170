"""`<pb>`: Perspective Broker."""
