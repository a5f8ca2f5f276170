"""`twistd -n appd --config FILE` runs one worker."""

from twisted.application.service import ServiceMaker

appd = ServiceMaker(
    "appd",
    "appd.tap",
    "An application server that adopts the sockets systemd passes and serves what a ZConfig file says.",
    "appd",
)
