"""REM-1 to REM-3: a disk that was put back is seen by what lies elsewhere."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.audit.leaf import Via
from appliance.audit.log import Entry
from appliance.audit.note import Checkpoint
from appliance.audit.opening import open_log
from appliance.audit.sqlite_backend import FILE_NAME
from appliance.errors import KeyMissingError, LedgerDamagedError
from appliance.keys.files import FileKeys
from media.clock import SystemClock
from tests.support.ledger import LedgerSite, bodies, ledger_site


class Elsewhere:
    """A memory that survives the disk; `broken` lets it refuse to write."""

    def __init__(self) -> None:
        self.held: tuple[bytes, ...] = ()
        self.broken = False

    def recall(self) -> tuple[bytes, ...]:
        return self.held

    def remember(self, value: bytes) -> None:
        if self.broken:
            raise KeyMissingError(what="the token cannot be used", why="it is full", fix="see docs/operator/keys.md")
        self.held = (value,)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LedgerSite]:
    with ledger_site(tmp_path) as made:
        yield made


def grow(site: LedgerSite, memory: Elsewhere, records: int = 1, *, release: str = "2026.11") -> Checkpoint:
    """Open the ledger, record, sign; return what is remembered then."""
    keys = FileKeys(site.places.key_files)
    with open_log(site.config, keys=keys, clock=SystemClock(), memory=memory) as log:
        for _ in range(records):
            body = bodies()["release.received"] | {"release": release}
            log.append([Entry.of("release.received", body, via=Via(door="ledger-actions", uid=0))])
        log.checkpoint()
    return Checkpoint.from_text(memory.held[-1].decode())


def image(site: LedgerSite, to: Path) -> None:
    shutil.copytree(site.places.ledger, to)


def put_back(site: LedgerSite, image: Path) -> None:
    shutil.rmtree(site.places.ledger)
    shutil.copytree(image, site.places.ledger)


def test_each_checkpoint_is_laid_elsewhere_and_a_ledger_that_grew_opens(site: LedgerSite) -> None:
    memory = Elsewhere()

    first, second = grow(site, memory), grow(site, memory, records=3)

    assert second.origin == first.origin
    assert second.size > first.size + 3


def test_a_disk_that_was_put_back_is_not_continued(site: LedgerSite, tmp_path: Path) -> None:
    memory = Elsewhere()
    grow(site, memory)
    image(site, tmp_path / "yesterday")
    grow(site, memory, records=5)

    put_back(site, tmp_path / "yesterday")

    with pytest.raises(LedgerDamagedError) as refused:
        grow(site, memory)
    assert refused.value.exit_code == 91
    assert "the token remembers 10" in refused.value.why


def test_a_disk_that_was_put_back_and_written_past_the_mark_is_not_continued(site: LedgerSite, tmp_path: Path) -> None:
    memory, blind = Elsewhere(), Elsewhere()
    grow(site, memory)
    image(site, tmp_path / "yesterday")
    grow(site, memory)
    put_back(site, tmp_path / "yesterday")
    grow(site, blind, records=9, release="forged")  # by whoever started it without the token

    with pytest.raises(LedgerDamagedError) as refused:
        grow(site, memory)
    assert "hash to something else" in refused.value.why


def test_another_ledger_is_not_begun_beside_what_is_remembered(site: LedgerSite) -> None:
    memory = Elsewhere()
    grow(site, memory)

    (site.places.ledger / FILE_NAME).unlink()

    with pytest.raises(LedgerDamagedError):
        grow(site, memory)


def test_after_a_cut_both_heads_must_be_in_it(site: LedgerSite) -> None:
    memory = Elsewhere()
    first = grow(site, memory).to_text().encode()
    second = grow(site, memory).to_text().encode()

    memory.held = (second, first)
    grow(site, memory)
    memory.held = (first, b"neither")

    with pytest.raises(LedgerDamagedError) as refused:
        grow(site, memory)
    assert "does not read" in refused.value.why


def test_a_token_that_refuses_to_remember_hides_nothing_earlier(site: LedgerSite, tmp_path: Path) -> None:
    memory = Elsewhere()
    grow(site, memory)
    image(site, tmp_path / "yesterday")
    known = grow(site, memory)
    memory.broken = True
    assert grow(site, memory) == known

    put_back(site, tmp_path / "yesterday")

    with pytest.raises(LedgerDamagedError):
        grow(site, memory)
