"""Token shards that the tests of this room share."""

from pathlib import Path

import pytest

from tests.training.tiny import SETTINGS, make_shards


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a small made-up corpus; not to be written to."""
    return make_shards(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny model that has learned the made-up corpus a little; not to be written to."""
    from tests.training.processes import pretrain_apart
    from training.pretraining.settings import pretrain_settings

    settings = pretrain_settings(
        **(SETTINGS | {"data": shards, "steps": 80, "context_tokens": 4096, "sequence_tokens": 64})
    )
    return pretrain_apart(settings, tmp_path_factory.mktemp("pretrained") / "run").checkpoint
