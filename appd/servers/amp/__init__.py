"""`<amp>`: the Asynchronous Messaging Protocol."""
