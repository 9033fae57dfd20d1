from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import Rig, gateway


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with gateway(tmp_path) as running:
        yield running
