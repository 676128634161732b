import pytest

from support.builders import CHAT_TEMPLATE, preference_rows, tiny_tokenizer
from support.fixtures import feature_cache_in_tmp
from support.paper_layout import one_thread, reward_checkpoint, write_rows
from support.scoring import after_window, calls, factor_checkpoint, interrupt

__all__ = ["after_window", "calls", "feature_cache_in_tmp", "interrupt", "one_thread"]


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def checkpoint(models):
    """A mean-and-variance model."""
    return reward_checkpoint(models / "normal")


@pytest.fixture(scope="session")
def base(models):
    """A model of single rewards."""
    return reward_checkpoint(models / "base", "base")


@pytest.fixture(scope="session")
def categorical(models):
    """A categorical model of 5 atoms with a chat template."""
    tokenizer = tiny_tokenizer(chat_template=CHAT_TEMPLATE)
    return reward_checkpoint(
        models / "atoms", "categorical", seed=1, num_atoms=5, tokenizer=tokenizer
    )


@pytest.fixture(scope="session")
def factor(models):
    """A factor model of 2 factors that knows the annotators 7, ann and bob."""
    return factor_checkpoint(models / "factor")


@pytest.fixture
def pairs(tmp_path):
    """A file of 23 pairs of different lengths."""
    return write_rows(tmp_path / "pairs.jsonl", preference_rows(23, 5))
