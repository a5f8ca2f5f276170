"""The HTTP engine: socket → lane → connection → router → mount → response → lane → socket.

It knows no configuration file and no Twisted; `appd.servers.http` turns settings into its records and runs it.
"""
