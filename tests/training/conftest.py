"""Token shards that the tests of this room share."""

from pathlib import Path

import pytest

from tests.training.tiny import make_shards


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a small made-up corpus; not to be written to."""
    return make_shards(tmp_path_factory.mktemp("data"))
