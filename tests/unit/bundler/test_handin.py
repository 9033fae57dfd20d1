"""Hand-ins: copies of one work folder on several machines come to the same release, and nothing else gets in."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import Signature  # type: ignore[attr-defined]  # no __all__

from bundler.attest import attest, choose_volumes
from bundler.chunks import read_small_files, to_lines
from bundler.errors import SigningError
from bundler.handin import HandIn, Part, Seal, SignedStatement, hand_in, take
from bundler.seal import seal
from bundler.sign import sign
from bundler.signatory import Ceremony
from bundler.volumechoice import VolumeChoice
from bundler.workfolder import WorkFolder
from media.canonical import dumps
from media.clock import FixedClock
from media.errors import DigestMismatchError, SealiftError
from tests.support.candidate import new_candidate
from tests.support.throwaway import throwaway_ceremony

CLOCK = FixedClock(at=datetime(2026, 11, 20, 8, tzinfo=UTC))


@pytest.fixture(scope="module")
def held() -> Ceremony:
    return throwaway_ceremony()


@pytest.fixture(scope="module")
def attested(held: Ceremony, tmp_path_factory: pytest.TempPathFactory) -> WorkFolder:
    """A candidate with volumes chosen and all statements signed by Alice."""
    work = new_candidate(tmp_path_factory.mktemp("attested") / "w")
    choose_volumes(work, "alice", VolumeChoice(), ceremony=held, clock=CLOCK, place="Room 1")
    attest(work, "alice", ceremony=held)
    return work


@pytest.fixture
def desk(attested: WorkFolder, tmp_path: Path) -> Callable[[str], WorkFolder]:
    """Return a person's copy of the work folder."""

    def copy(person: str) -> WorkFolder:
        return WorkFolder(root=Path(shutil.copytree(attested.root, tmp_path / person)))

    return copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Alice signed apart; Bob took what she handed in, signed after her and so sealed."""

    from_alice: HandIn
    from_bob: HandIn


@pytest.fixture(scope="module")
def pair(attested: WorkFolder, held: Ceremony, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    alice, bob = (WorkFolder(root=Path(shutil.copytree(attested.root, folder / name))) for name in ("alice", "bob"))
    sign(alice, "alice", ceremony=held)
    from_alice = handed(alice, "alice", held)
    take(bob, [from_alice], ceremony=held)
    sign(bob, "bob", ceremony=held)
    return Pair(from_alice=from_alice, from_bob=handed(bob, "bob", held))


def handed(work: WorkFolder, person: str, held: Ceremony) -> HandIn:
    """Return what a person hands in, as it is read from its file."""
    return HandIn.from_bytes(hand_in(work, person, ceremony=held).to_bytes())


def changed(found: HandIn, edit: Callable[[Any], object]) -> HandIn:
    value = json.loads(found.to_bytes())
    edit(value)
    return HandIn.from_bytes(dumps(value))


def test_two_desks_come_to_the_same_sealed_release(desk: Callable[[str], WorkFolder], held: Ceremony) -> None:
    alice, bob = desk("alice"), desk("bob")
    sign(alice, "alice", ceremony=held)
    take(bob, [handed(alice, "alice", held)], ceremony=held)
    assert sign(bob, "bob", ceremony=held).sealed_volumes == (1,)

    from_bob = handed(bob, "bob", held)
    first = take(alice, [from_bob], ceremony=held)
    seal(alice, "alice", ceremony=held)
    last = take(bob, [handed(alice, "alice", held)], ceremony=held)

    assert from_bob.frozen_with == ("alice", "bob")
    assert (first.frozen, first.sealed_by, first.sheet) == (True, ("bob",), False)
    assert (last.sealed_by, last.sheet) == (("alice", "bob"), True)
    assert bob.sheet.read_text("utf-8").count(held.person("alice").fingerprint[:4]) > 0
    for name in ("metadata", "seals"):
        files = {
            path.relative_to(alice.root): path.read_bytes() for path in (alice.root / name).rglob("*") if path.is_file()
        }
        assert {path: (bob.root / path).read_bytes() for path in files if not path.name.endswith(".sig")} == {
            path: data for path, data in files.items() if not path.name.endswith(".sig")
        }


def test_statements_travel_without_their_payload(
    desk: Callable[[str], WorkFolder], attested: WorkFolder, held: Ceremony
) -> None:
    bob = desk("bob")
    for envelope in bob.attest.glob("*.dsse.json"):
        envelope.unlink()

    found = handed(attested, "alice", held)
    take(bob, [found], ceremony=held)

    assert sorted(found.statements) == ["custody-sealed-1", "provenance", "rehearsal", "sbom", "scan"]
    assert len(found.to_bytes()) < 8000
    for envelope in attested.attest.glob("*.dsse.json"):
        assert (bob.attest / envelope.name).read_bytes() == envelope.read_bytes()


def test_seals_alone_fit_one_code(desk: Callable[[str], WorkFolder], held: Ceremony, pair: Pair) -> None:
    alice = desk("alice")
    take(alice, [pair.from_bob, pair.from_alice], ceremony=held)
    seal(alice, "alice", ceremony=held)

    only = hand_in(alice, "alice", ceremony=held, only=[Part.SEALS])

    assert (only.statements, only.signatures, list(only.seals)) == ({}, None, [1])
    assert len(to_lines(only.to_bytes())) == 1
    lead = desk("lead")
    take(lead, [pair.from_bob, pair.from_alice], ceremony=held)
    assert take(lead, [only], ceremony=held).sheet is True
    with pytest.raises(SigningError, match="has signed nothing"):
        hand_in(alice, "carol", ceremony=held, only=[Part.STATEMENTS])


def test_taking_twice_and_in_any_order_changes_nothing(desk: Callable[[str], WorkFolder], held: Ceremony) -> None:
    alice, bob, lead = desk("alice"), desk("bob"), desk("lead")
    sign(alice, "alice", ceremony=held)
    sign(bob, "bob", ceremony=held)
    both = [handed(bob, "bob", held), handed(alice, "alice", held)]

    first = take(lead, both[:1], ceremony=held)
    second = take(lead, both, ceremony=held)
    before = (lead.metadata / "timestamp.json").read_bytes()
    third = take(lead, both[::-1], ceremony=held)

    assert (first.frozen, second.frozen, third.frozen) == (False, True, True)
    assert (third.signed, third.code) == (second.signed, second.code)
    assert (lead.metadata / "timestamp.json").read_bytes() == before


def test_whoever_seals_nothing_hands_in_their_statements_after_the_release_was_sealed_too(
    desk: Callable[[str], WorkFolder], held: Ceremony, pair: Pair
) -> None:
    """Without an OpenPGP key, as who enters custody may be, no seal can be theirs."""
    alice = desk("alice")
    take(alice, [pair.from_bob, pair.from_alice], ceremony=held)
    people = [
        replace(each, fingerprint="", certificate=b"") if each.id == "alice" else each for each in held.people.people
    ]
    keyless = replace(held, people=replace(held.people, people=tuple(people)))

    found = hand_in(alice, "alice", ceremony=keyless)

    assert (sorted(found.seals), "provenance" in found.statements) == ([], True)


def test_a_hybrid_hand_in_for_as_many_volumes_as_there_may_be_can_be_taken(tmp_path: Path) -> None:
    """It was written and then refused wherever it was taken, from 55 volumes on."""
    own = (Signature("a" * 64, "ab" * 4627), Signature("b" * 40, "cd" * 64))
    signed = SignedStatement(payload_type="application/x", payload_sha256="0" * 64, signatures=own)
    stated = {f"custody-sealed-{number}": signed for number in range(1, 100)}
    seals = {number: Seal(tag_manifest="0" * 64, signature=bytes(119)) for number in range(1, 100)}
    found = HandIn(
        person="alice",
        release="clinic-7",
        serial=7,
        statements={**stated, **dict.fromkeys(("provenance", "sbom", "scan", "rehearsal"), signed)},
        signatures=None,
        frozen_with=("alice", "bob"),
        seals=seals,
    )
    (tmp_path / "alice.hand-in.json").write_bytes(found.to_bytes())

    assert [HandIn.from_bytes(each) for each in read_small_files([tmp_path / "alice.hand-in.json"])] == [found]


def test_nobody_hands_in_what_they_did_not_sign(desk: Callable[[str], WorkFolder], held: Ceremony) -> None:
    with pytest.raises(SigningError, match="has signed nothing"):
        hand_in(desk("carol"), "carol", ceremony=held)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda value: value.update(serial=2), "serial 2"),
        (lambda value: value.update(release="other"), "it is about other"),
        (lambda value: value.update(person="carol"), "names|another's name|somebody else"),
        (lambda value: value.update(person="zoe"), "names no person"),
        (lambda value: value["statements"]["sbom"].update(payload_sha256="0" * 64), "sbom is another one here"),
        (lambda value: value["statements"].update(extra=value["statements"]["sbom"]), "extra, which is not in"),
        (lambda value: value["statements"].update(sbom=value["statements"]["scan"]), "sbom is another one here"),
        (lambda value: value["signatures"].update(person="bob"), "another's name"),
        (lambda value: value["signatures"]["signs"].update(targets="0" * 64), "signed other bytes"),
        (
            lambda value: value["signatures"]["signatures"].update(
                targets=value["signatures"]["signatures"]["snapshot"]
            ),
            "does not hold",
        ),
    ],
)
def test_what_was_changed_on_the_way_is_refused_and_leaves_nothing(
    desk: Callable[[str], WorkFolder], held: Ceremony, pair: Pair, edit: Callable[[Any], object], said: str
) -> None:
    lead = desk("lead")

    with pytest.raises(SigningError) as refused:
        take(lead, [changed(pair.from_alice, edit)], ceremony=held)

    error = refused.value
    assert any(each in f"{error.what} {error.why}" for each in said.split("|"))
    assert list(lead.signatures.glob("*")) == []


def test_a_copy_with_other_bytes_refuses_the_others_signatures(
    desk: Callable[[str], WorkFolder], held: Ceremony, pair: Pair
) -> None:
    bob = desk("bob")
    wheel = next(bob.data.glob("wheels/*"))
    wheel.write_bytes(wheel.read_bytes() + b"x")

    with pytest.raises((SigningError, DigestMismatchError)):
        take(bob, [pair.from_alice], ceremony=held)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda value: value["seals"]["1"].update(tag_manifest="0" * 64), "sealed over other files"),
        (lambda value: value["seals"].update({"2": value["seals"]["1"]}), "there is no volume 2"),
        (lambda value: value["seals"]["1"].update(signature="AAAA"), "the seal of volume 1"),
        (lambda value: value.update(frozen_with=["bob", "carol"]), "the signatures of carol are not here"),
        (lambda value: value.update(signatures=None), "not complete here"),
    ],
)
def test_a_seal_over_something_else_is_refused(
    desk: Callable[[str], WorkFolder], held: Ceremony, pair: Pair, edit: Callable[[Any], object], said: str
) -> None:
    bad = changed(pair.from_bob, edit)
    others = [] if bad.signatures is None else [pair.from_alice]

    with pytest.raises(SigningError) as refused:
        take(desk("carol"), [bad, *others], ceremony=held)
    assert said in f"{refused.value.what} {refused.value.why}"


def test_a_copy_that_has_everything_takes_the_seal(
    desk: Callable[[str], WorkFolder], held: Ceremony, pair: Pair
) -> None:
    assert take(desk("carol"), [pair.from_bob, pair.from_alice], ceremony=held).sealed_by == ("bob",)


def test_a_copy_that_was_frozen_with_others_says_with_whom(
    desk: Callable[[str], WorkFolder], held: Ceremony, pair: Pair
) -> None:
    lead = desk("lead")
    take(lead, [pair.from_alice], ceremony=held)
    sign(lead, "carol", ceremony=held)

    with pytest.raises(SigningError) as refused:
        take(lead, [pair.from_bob], ceremony=held)
    assert refused.value.why.endswith("was frozen with alice, bob")


@given(st.binary(max_size=400))
def test_any_bytes_are_a_hand_in_or_our_error(untrusted: bytes) -> None:
    for data in (untrusted, b'{"format":1' + untrusted):
        with pytest.raises(SealiftError):
            HandIn.from_bytes(data)
