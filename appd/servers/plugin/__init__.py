"""`<plugin>`: any installed twistd plugin."""
