"""An OpenAI-compatible endpoint on loopback that answers, refuses and fails as a test tells it."""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final


@dataclass(frozen=True)
class Asked:
    """A request as it arrived.

    Attributes:
        text: The words of the question.
        attempt: How often these words had been asked before.
        body: The whole request.
        headers: Its headers, lower case.
        time: When it arrived, in seconds.
    """

    text: str
    attempt: int = 0
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    time: float = field(default_factory=time.monotonic)

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
        found = re.search(rf"<(reply_{letter.lower()})>\n(.*?)\n</\1>", self.text, re.S)
        assert found is not None, self.text
        return found[2]


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
    text: str,
    *,
    top: Mapping[str, float] | None = None,
    finish: str = "stop",
    usage: tuple[int, int] | None = (100, 1),
    delay: float = 0.0,
) -> Response:
    """A chat completion.

    Args:
        text: What the model wrote.
        top: Probabilities of its first token, the likeliest first; None gives none back.
        finish: Why it ended.
        usage: Tokens of question and reply; None for no count.
        delay: Seconds before it goes.
    """
    message = {"role": "assistant", "content": text, "refusal": None}
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "message": message}
    if top is not None:
        listed = [{"token": token, "logprob": math.log(p)} for token, p in top.items()]
        choice["logprobs"] = {"content": [{**listed[0], "top_logprobs": listed}]}
    body: dict[str, Any] = {"id": "x", "object": "chat.completion", "choices": [choice]}
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return Response(body, delay=delay)


def fails(status: int, message: str, code: str | None = None, **headers: str) -> Response:
    """An error in OpenAI's format; underscores in names of headers stand for hyphens."""
    body = {"error": {"message": message, "code": code, "type": "x"}}
    return Response(body, status, {name.replace("_", "-"): v for name, v in headers.items()})


HANGS_UP = Response(None)


class FakeEndpoint(ThreadingHTTPServer):
    """Serves on a thread of its own until it is closed.

    Attributes:
        requests: The requests, in the order in which they arrived.
        answered: Digests of the questions whose reply was sent to its end.
        under_way: Requests under way.
        most: Most of them at one time.
    """

    daemon_threads, block_on_close, request_queue_size = True, False, 64

    def __init__(self, respond: Callable[[Asked], Response]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.respond, self.lock = respond, threading.Lock()
        self.requests: list[Asked] = []
        self.answered: list[str] = []
        self.errors: list[BaseException | None] = []
        self.most = self.under_way = 0

    @property
    def url(self) -> str:
        """The address to give as ``--base_url``."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def asked(self) -> list[str]:
        """Digests of the questions, in the order in which they arrived."""
        return [one.digest for one in self.requests]

    def __enter__(self) -> FakeEndpoint:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()
        assert not self.errors, self.errors

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):  # whoever asked is gone
            self.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    server: FakeEndpoint

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions", self.path
        content = self.rfile.read(length := int(self.headers["content-length"]))
        if len(content) < length:
            raise ConnectionError("whoever asked was killed")
        headers = {name.lower(): value for name, value in self.headers.items()}
        body, server = json.loads(content), self.server
        (message,) = body["messages"]
        with server.lock:
            attempt = sum(one.text == message["content"] for one in server.requests)
            asked = Asked(message["content"], attempt, body, headers)
            server.requests.append(asked)
            server.under_way += 1
            server.most = max(server.most, server.under_way)
            response = server.respond(asked)
        try:
            time.sleep(response.delay)
            if response.body is None:
                self.close_connection = True
                return
            self._send(response)
            if response.status == 200:
                server.answered.append(asked.digest)
        finally:
            with server.lock:
                server.under_way -= 1

    def _send(self, response: Response) -> None:
        is_json = not isinstance(response.body, str)
        content = (json.dumps(response.body) if is_json else response.body).encode()
        kind = "application/json" if is_json else "text/html"
        self.send_response_only(response.status)
        fields = {"Content-Type": kind, "Content-Length": str(len(content)), **response.headers}
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


BASE: Final = {
    "data_path": "in.jsonl",
    "output": "out.jsonl",
    "model": "m",
    "objectives": ["helpful"],
}


def arguments(endpoint: FakeEndpoint, *options: str) -> list[str]:
    """The command line that relabels ``in.jsonl``; options may begin with more objectives."""
    fixed = ("--output=out.jsonl", "--model=m", f"--base_url={endpoint.url}", "--objectives")
    return ["relabel", "in.jsonl", *fixed, "helpful", *options]


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


# by the last digit of a question's number: what goes wrong at first, and what is no answer
FAILURES: Final = {
    0: fails(429, "slow down", retry_after="0.02"),
    1: HANGS_UP,
    2: fails(503, "overloaded"),
    3: Response("<html>gateway</html>", 502),
}
ABSTENTIONS: Final = {
    4: ("Bananas are yellow.", "unparseable"),
    5: ("I'm sorry, but I can't compare these.", "refusal"),
    6: ("", "filter"),
}


def troubled(asked: Asked) -> Response:
    """The right answer, after one failure of most questions; some never get one."""
    kind = asked.number % 10
    if kind in FAILURES and asked.attempt == 0:
        return FAILURES[kind]
    if kind in ABSTENTIONS:
        return says(ABSTENTIONS[kind][0], finish="content_filter" if kind == 6 else "stop")
    return says(better(asked), delay=0.03 if kind == 7 else 0.0)


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
