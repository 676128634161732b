"""The server under load: right answers, memory, latencies, overload, SIGTERM, and fuzzed bodies.

    python benchmarks/serve/load.py --clients 200 --seconds 60 --bodies 10000 --output load.json

A server of a tiny model runs in a process of its own. Every answer is compared with the reward that
the same text has in process; a wrong, lost or exchanged one is counted. Then
- a second server with a short queue is overloaded, and how fast it refuses is taken from its log;
- it gets SIGTERM under that load: the answers that clients got are counted against its log;
- a third gets bodies of random fields, and none may be answered 500.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import processor, script_parser
from tiny import WORDS, tiny_folder

from hidden_context.risk import parse
from hidden_context.scoring.config import ModelOptions
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.requests import Scorer

TOLERANCE = 1e-5
FIELDS = (
    *("model", "prompt", "responses", "tools", "risk", "measures", "annotator", "groups", "query"),
    *("prompts", "labels", "input", "messages", "text", "input_ids", "items", "item_first"),
    *("add_special_tokens", "use_activation", "encoding_format", "role", "content", "tool_calls"),
)


class Connection:
    """A kept-alive connection that posts JSON, so light that a measurement shows the server."""

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


class Server:
    """``hidden-context serve`` in a process, and its log."""

    def __init__(self, folder: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "hidden_context", "serve", folder, "--names", "tiny"]
        command += ["--port", "0", "--device", "cpu", "--measures", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.told = False
        self.seconds: dict[int, list[float]] = {}
        self.events: dict[str, dict[str, Any]] = {}
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        while "ready" not in self.events:
            if self.process.poll() is not None:
                sys.exit("the server ended before it was ready")
            time.sleep(0.05)
        self.port = int(self.events["serving"]["port"])

    def _read(self) -> None:
        for text in self.process.stderr or ():
            if not text.startswith("{"):
                continue
            line = json.loads(text)
            if line["event"] == "request":
                self.seconds.setdefault(line["status"], []).append(line["seconds"])
            else:
                self.events[line["event"]] = line

    def resident(self) -> int:
        """Bytes of memory it holds."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))

    def terminate(self) -> None:
        """Send SIGTERM, once: a second one would end it at once."""
        if not self.told:
            self.process.send_signal(signal.SIGTERM)
        self.told = True

    def stop(self) -> None:
        """Stop it, and read the rest of its log."""
        self.terminate()
        self.process.wait(120)
        self.reader.join(10)


Group = tuple[str, list[str], list[float]]
"""A prompt, its responses, and their rewards in process."""


def make_groups(scorer: Scorer, count: int) -> list[Group]:
    """Make prompts of four responses; no two texts are equal, nor are their rewards."""
    draw = random.Random(5)
    groups = []
    for number in range(count):
        prompt = f"\n\nHuman: {number}. " + " ".join(draw.choices(WORDS, k=draw.randint(5, 20)))
        prompt += "?\n\nAssistant:"
        responses = [" " + " ".join(draw.choices(WORDS, k=draw.randint(2, 8))) for _ in range(4)]
        responses = [f"{text} {place}." for place, text in enumerate(responses)]
        # each alone, so that they owe nothing to what they are run with
        raw = [scorer.raw([prompt + response]).complete() for response in responses]
        rewards = [float(parse("mean")(scorer.rewards(one))[0]) for one in raw]
        groups.append((prompt, responses, rewards))
    return groups


def make_request(route: str, group: Group, place: int) -> tuple[Any, list[float]]:
    """Make a body for a route, and the rewards that have to come back."""
    prompt, responses, rewards = group
    text = prompt + responses[place]
    if route == "/v1/distribution":
        return {"prompt": prompt, "responses": responses}, rewards
    bodies = {
        "/get_reward": {"query": [text], "prompts": [prompt], "labels": [None]},
        "/classify": {"model": "tiny", "input": text, "use_activation": False},
        "/v1/embeddings": {"model": "tiny", "input": text},
        "/v1/score/evaluation": {"model": "model", "messages": [text]},
    }
    return bodies[route], [rewards[place]]


READERS: dict[str, Callable[[Any], list[float]]] = {
    "/get_reward": lambda reply: reply["rewards"],
    "/classify": lambda reply: [reply["data"][-1]["probs"][-1]],
    "/v1/embeddings": lambda reply: [reply["data"][-1]["embedding"][-1]],
    "/v1/score/evaluation": lambda reply: reply["scores"],
    "/v1/distribution": lambda reply: reply["mean"],
}
"""How a client reads the rewards, by route."""
ROUTES = tuple(READERS)


async def client(
    port: int, groups: list[Group], seed: int, until: float, tally: Counter[Any], pause: float
) -> list[float]:
    """Post one request after the other, count and check the answers; return their seconds."""
    draw, connection, seconds = random.Random(seed), Connection(port), []
    await asyncio.sleep(draw.random() * 0.2)
    while time.monotonic() < until:
        route, group, place = draw.choice(ROUTES), draw.choice(groups), draw.randrange(4)
        body, expected = make_request(route, group, place)
        started = time.monotonic()
        try:
            status, headers, reply = await connection.post(route, body)
        except ConnectionRefusedError:
            tally["refused_connections"] += 1
            return seconds  # the server has gone
        except (OSError, asyncio.IncompleteReadError):
            tally["lost"] += 1
            connection.close()
            continue
        seconds.append(time.monotonic() - started)
        tally[status] += 1
        if status == 200:
            found = READERS[route](json.loads(reply))
            tally["wrong"] += len(found) != len(expected) or any(
                abs(a - b) > TOLERANCE * max(1.0, abs(b))
                for a, b in zip(found, expected, strict=True)
            )
        else:
            tally["with_retry_after"] += "retry-after" in headers
            await asyncio.sleep(pause)
    connection.close()
    return seconds


def answers_of(tally: Counter[Any]) -> dict[int, int]:
    """How many answers there are of each status."""
    return {status: count for status, count in tally.items() if isinstance(status, int)}


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in milliseconds."""
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50_ms": round(1000 * cuts[49], 2), "p99_ms": round(1000 * cuts[98], 2)}


async def load(server: Server, groups: list[Group], clients: int, seconds: float) -> dict[str, Any]:
    """Let many clients ask for a while; watch memory from second 10 on."""
    tally, memory, started = Counter[Any](), [], time.monotonic()
    until = started + seconds

    async def watch() -> None:
        while time.monotonic() < until:
            memory.append((time.monotonic() - started, server.resident()))
            await asyncio.sleep(1)

    _, *taken = await asyncio.gather(
        watch(), *(client(server.port, groups, n, until, tally, 0.01) for n in range(clients))
    )
    settled = [held for second, held in memory if second >= min(10.0, seconds / 2)]
    return {
        "clients": clients,
        "seconds": round(time.monotonic() - started, 1),
        "answers": answers_of(tally),
        "answers_a_second": round(tally[200] / seconds, 1),
        "wrong": tally["wrong"],
        "lost": tally["lost"],
        "resident_mib": [round(settled[0] / 2**20, 1), round(settled[-1] / 2**20, 1)],
        "resident_growth": round(settled[-1] / settled[0] - 1, 4),
        "client": percentiles([each for own in taken for each in own]),
    }


async def overload(server: Server, groups: list[Group], clients: int) -> dict[str, Any]:
    """Ask for more than the queue holds, and send SIGTERM meanwhile."""
    tally, until = Counter[Any](), time.monotonic() + 20
    tasks = [
        asyncio.create_task(client(server.port, groups, n, until, tally, 0.05))
        for n in range(clients)
    ]
    await asyncio.sleep(10)
    server.terminate()
    await asyncio.gather(*tasks)
    return {
        "clients": clients,
        "answers": answers_of(tally),
        "broken_connections": tally["lost"],
        **{name: tally[name] for name in ("with_retry_after", "wrong", "refused_connections")},
    }


def random_value(draw: random.Random, depth: int = 0) -> Any:
    """Make a JSON value of any kind."""
    kind = draw.randrange(9 if depth < 4 else 6)
    if kind < 2:
        names = ("tiny", "tiny@cvar:0.1", "mean", "cvar:0.05", "user", "float", "", " ", "\ud800")
        return draw.choice((*names, "".join(map(chr, draw.choices(range(1, 0x3000), k=8)))))
    if kind < 6:
        return draw.choice((None, True, 0, -1, 5, 2**70, 0.5, 1e308, float("nan"), float("inf")))
    if kind == 6:
        return {
            draw.choice(FIELDS): random_value(draw, depth + 1) for _ in range(draw.randrange(5))
        }
    return [random_value(draw, depth + 1) for _ in range(draw.randrange(5))]


def random_body(draw: random.Random, groups: list[Group]) -> tuple[str, bytes]:
    """Make a body: a valid one with a changed field, random fields, or random bytes."""
    route = draw.choice((*ROUTES, "/v1/score"))
    kind = draw.random()
    if kind < 0.45 and route in ROUTES:
        body, _ = make_request(route, draw.choice(groups), draw.randrange(4))
        body[draw.choice([*body, draw.choice(FIELDS)])] = random_value(draw)
    elif kind < 0.9:
        body = {draw.choice(FIELDS): random_value(draw) for _ in range(draw.randrange(6))}
    else:
        body = random_value(draw)
    content = json.dumps(body).encode()
    if kind > 0.97:
        place = draw.randrange(len(content))
        content = content[:place] + draw.randbytes(3) + content[place + 1 :]
    return route, content


async def fuzz(server: Server, groups: list[Group], bodies: int, clients: int) -> dict[str, Any]:
    """Post random bodies and count the statuses."""
    statuses, failures = Counter[int](), list[str]()

    async def post(seed: int, count: int) -> None:
        draw, connection = random.Random(seed), Connection(server.port)
        for _ in range(count):
            route, content = random_body(draw, groups)
            try:
                status, _, reply = await connection.post(route, content)
            except (OSError, asyncio.IncompleteReadError):
                status, reply = 0, b""
                connection.close()
            statuses[status] += 1
            finite = b"NaN" not in reply and b"Infinity" not in reply
            if status in (0, 500) or not finite:
                failures.append(f"{route} {content[:200]!r}")

    await asyncio.gather(*(post(n, bodies // clients) for n in range(clients)))
    return {"bodies": sum(statuses.values()), "statuses": dict(statuses), "failures": failures[:5]}


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {"processor": processor()}
    with tempfile.TemporaryDirectory() as root:
        folder = tiny_folder(Path(root) / "tiny")
        groups = make_groups(Scorer(load_model(folder, ModelOptions(device="cpu"))), 250)
        server = Server(folder)
        result["load"] = asyncio.run(load(server, groups, options.clients, options.seconds))
        server.stop()
        result["load"]["server"] = percentiles(server.seconds.get(200, []))

        server = Server(folder, "--max_queue", "16", "--max_items", "4")
        found = asyncio.run(overload(server, groups, options.clients))
        server.stop()
        answered, refused = (server.seconds.get(status, []) for status in (200, 503))
        result["overload_and_sigterm"] = {
            **found,
            "server_503": percentiles(refused),
            "server_200": percentiles(answered),
            "answered_by_the_log": len(answered),
            "accepted_and_not_answered": server.events["stopped"]["unanswered"],
            "answers_lost_on_the_way": len(answered) - found["answers"].get(200, 0),
            "exit_code": server.process.returncode,
        }

        server = Server(folder)
        result["fuzz"] = asyncio.run(fuzz(server, groups, options.bodies, 20))
        server.stop()
    for part, numbers in result.items():
        print(part)
        for name, value in numbers.items() if isinstance(numbers, dict) else {"": numbers}.items():
            print(f"  {name:28} {value}")
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
