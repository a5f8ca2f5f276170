"""From an address or a passed socket to a port that listens, and to the connections that it accepts."""
