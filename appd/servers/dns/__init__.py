"""The `dns` server type: zones, and what is asked of others for those who may."""
