"""A box says in its card which formats its release reads; what is promoted where follows from that."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance import formats
from appliance.actions.standby import introducing
from appliance.audit.lives import STARTED
from appliance.audit.memory import MemoryLedger
from appliance.errors import ConflictError, PairingRefusedError
from appliance.install.trial import Trial, Trials
from appliance.promote import record, statement
from appliance.standby import card, vouched
from appliance.standby.card import PAYLOAD_TYPE, BoxCard
from appliance.standby.pairing import Pairing, Relation, paired
from media import canonical
from media.errors import MalformedError, SealiftError
from tests.support import boxes, lines
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories

CORPUS = Path(__file__).resolve().parents[3] / "corpus/cards"
A, B, C, D = (digest(name) for name in "ABCD")
PEOPLE = signatories()[:2]


@contextmanager
def release_of_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a box make its card as releases did that said nothing of formats."""
    with monkeypatch.context() as patched:
        patched.setattr(formats, "READS", {})
        yield


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Site, Site]:
    """Return two boxes that are not paired, with the same two people."""
    first, second = boxes.open_box(tmp_path / "one"), boxes.open_box(tmp_path / "two")
    first.enrol(*PEOPLE)
    return first, second


def test_what_this_release_says_it_reads_is_what_it_reads() -> None:
    assert dict(formats.READS) == {
        formats.CARD: card.FORMAT,
        formats.PROMOTION: record.LINE_FORMAT,
        formats.STATEMENT: statement.LINE_FORMAT,
    }


@pytest.mark.parametrize(("number", "reads"), [(1, {}), (2, {"box-card": 2, "promotion": 3, "statement": 3})])
def test_cards_and_pairings_of_each_format_are_read_for_ever(number: int, reads: dict[str, int]) -> None:
    untrusted = (CORPUS / f"card-{number}.dsse.json").read_bytes()
    found = BoxCard.from_envelope(untrusted)

    assert (found.name, found.site, found.format, found.reads) == ("two", "demo", number, reads)
    _, second = Pairing.from_bytes((CORPUS / f"pairing-{number}.json").read_bytes()).require()
    assert second == found
    assert BoxCard.from_payload(found.to_payload()) == found


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": 1},
        {"format": 3},
        {"format": []},
        {"reads": {}},
        {"reads": []},
        {"reads": {"promotion": 0}},
        {"reads": {"promotion": "3"}},
        {"reads": {"Promotion": 3}},
        {"reads": {f"thing-{number}": 1 for number in range(65)}},
    ],
)
def test_formats_that_a_card_does_not_say_in_their_one_form_are_refused(wrong: dict[str, Any]) -> None:
    payload = BoxCard.from_envelope((CORPUS / "card-2.dsse.json").read_bytes()).to_payload()

    with pytest.raises(SealiftError):
        BoxCard.from_payload(canonical.dumps({**canonical.loads(payload), **wrong}))


def test_a_thing_that_this_release_does_not_know_is_no_reason_to_refuse_a_card(pair: tuple[Site, Site]) -> None:
    first, _ = pair
    later = replace(boxes.card(first, "one").card, reads={**formats.READS, "something-new": 1, "promotion": 4})

    envelope = vouched.vouch(PAYLOAD_TYPE, later.to_payload(), boxes.signer(first))

    assert BoxCard.from_envelope(envelope) == later
    assert formats.unread(later.reads, {"promotion": 3}) == ()


def test_a_card_is_made_anew_where_the_release_reads_more_than_it_says(
    pair: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = pair
    with release_of_before(monkeypatch):
        old = boxes.card(first, "one")

    made = boxes.card(first, "one")

    assert (old.card.format, made.card.format, made.card.name) == (1, 2, "one")
    assert made.card.code != old.card.code
    assert boxes.card(first, "one").file == made.file


def test_a_line_that_is_opened_beside_a_standby_that_reads_it_is_served_there_too(pair: tuple[Site, Site]) -> None:
    first, second = pair
    boxes.pair(first, second)
    for version, name in ((A, "tiny"), (C, "classes"), (D, "classes")):
        second.validate(version, name=name)
    first.promote(A)

    first.promote(C, name="classes", beside=True)
    assert boxes.carry(first, second, name="two", peer="one").waits == ""
    assert second.folder.production().loadable == (A, C)

    first.promote(D, name="classes")
    assert boxes.carry(first, second, name="two", peer="one").waits == ""
    assert second.folder.production().loadable == (A, D)
    # Whoever takes over goes on with both: the same people open and close lines there, too.
    second.client.stop(person=PEOPLE[0].id, reason="wrong classes", line="classes")
    assert second.folder.production().loadable == (A,)


@pytest.mark.parametrize("old", ["first", "second"])
def test_no_line_is_opened_where_a_card_does_not_say_that_its_box_reads_it(
    old: str, pair: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario: the boxes were paired by a release of before; which one of them is the standby makes no difference."""
    first, second = pair
    asking, silent, name = (second, first, "one") if old == "first" else (first, second, "two")
    with release_of_before(monkeypatch):
        boxes.card(silent, name)
        introduced(first, second)
    if asking is second:
        second.enrol(*PEOPLE)
    asking.promote(A)

    with pytest.raises(ConflictError) as refused:
        asking.request(C, name="classes", beside=True)

    assert refused.value.why.startswith(f"{name} is paired as a standby, and its card does not say")
    assert "promotion format 3, statement format 3" in refused.value.why
    assert asking.promote(B).line is None


def test_a_pairing_of_before_is_asked_again_when_what_people_signed_is_carried_out(
    pair: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    first.promote(A)
    asked = first.approve(first.request(C, name="classes", beside=True), *PEOPLE)
    with release_of_before(monkeypatch):
        introduced(first, second)

    with pytest.raises(ConflictError, match="no further line"):
        first.client.promote(asked.statement.sha256)


def test_a_test_appliance_and_a_witness_follow_no_promotion_and_need_not_read_it(
    pair: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    with release_of_before(monkeypatch):
        introduced(first, second, Relation.TEST)
    first.promote(A)

    assert first.promote(C, name="classes", beside=True).line == 2


@pytest.mark.parametrize("role", ["primary", "standby"])
def test_a_box_that_does_not_read_what_was_promoted_here_is_not_paired(
    role: str, pair: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, second), is_first = pair, role == "primary"
    first.promote(A)
    first.promote(C, name="classes", beside=True)
    with release_of_before(monkeypatch):
        two = boxes.card(second, "two")
    boxes.card(first, "one")

    with pytest.raises(PairingRefusedError) as refused:
        boxes.half(first, two, is_first=is_first)

    assert refused.value.what == "two does not say that it reads what was promoted here"
    assert first.ledger.find(kind="standby.pairing-offered") == []
    boxes.half(first, two, is_first=is_first, relation=Relation.TEST)
    boxes.half(first, boxes.card(second, "two"), is_first=is_first)


def test_a_line_that_was_opened_between_two_halves_is_seen_when_they_are_joined(
    pair: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    first.promote(A)
    with release_of_before(monkeypatch):
        one, two = boxes.card(first, "one"), boxes.card(second, "two")
        mine, theirs = boxes.half(first, two, is_first=True), boxes.half(second, one, is_first=False)
    lines.open_line(first, C)
    lines.stop_line(first, 2)  # a standby follows the ledger from its beginning

    with pytest.raises(PairingRefusedError, match="does not say that it reads"):
        introducing.join(first.config, mine, theirs, ledger=first.ledger)

    assert paired(first.config.at) == ()


def test_while_the_release_is_on_trial_no_line_is_opened_here_nor_taken_over(pair: tuple[Site, Site]) -> None:
    first, second = pair
    boxes.pair(first, second)
    for version, name in ((A, "tiny"), (C, "classes")):
        second.validate(version, name=name)
    first.promote(A)
    for box in pair:
        on_trial(box)
    with pytest.raises(ConflictError, match="no further line"):
        first.request(C, name="classes", beside=True)
    Trials(first.config.at).confirm(site_file(first).read_bytes())
    first.promote(C, name="classes", beside=True)

    assert "no further line of production is opened here" in boxes.carry(first, second, name="two", peer="one").waits
    assert second.folder.production().loadable == (A,)
    Trials(second.config.at).confirm(site_file(second).read_bytes())
    assert boxes.take(second, "one").waits == ""
    assert second.folder.production().loadable == (A, C)


@pytest.fixture
def nodes(tmp_path: Path) -> Site:
    """Return node `two` of a site at which several answer; nobody has started yet."""
    site = open_site(tmp_path)
    site.promote(A)
    database = site.config.database.model_copy(update={"node": "two"})
    site.config = site.config.model_copy(update={"database": database})
    site.restart()
    return site


def test_a_line_is_opened_when_every_node_said_at_its_start_that_it_reads_it(nodes: Site) -> None:
    for node, reads in (("one", None), ("two", formats.READS), ("one", formats.READS)):
        started(nodes.ledger, node, reads)

    assert nodes.promote(C, name="classes", beside=True).line == 2


@pytest.mark.parametrize(
    ("starts", "silent"),
    [
        ([], "two"),
        ([("one", formats.READS)], "two"),
        ([("one", formats.READS), ("two", formats.READS), ("one", None)], "one"),
        ([("three", {"promotion": 2}), ("two", formats.READS)], "three"),
        ([("two", formats.READS), ("one", ["promotion"])], "one"),
    ],
)
def test_no_line_is_opened_where_a_node_did_not_say_it(starts: list[tuple[str, Any]], silent: str, nodes: Site) -> None:
    for node, reads in starts:
        started(nodes.ledger, node, reads)

    with pytest.raises(ConflictError) as refused:
        nodes.request(C, name="classes", beside=True)

    assert f"several nodes answer for this site, and {silent} did not say" in refused.value.why
    assert nodes.promote(B).line is None


def test_a_node_of_before_a_single_one_recorded_is_gone(nodes: Site) -> None:
    started(nodes.ledger, "three", None)
    started(nodes.ledger, "", None)
    started(nodes.ledger, "two", formats.READS)

    assert nodes.promote(C, name="classes", beside=True).line == 2


def test_a_standby_with_several_nodes_opens_no_line_that_one_of_them_may_not_read(pair: tuple[Site, Site]) -> None:
    first, second = pair
    boxes.pair(first, second)
    for version, name in ((A, "tiny"), (C, "classes")):
        second.validate(version, name=name)
    first.promote(A)
    first.promote(C, name="classes", beside=True)
    database = second.config.database.model_copy(update={"node": "two"})
    second.config = second.config.model_copy(update={"database": database})
    second.restart()

    assert "several nodes answer" in boxes.carry(first, second, name="two", peer="one").waits
    assert second.folder.production().loadable == (A,)


def test_formats_are_named_in_one_form() -> None:
    assert formats.parse({"a": 1}, "reads") == {"a": 1}
    with pytest.raises(MalformedError):
        formats.parse(None, "reads")


def introduced(first: Site, second: Site, relation: Relation = Relation.STANDBY) -> None:
    """Introduce two boxes with the cards that they have, or make by what they read now."""
    boxes.pair(first, second, relation)


def on_trial(box: Site) -> None:
    box.config.at.releases.mkdir(parents=True)
    Trials(box.config.at).begin(Trial(serial=2, release="2", previous=0, at="2026-11-20T08:00:00Z"))


def site_file(box: Site) -> Path:
    path = box.root / "site.toml"
    path.write_text("")
    return path


def started(ledger: MemoryLedger, node: str, reads: object) -> None:
    """Record that a node opened the ledger, as its process does."""
    ledger.log.node = node
    ledger.append(STARTED, {"alone": True, **({} if reads is None else {formats.FIELD: reads})})
    ledger.log.node = ""
