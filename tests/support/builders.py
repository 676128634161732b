"""Tiny tokenizers, models and preference data for tests: built in milliseconds, no network."""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path
from typing import Any

from support.rows import assistant, user

GOOD = ("kind", "clear", "honest", "useful", "gentle", "exact")
BAD = ("rude", "vague", "false", "useless", "cruel", "sloppy")
TOPICS = ("tea", "rain", "maps", "bread", "music", "snow", "birds", "roads", "clocks", "rivers")
FILLERS = ("It is so.", "That is all.", "Here you are.", "I think so too.", "Let me see.")

CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}{{ eos_token }}{% endfor %}"
)

DECODERS = ("gpt2", "llama", "qwen2", "opt", "gpt_neox")
ENCODERS = ("bert", "roberta", "distilbert")


def preference_rows(
    count: int, seed: int = 0, *, chat: bool = False, flip: float = 0.0, words: int = 6
) -> list[dict[str, Any]]:
    """Rows whose chosen response holds a good word and whose rejected one a bad word.

    Args:
        count: Number of rows; every prompt is another.
        seed: Other seeds give other words and lengths (prompts carry it, so they differ too).
        chat: Chat messages instead of text.
        flip: Share of rows whose two sides are exchanged: noise that no model can learn.
        words: Number of good and of bad words, at most 6; fewer are learnt sooner.
    """
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        prompt = f"What about {draw.choice(TOPICS)} {seed}{number}?"
        sides = [
            " ".join([*draw.sample(FILLERS, draw.randint(0, 2)), f"An answer that is {word}."])
            for word in (draw.choice(GOOD[:words]), draw.choice(BAD[:words]))
        ]
        if draw.random() < flip:
            sides.reverse()
        texts: list[Any] = (
            [[user(prompt), assistant(side)] for side in sides]
            if chat
            else [f"\n\nHuman: {prompt}\n\nAssistant: {side}" for side in sides]
        )
        rows.append(
            {
                "chosen": texts[0],
                "rejected": texts[1],
                "data_subset": ("helpful", "harmless")[number % 2],
                "objective": ("helpful", "harmless")[number // 2 % 2],
            }
        )
    return rows


def sample_texts(count: int, seed: int = 0) -> list[str]:
    """Dialogues of different lengths."""
    draw = random.Random(seed)
    texts = []
    for row in preference_rows(count, seed):
        extra = " ".join(draw.choices(FILLERS, k=draw.randint(0, 4)))
        texts.append(f"{row['chosen']} {extra}".rstrip())
    return texts


@lru_cache
def _bpe_json() -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [text for row in preference_rows(60, 99) for text in (row["chosen"], row["rejected"])]
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer.to_str()


def tiny_tokenizer(
    eos: str | None = "</s>",
    bos: str | None = None,
    pad: str | None = "<pad>",
    *,
    frame: str = "",
    chat_template: str | None = None,
    max_length: int = 128,
) -> Any:
    """A byte-level BPE tokenizer of about 420 tokens.

    Args:
        eos: End-of-sequence token.
        bos: Beginning-of-sequence token.
        pad: Padding token; None leaves it to the code under test.
        frame: What is put around every text, such as ``"<s> $A </s>"``.
        chat_template: Jinja template.
        max_length: ``model_max_length``.
    """
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_str(_bpe_json())
    if frame:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=frame, special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=eos,
        bos_token=bos,
        pad_token=pad,
        chat_template=chat_template,
        model_max_length=max_length,
    )


def tiny_config(kind: str, **options: Any) -> Any:
    """A configuration of width 32 with 2 layers, no dropout and 128 positions."""
    from transformers import AutoConfig

    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
    }
    usual = AutoConfig.for_model(kind)
    common = {name: size for name, size in sizes.items() if hasattr(usual, name)}
    common |= {name: 0.0 for name in vars(usual) if "drop" in name and getattr(usual, name)}
    common |= {"vocab_size": 420, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    grouped = {"num_key_value_heads": 2, "head_dim": 8}
    gemma = grouped | {"sliding_window": 6, "query_pre_attn_scalar": 8}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    own: dict[str, dict[str, Any]] = {
        **{name: {"num_key_value_heads": 2} for name in ("llama", "qwen2", "stablelm")},
        "qwen3": grouped,
        "qwen3_moe": grouped | experts,
        "mistral": grouped | {"sliding_window": None},
        "gemma2": gemma,
        "gemma3_text": gemma | {"layer_types": ["sliding_attention", "full_attention"]},
        "phi3": {"num_key_value_heads": 2, "sliding_window": 7},
        "gpt_oss": grouped
        | {"sliding_window": 6, "num_local_experts": 2, "num_experts_per_tok": 1},
        "qwen3_next": grouped
        | experts
        | {"linear_num_value_heads": 4, "linear_num_key_heads": 2}
        | {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
        | {"layer_types": ["linear_attention", "full_attention"]},
        "gptj": {"rotary_dim": 4},
        "gpt_neo": {
            "attention_types": [[["global", "local"], 1]],
            "window_size": 6,
            "intermediate_size": None,
        },
        "falcon": {"num_kv_heads": 2, "new_decoder_architecture": True},
        "mpt": {"max_seq_len": 128},
        "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
        "roberta": {"max_position_embeddings": 130},
        "electra": {"embedding_size": 32},
        "distilbert": {"hidden_dim": 64},
        "t5": {"d_kv": 8, "d_ff": 64, "num_decoder_layers": 2, "decoder_start_token_id": 0},
    }
    given, names = common | own.get(kind, {}) | options, usual.attribute_map
    # a size may go by a name of the kind's own, such as n_layer; the last one given counts
    return AutoConfig.for_model(kind, **{names.get(key, key): given[key] for key in given})


def _random(factory: Any, config: Any, seed: int, spread: float) -> Any:
    """A model of random weights, with matrices larger than as initialised by a factor."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = factory.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(spread)
    return model


def tiny_classifier(
    kind: str,
    num_labels: int = 2,
    *,
    seed: int = 0,
    spread: float = 5.0,
    stock: bool = False,
    **options: Any,
) -> Any:
    """A sequence classifier of random weights in memory, in evaluation mode.

    Args:
        kind: Transformers' model type.
        num_labels: Outputs of its head.
        seed: Of the weights.
        spread: Factor on the weights of matrices: as initialised, all texts look alike.
        stock: Leave it as Transformers made it, without our pooling and float32 head.
        **options: Fields of the configuration.
    """
    from transformers import AutoModelForSequenceClassification

    from hidden_context.models.network.modules import specialise_for_rewards

    config = tiny_config(kind, num_labels=num_labels, **options)
    model = _random(AutoModelForSequenceClassification, config, seed, spread)
    if not stock:
        specialise_for_rewards(model)
    return model.eval()


def tiny_backbone(
    folder: str | Path,
    kind: str = "gpt2",
    *,
    num_labels: int | None = None,
    tokenizer: Any = None,
    seed: int = 0,
    spread: float = 5.0,
    **options: Any,
) -> str:
    """Save a model of random weights and its tokenizer; return the folder's name.

    Args:
        folder: Where to.
        kind: Transformers' model type.
        num_labels: Outputs of a classification head; None saves a language model without one.
        tokenizer: Its tokenizer; encoders get ``<s> … </s>`` around texts, decoders nothing.
        seed: Of the weights.
        spread: Factor on the weights of matrices: as initialised, all texts look alike.
        **options: Fields of the configuration.
    """
    import transformers

    use = {"t5": "Seq2SeqLM"} | dict.fromkeys((*ENCODERS, "electra"), "MaskedLM")
    name = use.get(kind, "CausalLM")
    if num_labels is not None:
        options["num_labels"], name = num_labels, "SequenceClassification"
    factory = getattr(transformers, f"AutoModelFor{name}")
    model = _random(factory, tiny_config(kind, **options), seed, spread)
    if tokenizer is None:
        frame = {"t5": "$A </s>"} | dict.fromkeys((*ENCODERS, "electra"), "<s> $A </s>")
        tokenizer = tiny_tokenizer(bos="<s>", frame=frame.get(kind, ""))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


class BackboneShelf:
    """Backbones by their options, each built once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.built = folder, dict[str, str]()

    def __call__(self, kind: str = "gpt2", **options: Any) -> str:
        """Return the folder of ``tiny_backbone(kind, **options)``."""
        key = repr((kind, sorted(options.items(), key=lambda item: item[0])))
        if key not in self.built:
            self.built[key] = tiny_backbone(
                self.folder / f"{kind}-{len(self.built)}", kind, **options
            )
        return self.built[key]


def train_config(model_name: str, output_dir: str | Path, **options: Any) -> Any:
    """A training configuration for tiny models: quick to learn, quiet, nothing random."""
    from hidden_context.training import TrainConfig

    defaults: dict[str, Any] = {
        "tuning": "full",
        "learning_rate": 3e-3,
        "lora_dropout": 0.0,
        "per_device_train_batch_size": 8,
        "weight_decay": 0.0,
        "pad_to_multiple_of": 1,
        "logging_steps": 1,
        "disable_tqdm": True,
        "max_length": 128,
    }
    return TrainConfig(model_name=model_name, output_dir=str(output_dir), **(defaults | options))
