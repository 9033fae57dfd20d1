"""A list against all records: exact, or whoever it leaves out or makes up is named; only its own tree counts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.actions.auditing import making
from appliance.actions.tracing import listing
from appliance.actions.tracing.comparing import Compared, compare
from appliance.actions.tracing.selection import By, Selector
from appliance.audit.note import VerifierKey
from appliance.errors import LedgerDamagedError, ProofError
from media import canonical
from media.errors import MalformedError, MediaError, UsageError
from tests.unit.appliance.actions.tracing.test_listing import A, History

pytestmark = pytest.mark.slow


class Made:
    """A history, a list of it and an export made afterwards."""

    def __init__(self, folder: Path, selector: Selector) -> None:
        self.history = History()
        ledger, clock = self.history.ledger, self.history.clock
        self.key = VerifierKey.from_text(str(ledger.leaf(0).body["vkey"]))
        made = listing.listed(ledger, selector, site="demo", key=self.key, clock=clock)
        self.content: dict[str, Any] = canonical.loads(made.content)
        self.export = folder / "export"
        making.make(ledger, self.export, making.Wanted(site="demo", key=self.key), clock=clock)
        self.file = folder / "list.json"

    def compared(self) -> Compared:
        self.file.write_bytes(canonical.dumps(self.content) + b"\n")
        return compare(self.file, self.export, key=self.key, clock=self.history.clock)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path, Selector(by=By.VERSION, value=A))


@pytest.mark.parametrize(
    "selector",
    [
        Selector(by=By.VERSION, value=A),
        Selector(by=By.RELEASE, value="2"),
        Selector(by=By.MEDIUM, value="V1"),
        Selector(by=By.SIGNER, value="ana"),
        Selector(by=By.APPROVER, value="eve"),
        Selector(by=By.SIGNER, value="ana", since="2026-11-20T08:30:00Z"),
    ],
    ids=str,
)
def test_a_list_as_it_was_made_holds_exactly_what_the_records_yield(tmp_path: Path, selector: Selector) -> None:
    made = Made(tmp_path, selector)
    found = made.compared()

    assert (found.is_whole, found.listed, found.size) == (
        True,
        len(made.content["list"]["answers"]),
        made.content["list"]["size"],
    )
    assert found.listed > 0


def test_who_is_left_out_made_up_bent_or_named_twice_is_told(made: Made) -> None:
    answers = made.content["list"]["answers"]
    first, second = answers[0], answers[1]
    answers[:2] = [{**second, "department": "elsewhere"}, {**first, "sequence": 10**6}, second]

    found = made.compared()

    assert not found.is_whole
    assert [one["sequence"] for one in found.missing] == [first["sequence"]]
    assert [one["sequence"] for one in found.added] == [10**6, second["sequence"]]
    assert [one["sequence"] for one in found.changed] == [second["sequence"]]


def test_an_empty_list_misses_everybody(made: Made) -> None:
    count = len(made.content["list"]["answers"])
    made.content["list"]["answers"] = []

    assert len(made.compared().missing) == count


def test_a_list_of_another_question_yields_what_its_own_question_yields(made: Made) -> None:
    made.content["list"].update(by="release", value="2")

    found = made.compared()

    assert found.missing
    assert found.added


def _without_a_record(made: Made) -> None:
    leaves = (made.export / "leaves.jsonl").read_bytes().splitlines(keepends=True)
    (made.export / "leaves.jsonl").write_bytes(b"".join(leaves[:3] + leaves[4:]))


def _with_one_changed(made: Made) -> None:
    path = made.export / "leaves.jsonl"
    path.write_bytes(path.read_bytes().replace(b"radiology", b"radiol0gy", 1))


def _of_a_smaller_tree(made: Made) -> None:
    made.content["list"]["size"] -= 1


def _with_another_root(made: Made) -> None:
    made.content["list"]["root"] = "0" * 64


@pytest.mark.parametrize(
    ("bend", "error"),
    [
        (_without_a_record, LedgerDamagedError),
        (_with_one_changed, LedgerDamagedError),
        (_of_a_smaller_tree, LedgerDamagedError),
        (_with_another_root, LedgerDamagedError),
    ],
)
def test_nothing_is_concluded_from_records_that_are_not_those_of_the_list(
    made: Made, bend: Callable[[Made], None], error: type[Exception]
) -> None:
    bend(made)

    with pytest.raises(error):
        made.compared()


@pytest.mark.parametrize("field", ["name", "public"])
def test_a_tree_that_nobody_known_signed_counts_nothing(made: Made, field: str) -> None:
    stranger: dict[str, Any] = {"name": "sealift/elsewhere/00000000", "public": bytes(32)}
    made.key = replace(made.key, **{field: stranger[field]})

    with pytest.raises(ProofError):
        made.compared()


def test_an_export_of_a_part_is_not_enough(made: Made) -> None:
    path = made.export / "leaves.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]))
    with pytest.raises(UsageError, match="all records"):
        made.compared()

    path.write_bytes(b"".join(lines)[:-5])
    made.content["list"]["size"] = len(lines)
    with pytest.raises(MalformedError, match="cut off"):
        made.compared()
    path.unlink()
    with pytest.raises(UsageError, match=r"leaves\.jsonl cannot be read"):
        made.compared()


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"type":"sealift/affected-answers","format":9}', b"\xff"])
def test_what_is_no_list_is_refused(made: Made, content: bytes) -> None:
    made.file.write_bytes(content)

    with pytest.raises(MediaError):
        compare(made.file, made.export, key=made.key, clock=made.history.clock)
