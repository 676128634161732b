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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import processor, script_parser
from serve.client import Connection
from tiny import WORDS, tiny_folder

from hidden_context.risk import parse
from hidden_context.scoring.config import ModelOptions
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.requests import Scorer

TOLERANCE = 1e-5
ROUTES = ("/get_reward", "/classify", "/v1/embeddings", "/v1/score/evaluation", "/v1/distribution")
FIELDS = (
    *("model", "prompt", "responses", "tools", "risk", "measures", "annotator", "groups", "query"),
    *("prompts", "labels", "input", "messages", "text", "input_ids", "items", "item_first"),
    *("add_special_tokens", "use_activation", "encoding_format", "role", "content", "tool_calls"),
)


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
                sys.exit("the server did not start")
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


@dataclass
class Tally:
    """What clients saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    lost: int = 0
    refused_connections: int = 0
    seconds: list[float] = field(default_factory=list)
    retry_after: int = 0


@dataclass(frozen=True)
class Group:
    """A prompt, its responses, and their rewards in process."""

    prompt: str
    responses: list[str]
    rewards: list[float]


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
        rewards = [float(scorer.values(one, parse("mean"))[0]) for one in raw]
        groups.append(Group(prompt, responses, rewards))
    return groups


def make_request(route: str, group: Group, place: int) -> tuple[Any, list[float]]:
    """Make a body for a route, and the rewards that have to come back."""
    text, reward = group.prompt + group.responses[place], [group.rewards[place]]
    if route == "/get_reward":
        return {"query": [text], "prompts": [group.prompt], "labels": [None]}, reward
    if route == "/classify":
        return {"model": "tiny", "input": text, "use_activation": False}, reward
    if route == "/v1/embeddings":
        return {"model": "tiny", "input": text}, reward
    if route == "/v1/score/evaluation":
        return {"model": "model", "messages": [text]}, reward
    return {"prompt": group.prompt, "responses": group.responses}, group.rewards


def read_rewards(route: str, reply: Any) -> list[float]:
    """Read the rewards as the route's client does."""
    if route == "/get_reward":
        return list(reply["rewards"])
    if route == "/classify":
        return [reply["data"][-1]["probs"][-1]]
    if route == "/v1/embeddings":
        return [reply["data"][-1]["embedding"][-1]]
    return list(reply["scores"] if route == "/v1/score/evaluation" else reply["mean"])


async def client(
    port: int, groups: list[Group], seed: int, until: float, tally: Tally, pause: float
) -> None:
    """Post one request after the other and check every answer."""
    draw, connection = random.Random(seed), Connection(port)
    await asyncio.sleep(draw.random() * 0.2)
    while time.monotonic() < until:
        route, group, place = draw.choice(ROUTES), draw.choice(groups), draw.randrange(4)
        body, expected = make_request(route, group, place)
        started = time.monotonic()
        try:
            status, headers, reply = await connection.post(route, body)
        except ConnectionRefusedError:
            tally.refused_connections += 1
            return  # the server has gone
        except (OSError, asyncio.IncompleteReadError):
            tally.lost += 1
            connection.close()
            continue
        tally.seconds.append(time.monotonic() - started)
        tally.statuses[status] += 1
        if status == 200:
            found = read_rewards(route, json.loads(reply))
            right = len(found) == len(expected) and all(
                abs(a - b) <= TOLERANCE * max(1.0, abs(b))
                for a, b in zip(found, expected, strict=True)
            )
            tally.wrong += not right
        else:
            tally.retry_after += "retry-after" in headers
            await asyncio.sleep(pause)
    connection.close()


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in milliseconds."""
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50_ms": round(1000 * cuts[49], 2), "p99_ms": round(1000 * cuts[98], 2)}


async def load(server: Server, groups: list[Group], clients: int, seconds: float) -> dict[str, Any]:
    """Let many clients ask for a while; watch memory from second 10 on."""
    tally, memory, started = Tally(), [], time.monotonic()
    until = started + seconds

    async def watch() -> None:
        while time.monotonic() < until:
            memory.append((time.monotonic() - started, server.resident()))
            await asyncio.sleep(1)

    await asyncio.gather(
        watch(), *(client(server.port, groups, n, until, tally, 0.01) for n in range(clients))
    )
    settled = [held for second, held in memory if second >= min(10.0, seconds / 2)]
    return {
        "clients": clients,
        "seconds": round(time.monotonic() - started, 1),
        "answers": dict(tally.statuses),
        "answers_a_second": round(tally.statuses[200] / seconds, 1),
        "wrong": tally.wrong,
        "lost": tally.lost,
        "resident_mib": [round(settled[0] / 2**20, 1), round(settled[-1] / 2**20, 1)],
        "resident_growth": round(settled[-1] / settled[0] - 1, 4),
        "client": percentiles(tally.seconds),
    }


async def overload(server: Server, groups: list[Group], clients: int) -> dict[str, Any]:
    """Ask for more than the queue holds, and send SIGTERM meanwhile."""
    tally = Tally()
    until = time.monotonic() + 20
    tasks = [
        asyncio.create_task(client(server.port, groups, n, until, tally, 0.05))
        for n in range(clients)
    ]
    await asyncio.sleep(10)
    server.terminate()
    await asyncio.gather(*tasks)
    return {
        "clients": clients,
        "answers": dict(tally.statuses),
        "with_retry_after": tally.retry_after,
        "wrong": tally.wrong,
        "broken_connections": tally.lost,
        "refused_connections": tally.refused_connections,
    }


def random_value(draw: random.Random, depth: int = 0) -> Any:
    """Make a JSON value of any kind."""
    kind = draw.randrange(9 if depth < 4 else 6)
    if kind < 2:
        names = ("tiny", "tiny@cvar:0.1", "mean", "cvar:0.05", "user", "float", "", " ", "\ud800")
        return draw.choice((*names, "".join(map(chr, draw.choices(range(1, 0x3000), k=8)))))
    if kind < 6:
        numbers = (None, True, 0, -1, 5, 2**70, 0.5, 1e308, float("nan"), float("inf"))
        return draw.choice(numbers)
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
        answered = len(server.seconds.get(200, []))
        found["server_503"] = percentiles(server.seconds.get(503, []))
        found["server_200"] = percentiles(server.seconds.get(200, []))
        found["answered_by_the_log"] = answered
        found["accepted_and_not_answered"] = server.events["stopped"]["unanswered"]
        found["answers_lost_on_the_way"] = answered - found["answers"].get(200, 0)
        found["exit_code"] = server.process.returncode
        result["overload_and_sigterm"] = found

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
