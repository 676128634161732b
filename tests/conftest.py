import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# tiny models run several times slower where two threads compete for a busy core
os.environ["OMP_NUM_THREADS"] = "1"  # two processes are compared byte by byte
settings.register_profile("suite", max_examples=40, deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the paper's real data, or a skip that says how to get it."""
    folder = os.environ.get("HIDDEN_CONTEXT_DATA")
    if not folder:
        pytest.skip("HIDDEN_CONTEXT_DATA does not name the folder of the paper's data")
    return Path(folder)
