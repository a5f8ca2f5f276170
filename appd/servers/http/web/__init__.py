"""The engine on twisted.web, for addresses that only Twisted can bind."""
