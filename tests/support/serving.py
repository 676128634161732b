"""A server's models, loaded once, and applications of them."""

import pytest

from hidden_context.models.reward_model import RewardModel
from hidden_context.scoring.requests import Scorer
from hidden_context.serve.app import make_app
from hidden_context.serve.config import ServeConfig
from hidden_context.serve.service import Served
from support.builders import CHAT_TEMPLATE, tiny_tokenizer
from support.paper_layout import reward_checkpoint
from support.scoring import factor_checkpoint


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folders of a mean-and-variance model and a factor model that knows people, with a BOS."""
    root = tmp_path_factory.mktemp("served")
    tokenizer = tiny_tokenizer(bos="<s>", frame="<s> $A", chat_template=CHAT_TEMPLATE)
    return {
        "normal": reward_checkpoint(root / "normal", tokenizer=tokenizer),
        "factor": factor_checkpoint(root / "factor", tokenizer=tokenizer),
    }


@pytest.fixture(scope="session")
def models(folders):
    """The two models, loaded once."""
    return {name: RewardModel.from_pretrained(folder) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def application(folders, models):
    """Make an application: ``application("normal", token=..., max_items=...)``."""

    def make(*names, token=None, scorers=None, **options):
        names = names or ("normal", "factor")
        config = ServeConfig(models=[folders[name] for name in names], **options)
        found = {name: Scorer(models[name], config, config.over_length) for name in names}
        found |= scorers or {}
        return make_app([Served(name, folders[name], found[name]) for name in names], config, token)

    return make
