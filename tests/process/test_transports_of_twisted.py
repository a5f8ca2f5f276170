"""Twisted's own tests of transports, run against ours.

A reactor whose listenTCP, listenUNIX, listenUDP and adopt… make the sockets as a .socket unit would and serve them on our
ports. So whatever Twisted's tests say of what an accepted connection does (order, producers, half-close, loseConnection,
abortConnection, what is reported when) is said of ours.

Left out by name is what is meant to be different: our ports log nothing of their own, do not touch the path of a UNIX
socket, and accept one connection at a time.
"""

from __future__ import annotations

import socket

import pytest
from twisted.internet import error
from twisted.internet.test import test_newtls, test_tcp, test_tls, test_udp, test_unix
from twisted.trial.unittest import SynchronousTestCase

from appd.listening.connections import Connections
from appd.listening.ports import adopt_datagram, adopt_stream
from appd.listening.reactor import PromptReactor


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """They make their sockets and files in the working directory."""
    monkeypatch.chdir(tmp_path)


class OurReactor(PromptReactor):
    """Serves on our ports; the reactor is that of a worker, too."""

    @staticmethod
    def _bound(kind, family, address, backlog=None):
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
            sock.bind(address)
            if backlog is not None:
                sock.listen(backlog)
        except OSError as failed:
            sock.close()
            port = address[1] if family != socket.AF_UNIX else address
            raise error.CannotListenError(address[0], port, failed) from None
        return sock

    def _stream(self, sock, factory):
        with sock:
            return adopt_stream(self, sock.fileno(), sock.family, factory, Connections())

    def listenTCP(self, port, factory, backlog=50, interface="", **_options):
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        address = (interface, port)
        if "%" in interface:
            address = socket.getaddrinfo(interface, port)[0][4]
        return self._stream(self._bound(socket.SOCK_STREAM, family, address, backlog), factory)

    def listenUNIX(self, address, factory, backlog=50, mode=0o666, wantPID=0):
        return self._stream(self._bound(socket.SOCK_STREAM, socket.AF_UNIX, address, backlog), factory)

    def adoptStreamPort(self, fd, family, factory):
        return adopt_stream(self, fd, family, factory, Connections())

    def _datagram(self, sock, protocol):
        with sock:
            return adopt_datagram(self, sock.fileno(), sock.family, protocol, Connections())

    def listenUDP(self, port, protocol, interface="", maxPacketSize=8192):
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        address = (interface, port)
        if "%" in interface:
            address = socket.getaddrinfo(interface, port)[0][4]
        return self._datagram(self._bound(socket.SOCK_DGRAM, family, address), protocol)

    def adoptDatagramPort(self, fd, family, protocol, maxPacketSize=8192):
        if family not in (socket.AF_INET, socket.AF_INET6):
            raise error.UnsupportedAddressFamily(family)
        return adopt_datagram(self, fd, family, protocol, Connections())


# What is meant to be different, and why.
LOGS = "our ports log nothing: the service says when it starts and stops"
OURS = "who binds the socket is this module, or systemd, or appd.listening.binding"
LEFT_OUT = {
    "test_startedListeningLogMessage": LOGS,
    "test_connectionLostLogMsg": LOGS,
    "test_connectionLostLogMessage": LOGS,
    "test_mode": OURS,
    "test_listenFailure": OURS,
    "test_invalidInterface": OURS,
}
# Their certificates are made in a way that newer releases of pyOpenSSL warn of, and they leave sockets to the collector.
pytestmark = pytest.mark.filterwarnings("ignore")

BUILDERS = [
    test_tcp.TCP4ClientTestsBuilder,
    test_tcp.TCP6ClientTestsBuilder,
    test_tcp.TCPPortTestsBuilder,
    test_tcp.TCPFDPortTestsBuilder,
    test_tcp.TCPConnectionTestsBuilder,
    test_tcp.TCPTransportTestsBuilder,
    test_tcp.AbortConnectionTests,
    test_unix.UNIXTestsBuilder,
    test_unix.UNIXDatagramTestsBuilder,
    test_unix.UNIXPortTestsBuilder,
    test_unix.UNIXFDPortTestsBuilder,
    test_udp.UDPServerTestsBuilder,
    test_udp.UDPFDServerTestsBuilder,
    test_tls.StartTLSClientTestsMixin,
    test_tls.AbortSSLConnectionTests,
    test_tls.SSLClientTestsMixin,
    test_newtls.ProducerTestsMixin,
]


def _ours(builder):
    body = {
        "reactorFactory": OurReactor,
        "__module__": __name__,
        **{name: None for name in LEFT_OUT if hasattr(builder, name)},
    }
    return type(f"{builder.__name__}OnOurPorts", (builder, SynchronousTestCase), body)


for _builder in BUILDERS:
    _class = _ours(_builder)
    globals()[_class.__name__] = _class
del _class, _builder
