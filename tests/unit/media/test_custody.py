"""Custody: what a chain says, and what a person must be told about it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from media import canonical, custody, dsse, limits
from media.custody import CustodyFacts, HandOver, HandOverKind, Method, PaperEntry
from media.digest import sha256_hex
from media.errors import BadSignatureError, MalformedError, UnsupportedFormatError
from tests.support.sender import Sender

_VOLUME = "0123456789abcdef"
_SEALED = sha256_hex(b"sealed entry")
_START = datetime(2026, 11, 20, 8, tzinfo=UTC)

_FIRST = HandOver(
    entry=1,
    previous=_SEALED,
    release="2026.11",
    volume=_VOLUME,
    kind=HandOverKind.HANDED_OVER,
    from_="Alice Example",
    to="Courier Kim",
    at=_START,
    place="Sender, loading dock",
    seals=("A-1001", "A-1002"),
    condition="Case closed, both seals whole",
    method=Method.SIGNED,
    entered_by="alice",
)


def _signed(sender: Sender, hand_over: HandOver) -> bytes:
    return custody.sign(hand_over, sender.signers[hand_over.entered_by, "release"])


def _chain(sender: Sender, *changes: dict[str, Any]) -> list[bytes]:
    """Sign a chain of hand-overs, each following the one before unless its changes say otherwise."""
    files: list[bytes] = []
    previous, giver = _SEALED, _FIRST.from_
    for number, change in enumerate(changes, start=1):
        plain = replace(
            _FIRST,
            entry=number,
            previous=previous,
            from_=giver,
            to=f"Person {number}",
            at=_START + timedelta(hours=number),
        )
        hand_over = replace(plain, **change)
        files.append(_signed(sender, hand_over))
        previous, giver = sha256_hex(files[-1]), hand_over.to
    return files


def _read(sender: Sender, files: list[bytes], *, volume: str = _VOLUME) -> CustodyFacts:
    return custody.read_chain(files, sender.people, _SEALED, volume)


def test_a_hand_over_is_read_back() -> None:
    assert HandOver.from_payload(_FIRST.to_payload()) == _FIRST


def test_a_whole_chain_is_complete(sender: Sender) -> None:
    files = _chain(sender, {}, {"entered_by": "dora", "method": Method.PAPER}, {"kind": HandOverKind.RECEIVED})

    facts = _read(sender, files)

    assert facts.complete
    assert facts.findings == ()
    assert [entry.hand_over.to for entry in facts.entries] == ["Person 1", "Person 2", "Person 3"]
    assert [entry.sha256 for entry in facts.entries] == [sha256_hex(file) for file in files]
    assert facts.entries[0].file_name == f"001-{sha256_hex(files[0])[:12]}.dsse.json"


def test_the_order_of_files_does_not_matter(sender: Sender) -> None:
    files = _chain(sender, {}, {}, {})

    assert _read(sender, files[::-1]) == _read(sender, files)


def test_no_hand_over_at_all_is_a_finding(sender: Sender) -> None:
    facts = _read(sender, [])

    assert not facts.complete
    assert facts.findings == ("no hand-over is recorded after sealing",)


def test_a_missing_hand_over_is_a_gap_and_a_tear(sender: Sender) -> None:
    files = _chain(sender, {}, {}, {})

    assert _read(sender, [files[0], files[2]]).findings == (
        "gap: entry 2 is missing before entry 3",
        "tear: entry 3 does not follow the one before it",
        "gap: entry 1 went to another person than entry 3 came from",
    )
    assert _read(sender, files[1:]).findings[:2] == (
        "gap: entry 1 is missing before entry 2",
        "tear: entry 2 does not follow the one before it",
    )


def test_a_lost_last_hand_over_cannot_be_seen_in_the_chain_alone(sender: Sender) -> None:
    assert _read(sender, _chain(sender, {}, {}, {})[:2]).complete


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"previous": "ab" * 32}, "tear: entry 2 does not follow the one before it"),
        ({"at": _START}, "time runs backwards between entries 1 and 2"),
        ({"from_": "Mallory"}, "gap: entry 1 went to another person than entry 2 came from"),
        ({"seals": ("A-1001", "A-9999")}, "the seals differ between entries 1 and 2"),
        ({"seals": ()}, "the seals differ between entries 1 and 2"),
        ({"volume": "f" * 16}, "entry 2 is about another volume"),
        ({"release": "2026.10"}, "the entries name 2 releases"),
        ({"kind": HandOverKind.REJECTED}, "entry 2 rejects the volume"),
        ({"entry": 5}, "gap: entry 2 is missing before entry 5"),
    ],
)
def test_what_is_odd_is_said_and_does_not_stop_the_reading(
    sender: Sender, change: dict[str, Any], finding: str
) -> None:
    facts = _read(sender, _chain(sender, {}, change))

    assert finding in facts.findings
    assert not facts.complete
    assert len(facts.entries) == 2


def test_a_time_that_stands_still_is_not_odd(sender: Sender) -> None:
    assert _read(sender, _chain(sender, {"at": _START}, {"at": _START})).complete


def test_two_entries_of_one_number_are_shown_both(sender: Sender) -> None:
    files = [*_chain(sender, {}), _signed(sender, replace(_FIRST, to="Somebody else"))]

    facts = _read(sender, files)

    assert "entry 1 is there twice" in facts.findings
    assert len(facts.entries) == 2


def test_a_chain_of_another_volume_is_a_finding(sender: Sender) -> None:
    assert "entry 1 is about another volume" in _read(sender, _chain(sender, {}), volume="f" * 16).findings


def test_a_sealed_entry_outside_the_bag_is_a_finding(sender: Sender) -> None:
    sealed = replace(_FIRST, entry=0, previous="", kind=HandOverKind.SEALED)

    facts = _read(sender, [_signed(sender, sealed)])

    assert "entry 0 is a sealed entry, which belongs inside the bag" in facts.findings


def test_the_first_hand_over_is_compared_with_the_sealed_entry(sender: Sender) -> None:
    sealed = replace(
        _FIRST, entry=0, previous="", kind=HandOverKind.SEALED, seals=("A-1001", "A-1002", "A-1003"), at=_START
    )
    files = _chain(sender, {}, {})

    def findings(about: HandOver) -> tuple[str, ...]:
        return custody.read_chain(files, sender.people, _SEALED, _VOLUME, sealed=about).findings

    assert findings(sealed) == ()
    assert findings(replace(sealed, seals=())) == ()
    assert findings(replace(sealed, seals=_FIRST.seals, at=_START + timedelta(hours=1))) == ()
    assert findings(replace(sealed, at=_START + timedelta(days=1))) == (
        "time runs backwards between sealing and entry 1",
    )
    assert findings(replace(sealed, release="2026.10")) == ("entry 1 is about another release",)
    assert findings(replace(sealed, seals=("A-1001",))) == ("entry 1 has a seal that was not reserved",)
    assert custody.read_chain([], sender.people, _SEALED, _VOLUME, sealed=sealed).findings == (
        "no hand-over is recorded after sealing",
    )


def test_an_entry_is_signed_by_who_entered_it(sender: Sender) -> None:
    payload = _FIRST.to_payload()
    by_bob = dsse.sign(dsse.CUSTODY, payload, sender.signers["bob", "release"])
    by_both = dsse.countersign(_signed(sender, _FIRST), sender.signers["bob", "release"])
    by_carol = dsse.sign(dsse.CUSTODY, payload, sender.signers["carol", "release"])
    by_root_key = dsse.sign(dsse.CUSTODY, payload, sender.signers["alice", "root"])

    for file in (by_bob, by_both, by_carol, by_root_key):
        with pytest.raises(BadSignatureError):
            custody.read_chain([file], sender.people, _SEALED, _VOLUME)


def test_unreadable_entries_stop_the_reading(sender: Sender) -> None:
    good = _signed(sender, _FIRST)
    other_type = dsse.sign(dsse.INTOTO, _FIRST.to_payload(), sender.signers["alice", "release"])
    later = _FIRST.to_payload().replace(b'"format":1', b'"format":2')
    later_format = dsse.sign(dsse.CUSTODY, later, sender.signers["alice", "release"])
    too_large = bytes(limits.CUSTODY_ENTRY_BYTES + 1)

    for spoilt in (b"", b"junk", good[:-1], good + b"\n", other_type, later_format, too_large):
        with pytest.raises(MalformedError):
            custody.read_chain([good, spoilt], sender.people, _SEALED, _VOLUME)
    with pytest.raises(MalformedError):
        custody.read_chain([good] * (limits.CUSTODY_ENTRIES + 1), sender.people, _SEALED, _VOLUME)


def test_a_later_format_is_named_and_not_guessed_at() -> None:
    with pytest.raises(UnsupportedFormatError):
        HandOver.from_payload(b'{"format":2}')


def _edit(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda value: value.update(changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("place"),
        _edit(note="x"),
        _edit(format=0),
        _edit(entry=-1),
        _edit(entry=limits.CUSTODY_ENTRIES + 1),
        _edit(entry=0),
        _edit(entry=True),
        _edit(previous=""),
        _edit(previous="AB" * 32),
        _edit(previous=None),
        _edit(kind="sealed"),
        _edit(kind="sealed", entry=0),
        _edit(kind="sealed", previous=""),
        _edit(kind="lost"),
        _edit(method="fax"),
        _edit(release="a/b"),
        _edit(volume=""),
        _edit(volume="x" * 17),
        _edit(to=""),
        _edit(to="x" * 201),
        _edit(place="line\nbreak"),
        _edit(condition="\x1b[2J"),
        _edit(condition=None),
        _edit(seals="A-1"),
        _edit(seals=[1]),
        _edit(seals=["x"] * (limits.SEALS + 1)),
        _edit(at="2026-11-20"),
        _edit(entered_by=""),
    ],
)
def test_a_wrong_field_is_malformed(change: Callable[[dict[str, Any]], None]) -> None:
    value = canonical.loads(_FIRST.to_payload())
    change(value)

    with pytest.raises(MalformedError):
        HandOver.from_payload(canonical.dumps(value))


def test_what_would_be_refused_is_not_signed() -> None:
    for change in ({"place": ""}, {"entry": 0}, {"seals": ("\n",)}, {"previous": ""}):
        with pytest.raises(MalformedError):
            replace(_FIRST, **change).to_payload()


def _paper(**changes: Any) -> PaperEntry:
    plain = PaperEntry(
        volume=_VOLUME,
        from_="Person 1",
        to="Person 2",
        at=_START + timedelta(hours=1, minutes=30),
        seals=_FIRST.seals,
        entered_by="Dana",
        sequence=7,
    )
    return replace(plain, **changes)


def _with_paper(sender: Sender, files: list[bytes], *paper: PaperEntry) -> tuple[str, ...]:
    sealed = replace(_FIRST, entry=0, previous="", kind=HandOverKind.SEALED, to=_FIRST.from_)
    return custody.read_chain(files, sender.people, _SEALED, _VOLUME, sealed=sealed, paper=paper).findings


def test_a_gap_between_people_is_closed_by_paper_that_leads_from_one_to_the_other(sender: Sender) -> None:
    files = _chain(sender, {}, {"from_": "Person 2"})
    assert [each[:4] for each in _with_paper(sender, files)] == ["gap:"]

    assert _with_paper(sender, files, _paper()) == ()
    assert _with_paper(sender, files, _paper(from_="  PERSON  1 ")) == ()
    both = _paper(to="Person 1b"), _paper(from_="Person 1b", at=_START + timedelta(hours=1, minutes=45), sequence=3)
    assert _with_paper(sender, files, *reversed(both)) == ()


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"to": "Somebody"}, 1),
        ({"from_": "Somebody"}, 1),
        ({"seals": ("A-1001",)}, 2),
        ({"volume": "f" * 16}, 1),
        ({"at": _START + timedelta(hours=3)}, 2),
        ({"at": _START - timedelta(hours=3)}, 4),
    ],
)
def test_paper_that_does_not_fit_closes_nothing(sender: Sender, changes: dict[str, Any], count: int) -> None:
    files = _chain(sender, {}, {"from_": "Person 2"})

    assert len(_with_paper(sender, files, _paper(**changes))) == count


def test_paper_never_stands_for_a_file_that_is_gone(sender: Sender) -> None:
    files = _chain(sender, {}, {}, {})

    findings = _with_paper(sender, [files[0], files[2]], _paper())

    assert [each.split(":")[0] for each in findings] == ["gap", "tear"]
    assert "entry 2 is missing" in findings[0]


def test_paper_that_says_what_an_entry_says_is_that_entry(sender: Sender) -> None:
    files = _chain(sender, {}, {})

    assert _with_paper(sender, files, _paper(from_="Person 1", to="Person 2", at=_START + timedelta(hours=2))) == ()


def test_without_entries_paper_begins_with_whom_the_sealed_entry_names(sender: Sender) -> None:
    assert _with_paper(sender, []) == ("no hand-over is recorded after sealing",)
    assert _with_paper(sender, [], _paper(from_=_FIRST.from_)) == ()
    assert [each[:4] for each in _with_paper(sender, [], _paper())] == ["gap:"]
