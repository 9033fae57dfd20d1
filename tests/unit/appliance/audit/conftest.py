from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ledger import LedgerSite, ledger_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LedgerSite]:
    with ledger_site(tmp_path) as made:
        yield made
