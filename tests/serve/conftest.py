import pytest
from starlette.testclient import TestClient

from hidden_context.models.reward_model import RewardModel
from hidden_context.scoring.requests import Scorer
from hidden_context.serve.app import make_app
from hidden_context.serve.config import ServeConfig
from hidden_context.serve.service import Served
from support.builders import CHAT_TEMPLATE, tiny_tokenizer
from support.paper_layout import one_thread, reward_checkpoint
from support.scoring import factor_checkpoint

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folders of a mean-and-variance model with a BOS, and a factor model that knows people."""
    root = tmp_path_factory.mktemp("served")
    tokenizer = tiny_tokenizer(bos="<s>", frame="<s> $A", chat_template=CHAT_TEMPLATE)
    normal = reward_checkpoint(root / "normal", tokenizer=tokenizer)
    factor = factor_checkpoint(root / "factor")
    return {"normal": normal, "factor": factor}


@pytest.fixture(scope="session")
def models(folders):
    """The two models, loaded once."""
    return {name: RewardModel.from_pretrained(folder) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def serving(folders, models):
    """Make an application: ``serving("normal", token=..., max_items=...)``."""

    def make(*names, token=None, scorers=None, **options):
        chosen = names or ("normal", "factor")
        config = ServeConfig(models=[folders[name] for name in chosen], **options)
        served = [
            Served(
                name,
                folders[name],
                (scorers or {}).get(name) or Scorer(models[name], config, config.over_length),
            )
            for name in chosen
        ]
        return make_app(served, config, token)

    return make


@pytest.fixture(scope="module")
def client(serving):
    """A client of both models, with the usual options."""
    with TestClient(serving()) as client:
        yield client
