"""A client so light that a measurement shows the server."""

from __future__ import annotations

import asyncio
import json
from typing import Any


class Connection:
    """A kept-alive connection that posts JSON."""

    def __init__(self, port: int) -> None:
        self.port, self.streams = port, None

    async def post(self, path: str, body: Any) -> tuple[int, dict[str, str], bytes]:
        """Post a body (bytes are sent as they are); return status, headers and the reply."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(head.encode() + content)
        await writer.drain()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines[1:] if ": " in line)
        headers = {name.lower(): value for name, value in pairs}
        reply = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return int(lines[0].split(" ")[1]), headers, reply

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self.streams is not None:
            self.streams[1].close()
        self.streams = None
