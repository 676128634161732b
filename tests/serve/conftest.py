import pytest
from starlette.testclient import TestClient

from support.paper_layout import one_thread
from support.serving import application, folders, models

__all__ = ["application", "folders", "models", "one_thread"]


@pytest.fixture(scope="module")
def client(application):
    """A client of both models, with the usual options."""
    with TestClient(application()) as client:
        yield client
