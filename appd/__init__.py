"""appd: an application server for Linux hosts that run systemd."""

__version__ = "0.1.0"
