"""Relabelling: rows in, the same rows with a language model's judgements out."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hidden_context.data.example import Example
from hidden_context.data.report import ReadReport
from hidden_context.data.sources import files_of_split, load_examples
from hidden_context.data.storage.files import write_jsonl, write_yaml_config
from hidden_context.data.storage.locks import exclusive
from hidden_context.errors import ConfigError, DataError, StorageError
from hidden_context.progress import stage
from hidden_context.relabel.asking import AnswerCache, Asking, Pending
from hidden_context.relabel.config import RelabelConfig
from hidden_context.relabel.cost import Estimate, Meter, token_counter
from hidden_context.relabel.endpoint import Endpoint
from hidden_context.relabel.judgements import Judge, judged_row
from hidden_context.relabel.local import LocalJudge
from hidden_context.relabel.questions import (
    Pair,
    find_objectives,
    items_of,
    key_of,
    pairs_of,
    questions_about,
    questions_of,
)
from hidden_context.relabel.replies import Reply, read_reply

Confirm = Callable[[Estimate], bool]
"""Asks whether to go on at an estimated cost."""


@dataclass
class RelabelResult:
    """Result of relabelling a file.

    Attributes:
        path: The file that was written; None if the cost limit was reached before.
        report: The report of how the rows were read.
        rows: The number of rows that were written.
        judged: The number of judgements with a preference.
        abstained: The number of judgements without a preference.
        reasons: The number of answers without a preference, by reason.
        asked: The number of questions that were asked in this run.
        known: The number of questions whose answer was in the cache.
        left: The number of questions that were not asked.
        input_tokens: The tokens of all questions of this output, earlier runs included.
        output_tokens: The tokens of all replies, earlier runs included.
        uncounted: The number of replies whose tokens the server did not count; 0 if local.
        cost: The cost of all answers, earlier runs included; None if prices are unknown.
    """

    path: Path | None
    report: ReadReport
    rows: int = 0
    judged: int = 0
    abstained: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    known: int = 0
    left: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    uncounted: int = 0
    cost: float | None = None


def run(config: RelabelConfig, confirm: Confirm | None = None) -> RelabelResult:
    """Judge every pair of responses of a file by every objective, and write the rows.

    Args:
        config: The data, the judge and the cost limit.
        confirm: Returns whether to go on at an estimated cost; not called for a local model, nor
            with ``yes`` or ``max_cost``.

    Returns:
        The counts and costs. If the cost limit is reached, no file is written, and the next run
        continues from there.

    Raises:
        MissingFileError: If data, objectives or model are not there.
        DataError: If a row is malformed, already has a judgement by the same judge, or no row has
            two responses.
        ConfigError: If an option cannot work, or the cost is not confirmed.
        EndpointError: If the endpoint refuses requests or does not answer.
        StorageError: If output or cache cannot be written, or another process is writing them.
    """
    _check_output(config)
    objectives = find_objectives(config.objectives, config.objectives_file)
    data = load_examples(
        config.data_path,
        config.data_subset,
        config.split,
        revision=config.revision,
        limit=config.limit,
        on_malformed=config.on_malformed,
        seed=config.seed,
    )
    items = items_of(data.examples)
    judges = [Judge(config.model_name, objective) for objective in objectives]
    _check_items(items, judges, config)
    model = LocalJudge(config) if config.backend == "local" else Endpoint(config)
    with (
        exclusive(config.output),
        exclusive(config.cache_path),
        AnswerCache(config.cache_path) as cache,
    ):
        meter, result = Meter(config, config.max_tokens), RelabelResult(None, data.report)
        relabelling = _Relabelling(config, items, judges, model, cache, meter, result)
        if relabelling.ask(confirm):
            relabelling.write()
        return relabelling.counted()


@dataclass
class _Relabelling:
    """One run: looks up answers, asks the open questions, writes the rows."""

    config: RelabelConfig
    items: Sequence[Example]
    judges: Sequence[Judge]
    model: LocalJudge | Endpoint
    cache: AnswerCache
    meter: Meter
    result: RelabelResult
    pending: list[Pending] = field(default_factory=list)

    def ask(self, confirm: Confirm | None) -> bool:
        """Ask the open questions; return whether all are answered now."""
        self._look_up()
        if not self.pending:
            return True
        self._agree(confirm)
        config = self.config
        with stage("questions", len(self.pending), disable=config.disable_tqdm) as step:

            def keep(one: Pending, reply: Reply) -> None:
                """Store an answer, and then count its cost; correct the estimate at some point."""
                description = one.question.description(self.model.asked, one.question.text())
                self.cache.put(one.key, description, reply.to_dict())
                is_corrected = self.meter.add(reply, one.tokens)
                self.result.asked += 1
                step(1)
                if is_corrected and self.result.asked < len(self.pending) and not self._is_local:
                    print(
                        f"The server counts {self.meter.ratio:.2f} times the tokens that were "
                        f"expected. {self._estimate()}",
                        file=sys.stderr,
                    )

            if isinstance(self.model, Endpoint):
                run = Asking(self.model, keep, self.meter, iter(self.pending))
                return asyncio.run(run.all(config.concurrency))
            for one in self.pending:
                keep(one, self.model.ask(one.question))
            return True

    @property
    def _is_local(self) -> bool:  # its tokens cost nothing
        return self.config.backend == "local"

    def _look_up(self) -> None:
        """Find the open questions, and count the cost of the answered ones."""
        count = (lambda text: 0) if self._is_local else token_counter(self.config.tokenizer)
        config = self.config
        objectives = [judge.objective for judge in self.judges]
        for question in questions_of(self.items, objectives, config.orders, config.votes):
            text = question.text()
            key, tokens = key_of(question.description(self.model.asked, text)), count(text)
            kept = self.cache.get(key)
            if kept is None:
                self.pending.append(Pending(question, key, tokens))
            else:
                self.result.known += 1
                self.meter.add(Reply(**kept), tokens)

    def _agree(self, confirm: Confirm | None) -> None:
        """Show what the questions will cost, and ask for agreement."""
        estimate = self._estimate()
        print(estimate, file=sys.stderr)
        config = self.config
        agreed = self._is_local or config.yes or config.max_cost is not None
        if not agreed and not (confirm is not None and confirm(estimate)):
            raise ConfigError(
                "Nothing was asked. --yes asks without this question, --max_cost up to a cost."
            )

    def _estimate(self) -> Estimate:
        left = self.pending[self.result.asked :]
        tokens = sum(one.tokens for one in left)
        priced = self.meter.has_prices
        return Estimate(
            questions=len(left),
            known=self.result.known + self.result.asked,
            whom=f"{self.config.model_name} ({self.model.asked['host']})",
            tokens=None if self._is_local else round(tokens * self.meter.ratio),
            tokenizer=self.config.tokenizer,
            cost=self.meter.expected(tokens, len(left)) if priced else None,
            most=self.meter.most(tokens, len(left)) if priced else None,
            spent=self.meter.spent,
        )

    def write(self) -> None:
        """Write the rows from the cache alone."""
        config, result = self.config, self.result
        rows = (judged_row(one, self.judges, partial(self._entry, one)) for one in self.items)
        result.rows = write_jsonl(config.output_path, rows)
        result.path = config.output_path
        write_yaml_config(f"{config.output}.config.yaml", config)

    def _entry(self, item: Example, pair: Pair, judge: Judge) -> dict[str, Any]:
        config, said = self.config, []
        for question in questions_about(item, pair, judge.objective, config.orders, config.votes):
            reply = self.cache.get(key_of(question.description(self.model.asked, question.text())))
            if reply is None:
                raise DataError(
                    "an answer has disappeared from the cache",
                    file=self.cache.path,
                    remedy="Run the same command again",
                )
            verdict = read_reply(Reply(**reply))
            said.append((question, verdict))
            if verdict.reason is not None:
                self.result.reasons[verdict.reason] += 1
        entry = judge.entry(pair, said, config.orders)
        self.result.judged += "preference" in entry
        self.result.abstained += "preference" not in entry
        return entry

    def counted(self) -> RelabelResult:
        """Add to the result what is left and what all answers cost."""
        meter, result = self.meter, self.result
        result.left = len(self.pending) - result.asked
        result.input_tokens, result.output_tokens = meter.input_tokens, meter.output_tokens
        if not self._is_local:  # a local one refuses without counting
            result.uncounted = meter.uncounted
        result.cost = meter.spent if meter.has_prices else None
        return result


def _check_output(config: RelabelConfig) -> None:
    """Check that no input file would be overwritten."""
    output = config.output_path
    if output.is_dir():
        raise StorageError(f"{output} is a folder; name a file to write, such as out.jsonl.")
    if not output.name.endswith((".jsonl", ".jsonl.gz", ".json", ".json.gz")):
        raise ConfigError(f"--output {output} must end in .jsonl or .jsonl.gz.")
    sources = files_of_split(config.data_path, config.data_subset, config.split)
    written = (output, config.cache_path)
    read = [*sources, *map(Path, filter(None, [config.objectives_file]))]
    for path in read:
        if any(path.resolve() == one.resolve() for one in written):
            raise ConfigError(f"{path} is the input too; name another file to write.")


def _check_items(items: Sequence[Example], judges: Sequence[Judge], config: RelabelConfig) -> None:
    """Check, before any cost, that there are pairs and that their judgements can be added."""
    if not any(map(pairs_of, items)):
        raise DataError(
            "no row has two responses to compare",
            file=config.data_path,
            remedy="Rated texts have one; give pairs or rankings",
        )
    for item in items:
        judged_row(item, judges, lambda _, judge: {"annotator": judge.annotator})
