from __future__ import annotations

import pytest

from support.builders import CHAT_TEMPLATE, preference_rows, tiny_tokenizer
from support.paper_layout import one_thread, reward_checkpoint, write_rows

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A mean-and-variance model."""
    return reward_checkpoint(tmp_path_factory.mktemp("models") / "normal")


@pytest.fixture(scope="session")
def categorical(tmp_path_factory):
    """A categorical model of 5 atoms with a chat template."""
    return reward_checkpoint(
        tmp_path_factory.mktemp("models") / "atoms",
        "categorical",
        seed=1,
        num_atoms=5,
        tokenizer=tiny_tokenizer(chat_template=CHAT_TEMPLATE),
    )


@pytest.fixture(scope="session")
def factor(tmp_path_factory):
    """A factor model of 2 factors that knows the annotators ann, bob and 7."""
    from hidden_context import heads
    from hidden_context.likelihood import LikelihoodOptions, make_likelihood
    from hidden_context.models.likelihood_file import save_likelihood

    folder = reward_checkpoint(
        tmp_path_factory.mktemp("models") / "factor", "factor", num_factors=2
    )
    options = LikelihoodOptions(inference="variational", names=("7", "ann", "bob"))
    save_likelihood(folder, make_likelihood(heads.make("factor", num_factors=2), options))
    return folder


@pytest.fixture
def pairs(tmp_path):
    """A file of 23 pairs of different lengths."""
    return write_rows(tmp_path / "pairs.jsonl", preference_rows(23, 5))
