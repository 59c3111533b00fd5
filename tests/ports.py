"""Free ports for services that tests start."""

import random
import socket


def free_port() -> int:
    """Return a port that nobody listens on, from below those that the system gives to outgoing connections.

    Of those any other test's client may take one before the service has come to listen on it.
    """
    while True:
        port = random.randrange(15_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
