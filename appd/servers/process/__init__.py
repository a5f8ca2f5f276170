"""`<process>`: a child that is kept running, with descriptors passed by name."""
