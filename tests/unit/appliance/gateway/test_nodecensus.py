"""A node that would mask less than the others refuses, says so, and goes on once it has their list."""

from pathlib import Path

import pytest

from appliance.actions import census
from appliance.actions.census import parsed
from appliance.actions.censusnodes import SEEN
from appliance.audit.memory import MemoryLedger
from appliance.audit.rights import ACTIONS, GATEWAY, TEST_GATEWAY, require_may_append
from appliance.config import Config
from appliance.errors import LedgerRefusedError, LedgerUnavailableError, StoreDamagedError
from appliance.gateway.nodecensus import NodeCensus
from appliance.keys.files import FileKeys, create_missing
from appliance.phi.censusfile import NAME, WithCensus
from appliance.phi.detect import PatternDetector
from media.clock import FixedClock
from tests.support.gateway import NOW

LIST = parsed(b"Jane Doe\n")


class Node:
    """One node: its file, the records, and what its gateway looks with."""

    def __init__(self, config: Config, *, refuses: bool = True) -> None:
        create_missing(config.at.key_files)
        self.config = config
        self.keys, self.clock, self.ledger = FileKeys(config.at.key_files), FixedClock(NOW), MemoryLedger()
        self.detector = self.started(refuses=refuses)

    def started(self, *, refuses: bool = True) -> NodeCensus:
        """Return what a gateway process that starts now looks with."""
        folder = self.config.at.census
        return NodeCensus(
            WithCensus(PatternDetector(), folder=folder, keys=self.keys, clock=self.clock),
            ledger=self.ledger,
            keys=self.keys,
            folder=folder,
            node="b",
            refuses=refuses,
            clock=self.clock,
        )

    @property
    def file(self) -> Path:
        return self.config.at.census / NAME

    def bring(self, names: census.Names = LIST, *, ledger: MemoryLedger | None = None) -> None:
        census.bring(self.config, names, ledger=ledger or self.ledger, keys=self.keys, person="ada")

    def finds(self, text: str = "about jane doe") -> int:
        return len(self.detector.find(text))

    def later(self, seconds: float = 1.1) -> None:
        self.clock.advance(seconds)

    def words(self) -> list[str]:
        return [str(leaf.body["list"]) for leaf in self.ledger.find(SEEN, newest_first=False)]


def test_a_site_without_a_list_answers_and_says_nothing(config: Config) -> None:
    node = Node(config)

    assert node.finds() == 0
    assert not node.words()


def test_a_node_that_lacks_the_list_refuses_from_its_first_request_until_it_has_it(config: Config) -> None:
    node = Node(config)
    node.bring()
    kept = node.file.read_bytes()
    node.file.unlink()

    for _ in range(2):
        with pytest.raises(StoreDamagedError):
            node.finds()
        node.later()
    node.file.write_bytes(kept)
    assert node.finds() == 1
    assert node.words() == ["absent", "same"]


def test_another_list_is_let_be_for_the_moment_of_an_import_and_then_refused(config: Config) -> None:
    node = Node(config)
    node.bring()
    assert node.finds() == 1
    kept = node.file.read_bytes()

    node.bring(parsed(b"Jane Doe\nMax Roe\n"))
    node.file.write_bytes(kept)  # as on a node where nobody imported
    node.later()
    assert node.finds() == 1
    node.later(2.0)
    with pytest.raises(StoreDamagedError):
        node.finds()
    assert node.words() == ["same", "other"]
    with pytest.raises(StoreDamagedError):
        node.started().find("about jane doe")


def test_where_the_site_file_says_so_it_only_tells(config: Config) -> None:
    node = Node(config, refuses=False)
    node.bring()
    node.file.unlink()

    assert node.finds() == 0
    assert node.words() == ["absent"]


def test_a_list_that_nobody_has_on_record_masks_more_and_refuses_nothing(config: Config) -> None:
    node = Node(config)
    node.bring(ledger=MemoryLedger())

    assert node.finds() == 1
    assert node.words() == ["left"]


def test_without_the_ledger_what_was_known_holds_and_what_never_was_refuses(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(config)
    node.bring()
    assert node.finds() == 1

    def away(*_: object, **__: object) -> list[object]:
        raise LedgerUnavailableError(what="the server is away", why="", fix="")

    monkeypatch.setattr(node.ledger, "find", away)
    node.later()
    assert node.finds() == 1
    with pytest.raises(LedgerUnavailableError):
        node.started().find("about jane doe")


def test_a_silent_ledger_is_not_asked_again_for_each_text(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(config)
    node.bring()
    assert node.finds() == 1
    asked: list[int] = []

    def silent(*_: object, **__: object) -> list[object]:
        asked.append(1)
        node.later(10)  # as long as it is waited for
        raise LedgerUnavailableError(what="the ledger does not answer", why="", fix="")

    monkeypatch.setattr(node.ledger, "find", silent)
    node.later()

    assert [node.finds() for _ in range(5)] == [1] * 5
    assert len(asked) == 1


def test_a_word_that_could_not_be_recorded_is_said_with_the_next_look(config: Config) -> None:
    node = Node(config)
    node.bring()
    node.ledger.available = False
    assert node.finds() == 1

    node.ledger.available = True
    node.later()
    assert node.finds() == 1
    assert node.words() == ["same"]


def test_only_productions_gateway_says_what_a_node_has() -> None:
    require_may_append(GATEWAY, SEEN)
    for door in (TEST_GATEWAY, ACTIONS):
        with pytest.raises(LedgerRefusedError):
            require_may_append(door, SEEN)
