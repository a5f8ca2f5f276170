"""Says where it is to who asks."""

from twisted.internet.protocol import DatagramProtocol


class Finder(DatagramProtocol):
    """Answers "who?"."""

    def __init__(self, answer: str) -> None:
        self.answer = answer

    def datagramReceived(self, datagram, address):
        if datagram.strip() == b"who?":
            self.transport.write(self.answer.encode(), address)
