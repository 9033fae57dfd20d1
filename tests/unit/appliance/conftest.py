"""What most tests of the appliance begin with; a file that needs another overrides it by the same name."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from appliance.config import Config
from appliance.state.database import open_state
from tests.support.promotion import site_config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return site_config(tmp_path)


@pytest.fixture
def state(config: Config) -> Iterator[Engine]:
    engine = open_state(config.at)
    yield engine
    engine.dispose()
