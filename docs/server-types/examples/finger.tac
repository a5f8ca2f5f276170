"""Answers finger (RFC 1288) on the socket that the unit passes as `finger`."""

from twisted.application import service, strports
from twisted.protocols.finger import Finger
from twisted.internet.protocol import Factory

application = service.Application("finger")
strports.service("systemd:domain=INET:name=finger", Factory.forProtocol(Finger)).setServiceParent(application)
