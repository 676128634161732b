"""Models and a client that the measurements of the server share.

The tiny model has random weights; SmolLM2-135M has its own and a random score head. Rewards mean
nothing, but every text has another.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from hidden_context import heads
from hidden_context.models.head_file import HeadFile

WORDS = ("tea", "rain", "maps", "bread", "music", "snow", "birds", "roads", "clocks", "rivers")


def tiny_folder(folder: Path, num_outputs: int = 2, width: int = 64) -> str:
    """Save a Llama of two layers with a byte tokenizer; return the folder's name."""
    letters = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    fast = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast, model_max_length=2048, **names)
    shape = {"hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {
        "num_key_value_heads": 2,
        "intermediate_size": width * 5 // 2,
        "vocab_size": len(letters),
    }
    config = LlamaConfig(**shape, num_labels=num_outputs, max_position_embeddings=2048)
    config.pad_token_id = 0
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():  # as they are drawn, all texts look alike
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(5)
    return _save(model, tokenizer, folder, num_outputs)


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
    return _save(model, tokenizer, folder, 1)


def _save(model: Any, tokenizer: Any, folder: Path, num_outputs: int) -> str:
    model.config.problem_type = "regression"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    head = heads.make("base" if num_outputs == 1 else "mean_and_variance")
    HeadFile(head, 2048, "random").save(folder)
    return str(folder)


class Connection:
    """A kept connection that posts JSON: so little work that the server is what is measured."""

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


def processor() -> str:
    """Name the processor, its cores, and how busy the machine is."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    return f"{names[0] if names else 'unknown'}, {os.cpu_count()} cores, load average {load}"
