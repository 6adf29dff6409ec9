"""What a socket says, read until the end of something; never for ever."""

import re
import socket
import time


def read_until(sock: socket.socket, pattern: bytes, seconds: float = 30.0) -> bytes:
    """Everything said up to the first match of a pattern, and what came with it."""
    data, end = b"", time.monotonic() + seconds
    sock.settimeout(seconds)
    while not re.search(pattern, data):
        piece = sock.recv(65536)
        assert piece, f"ended before {pattern!r}: {data[-2000:]!r}"
        assert time.monotonic() < end, f"no {pattern!r} in {seconds} s: {data[-2000:]!r}"
        data += piece
    return data
