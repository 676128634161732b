"""How much faster requests that arrive together are than one at a time.

    python benchmarks/serve/coalescing.py --smollm2 FOLDER --output serve_throughput.json

Sixteen requests of one text each, a prompt of 400 tokens and responses of 32, by
- *coalesced*: posted at once to the server over loopback, its queue and HTTP included;
- *queue*: put at once into the server's queue, without HTTP;
- *separate*: sixteen runs of ours, in process, one text each, nothing else included;
- *separate over HTTP*: posted one after the other to the server, which waits for no others;
- *OpenRLHF*: the procedure of its ``serve_rm``, rewritten: left padding, attention mask and
  positions from it, one request at a time, in process, float32, sdpa;
- *OpenRLHF over HTTP*: the same behind a server as it has one, posted one after the other.

The ways are run in turn, round after round; medians are compared. Rewards have to agree.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse
from transformers import AutoModelForSequenceClassification, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import processor, script_parser
from serve.load import Connection
from tiny import WORDS, save_classifier, tiny_folder

from hidden_context.data.storage.files import write_json
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.prepare import MarkedText
from hidden_context.scoring.requests import Scorer
from hidden_context.serve.app import make_app
from hidden_context.serve.config import ServeConfig
from hidden_context.serve.service import Served

TEXTS, PROMPT, RESPONSE = 16, 400, 32


def smollm2_folder(source: str, folder: Path) -> str:
    """Save SmolLM2 as a classifier with a random score head; return the folder's name."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        source, num_labels=1, dtype=torch.float32
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    return save_classifier(model, tokenizer, folder)


def make_texts(tokenizer: Any) -> list[str]:
    """Make texts that begin with one prompt, of as many tokens as the tokenizer allows."""
    draw = torch.Generator().manual_seed(1)

    def words(tokens: int, start: str = "") -> str:
        text = start
        while len(tokenizer(text, add_special_tokens=False)["input_ids"]) < tokens:
            text += " " + WORDS[int(torch.randint(len(WORDS), (1,), generator=draw))]
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][:tokens]
        return str(tokenizer.decode(ids))

    prompt = words(PROMPT)
    return [prompt + words(RESPONSE, f" {number}") for number in range(TEXTS)]


class OpenRLHF:
    """The serving procedure of OpenRLHF, rewritten in float32 with sdpa."""

    def __init__(self, folder: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()

    @torch.no_grad()
    def rewards(self, queries: list[str]) -> list[float]:
        """Pad on the left, run, and read the reward at the last attended token."""
        longest = {"max_length": 2048, "truncation": True, "padding": True}
        batch = self.tokenizer(queries, return_tensors="pt", add_special_tokens=False, **longest)
        mask = batch["attention_mask"]
        positions = (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, 1)
        hidden = self.model.base_model(
            batch["input_ids"], attention_mask=mask, position_ids=positions
        ).last_hidden_state
        last = mask.size(1) - 1 - mask.long().fliplr().argmax(dim=1, keepdim=True)
        return self.model.score(hidden)[..., 0].gather(1, last).squeeze(1).tolist()

    def app(self) -> FastAPI:
        """Make the server around it: one route, nothing put together."""
        app = FastAPI()

        @app.post("/get_reward")
        async def get_reward(request: Request) -> JSONResponse:
            rewards = self.rewards((await request.json())["query"])
            logs = {"dummy_scores": rewards}
            return JSONResponse({"rewards": rewards, "scores": rewards, "extra_logs": logs})

        return app


async def measure(folder: str, rounds: int) -> dict[str, Any]:
    """Time all ways on one model."""
    config = ServeConfig(models=[folder], names=["model"], device="cpu", precision="float32")
    scorer = Scorer(load_model(folder, config), config)
    texts = make_texts(scorer.model.tokenizer)
    asked = [MarkedText(text) for text in texts]
    theirs = OpenRLHF(folder)
    apart = ServeConfig(models=[folder], names=["model"], coalesce_ms=0.0)
    apps = [make_app([Served("model", folder, scorer)], options) for options in (config, apart)]
    servers = [await _start(app) for app in (*apps, theirs.app())]
    batcher = apps[0].state.service.batcher
    connections = [Connection(servers[0][1]) for _ in texts]
    alone, of_theirs = (Connection(port) for _, port in servers[1:])

    async def post(connection: Connection, text: str) -> float:
        status, _, reply = await connection.post("/get_reward", {"query": [text]})
        assert status == 200, reply
        return float(json.loads(reply)["rewards"][0])

    async def coalesced() -> list[float]:
        pairs = zip(connections, texts, strict=True)
        return list(await asyncio.gather(*(post(one, text) for one, text in pairs)))

    async def queue() -> list[float]:
        found = await asyncio.gather(*(batcher.submit(scorer, [one]) for one in asked))
        return [float(answers.raw[0, 0]) for _, answers in found]

    async def separate() -> list[float]:
        return [float(scorer.raw([one]).raw[0, 0]) for one in asked]

    async def openrlhf() -> list[float]:
        return [theirs.rewards([text])[0] for text in texts]

    async def one_by_one(connection: Connection) -> list[float]:
        return [await post(connection, text) for text in texts]

    ways = {
        "coalesced": coalesced,
        "queue": queue,
        "separate": separate,
        "separate over HTTP": partial(one_by_one, alone),
        "OpenRLHF": openrlhf,
        "OpenRLHF over HTTP": partial(one_by_one, of_theirs),
    }
    result = await _time(ways, rounds)
    for connection in (*connections, alone, of_theirs):
        connection.close()
    for server, _ in servers:
        server.should_exit = True
    await asyncio.sleep(0.5)
    return result


async def _start(app: FastAPI) -> tuple[uvicorn.Server, int]:
    settings = uvicorn.Config(
        app, port=0, log_config=None, access_log=False, timeout_keep_alive=600
    )
    server = uvicorn.Server(settings)
    server.install_signal_handlers = lambda: None
    server.task = asyncio.ensure_future(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    return server, int(server.servers[0].sockets[0].getsockname()[1])


async def _time(
    ways: dict[str, Callable[[], Awaitable[list[float]]]], rounds: int
) -> dict[str, Any]:
    expected = await ways["separate"]()
    apart = {}
    for name, way in ways.items():  # which also warms everything up
        apart[name] = max(abs(a - b) for a, b in zip(await way(), expected, strict=True))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            await way()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "seconds": medians,
        "times_faster": {
            f"{mine} than {other}": medians[other] / medians[mine]
            for mine in ("coalesced", "queue")
            for other in list(ways)[2:]
        },
        "largest_difference": apart,
        "scale_of_rewards": max(map(abs, expected)),
    }


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--smollm2", help="folder of SmolLM2-135M (see smollm2.py)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {"processor": processor(), "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as root:
        folders = {"tiny": tiny_folder(Path(root) / "tiny", 1)}
        if options.smollm2:
            folders["SmolLM2-135M"] = smollm2_folder(options.smollm2, Path(root) / "smollm2")
        for name, folder in folders.items():
            rounds = options.rounds if name != "tiny" else 5 * options.rounds
            result[name] = asyncio.run(measure(folder, rounds))
            for way, seconds in result[name]["seconds"].items():
                print(f"{name:14} {way:20} {seconds * 1000:9.1f} ms")
            for pair, times in result[name]["times_faster"].items():
                print(f"{name:14} {pair:36} {times:5.1f} times")
    print(result["processor"])
    if options.output:
        write_json(options.output, result)


if __name__ == "__main__":
    main()
