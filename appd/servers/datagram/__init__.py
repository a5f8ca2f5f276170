"""The `datagram` server type: any DatagramProtocol by its dotted name."""
