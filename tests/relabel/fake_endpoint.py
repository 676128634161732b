"""An OpenAI-compatible endpoint on loopback that answers, refuses and fails as a test tells it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_SECTION = r"<{0}>\n(.*?)\n</{0}>"


@dataclass(frozen=True)
class Asked:
    """A request as it arrived.

    Attributes:
        text: The words of the question.
        attempt: How often these words had been asked before.
        body: The whole request.
        headers: Its headers, lower case.
    """

    text: str
    attempt: int
    body: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of the question's words."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def number(self) -> int:
        """A number that depends on the question's words alone, 0 to 99."""
        return int(self.digest[:8], 16) % 100

    def reply(self, letter: str) -> str:
        """The response shown as A or B."""
        found = re.search(_SECTION.format(f"reply_{letter.lower()}"), self.text, re.S)
        assert found is not None, self.text
        return found[1]


@dataclass(frozen=True)
class Response:
    """What goes back.

    Attributes:
        body: JSON, or text that is none; None to hang up without a word.
        status: HTTP status.
        headers: More headers.
        delay: Seconds before it goes.
    """

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0


def says(
    text: str | None,
    *,
    top: Mapping[str, float] | None = None,
    finish: str = "stop",
    refusal: str | None = None,
    usage: tuple[int, int] | None = (100, 1),
    delay: float = 0.0,
) -> Response:
    """A chat completion.

    Args:
        text: What the model wrote.
        top: Probabilities of its first token, the likeliest first; None gives none back.
        finish: Why it ended.
        refusal: The field of that name.
        usage: Tokens of question and reply; None for no count.
        delay: Seconds before it goes.
    """
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
    choice["message"] = {"role": "assistant", "content": text, "refusal": refusal}
    if top is not None:
        listed = [{"token": token, "logprob": math.log(p)} for token, p in top.items()]
        choice["logprobs"] = {"content": [{**listed[0], "top_logprobs": listed}]}
    body: dict[str, Any] = {"id": "x", "object": "chat.completion", "choices": [choice]}
    if usage is not None:
        names = ("prompt_tokens", "completion_tokens")
        body["usage"] = dict(zip(names, usage, strict=True))
    return Response(body, delay=delay)


def fails(status: int, message: str, code: str | None = None, **headers: str) -> Response:
    """An error in OpenAI's format; underscores in names of headers stand for hyphens."""
    body = {"error": {"message": message, "code": code, "type": "x"}}
    return Response(body, status, {name.replace("_", "-"): v for name, v in headers.items()})


HANGS_UP = Response(None)


class FakeEndpoint:
    """Serves on a thread of its own until it is closed.

    Attributes:
        asked: Digests of the questions, in the order in which they arrived.
        answered: Digests of those whose reply was sent to its end.
        under_way: Requests under way.
        most: Most of them at one time.
        bodies: The requests.
    """

    def __init__(self, respond: Callable[[Asked], Response]) -> None:
        self.respond = respond
        self.asked: list[str] = []
        self.answered: list[str] = []
        self.bodies: list[Mapping[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.errors: list[BaseException] = []
        self.most = self.under_way = 0
        self._seen: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        """The address to give as ``--base_url``."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> FakeEndpoint:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        assert not self.errors, self.errors

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0)
        server = self._loop.run_until_complete(serving)
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever asked is gone
        except Exception as error:
            self.errors.append(error)
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        assert head[0].startswith("POST /v1/chat/completions "), head[0]
        asked = self._note(body, headers)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            response = self.respond(asked)
            await asyncio.sleep(response.delay)
            if response.body is None:
                return False
            await self._send(writer, response)
        finally:
            self.under_way -= 1
        if response.status == 200:
            self.answered.append(asked.digest)
        return True

    def _note(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Asked:
        (message,) = body["messages"]
        asked = Asked(message["content"], self._seen[message["content"]], body, headers)
        self._seen[asked.text] += 1
        self.asked.append(asked.digest)
        self.bodies.append(body)
        self.headers.append(headers)
        return asked

    async def _send(self, writer: asyncio.StreamWriter, response: Response) -> None:
        is_json = not isinstance(response.body, str)
        content = (json.dumps(response.body) if is_json else response.body).encode()
        kind = "application/json" if is_json else "text/html"
        fields = {"Content-Type": kind, "Content-Length": str(len(content)), **response.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {response.status} X\r\n{lines}\r\n".encode() + content)
        await writer.drain()


def quality(text: str) -> int:
    """The number that a response of ``numbered_rows`` holds: more is better."""
    found = re.search(r"\bnumber (\d+)", text)
    assert found is not None, text
    return int(found[1])


def better(asked: Asked) -> str:
    """The right answer: the reply with the larger number, or the smaller one for harmlessness."""
    sign = -1 if "how harmless" in asked.text else 1
    first, second = (sign * quality(asked.reply(letter)) for letter in "AB")
    return "A" if first > second else "B"


def numbered_rows(count: int) -> list[dict[str, Any]]:
    """Pairs whose responses hold numbers: in every other row the chosen one's is the larger."""
    rows = []
    for number in range(count):
        ends = (2 * number + 1, 2 * number) if number % 2 else (2 * number, 2 * number + 1)
        sides = [f" It is number {end}, I believe." for end in ends]
        rows.append(
            {
                "prompt": f"\n\nHuman: Which number has item {number}?\n\nAssistant:",
                "chosen": sides[0],
                "rejected": sides[1],
                "row": number,
            }
        )
    return rows
