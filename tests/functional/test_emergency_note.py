"""The emergency note from the sender's table to the box: keys stop counting, by file or by QR code, and stay so."""

import io
import json
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from appliance.actions import affected, emergency, recovery
from appliance.actions import trust as trust_action
from appliance.cli import trust
from appliance.cli.context import Context
from appliance.verify.trust import RECORD
from bundler import emergency as sender
from bundler.errors import SigningError
from bundler.signatory import Ceremony
from media import dsse
from media.clock import FixedClock
from media.emergency import MOST_BYTES, EmergencyNote, Reason
from media.errors import (
    BadSignatureError,
    MalformedError,
    MediaError,
    NoTrustError,
    ThresholdError,
    TrustError,
    UsageError,
    WrongEnvironmentError,
)
from tests.support.ledger import ledger_site
from tests.support.medium import make_medium, throwaway_ceremony
from tests.support.receiving import NOW, Shelf, Site, make_site, rotated

pytestmark = pytest.mark.slow  # whole commands and processes, seconds in all

STOLEN = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
RELEASE = ("release",)


def note_by(
    signers: Sequence[str] = ("alice", "bob"),
    *,
    revoked: Sequence[tuple[str, Sequence[str]]] = (("bob", RELEASE),),
    number: int = 1,
    ceremony: Ceremony | None = None,
    since: datetime = STOLEN,
) -> bytes:
    held = ceremony or throwaway_ceremony("demo")
    clock = FixedClock(at=NOW)
    note = sender.draft(held, revoked, number=number, reason=Reason.STOLEN, since=since, clock=clock)
    untrusted = note.to_bytes()
    for person in signers:
        untrusted = sender.sign(untrusted, held, held.signatory(person))
    return untrusted


def run(site: Site, *arguments: object, as_json: bool = True, typed: bytes | None = None) -> Result:
    app = typer.Typer()
    trust.register(app)
    own = Context(config_path=Path("unused"), as_json=as_json, clock=site.clock)
    own._config = site.config
    return CliRunner().invoke(app, [str(each) for each in arguments], obj=own, input=typed)


@pytest.fixture
def box(tmp_path: Path) -> Site:
    return make_site(tmp_path / "box", throwaway_ceremony("demo").chain[0])


def test_a_release_that_needs_a_stolen_key_is_refused_from_the_note_on(box: Site, genuine: Shelf) -> None:
    assert box.receive(genuine(serial=1)).outcome == "received"

    facts = emergency.accept(box.config, note_by(), clock=box.clock)

    assert (facts.outcome, facts.note, dict(facts.people)) == ("accepted", 1, {"bob": RELEASE})
    before = box.untouched()
    with pytest.raises(ThresholdError, match="Too few people") as refused:
        box.receive(genuine(serial=2))
    assert "the key of bob was taken away by an emergency note" in refused.value.why
    assert box.untouched() == before


def test_a_release_that_enough_others_signed_is_received_all_the_same(box: Site, genuine: Shelf) -> None:
    emergency.accept(box.config, note_by(revoked=[("carol", RELEASE)]), clock=box.clock)

    assert box.receive(genuine()).outcome == "received"


def test_the_note_lasts_through_a_rotation_that_keeps_the_key(box: Site, genuine: Shelf) -> None:
    note = note_by()
    emergency.accept(box.config, note, clock=box.clock)
    later = rotated(throwaway_ceremony("demo"), without="carol")

    with pytest.raises(ThresholdError):
        box.receive(genuine(serial=3, keys=later))

    assert len(box.record.root_chain) == 2
    assert trust_action.show(box.config).root_version == 2
    assert emergency.accept(box.config, note, clock=box.clock).outcome == "known"


def test_a_note_that_no_site_would_act_on_is_not_written() -> None:
    with pytest.raises(SigningError, match="no site would act") as refused:
        note_by(revoked=[("bob", ("root",))])

    assert "2 root people must sign it with other keys, 1 are left" in refused.value.why


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda raw: raw[:-40] + bytes([raw[-40] ^ 1]) + raw[-39:], (MalformedError, BadSignatureError)),
        (lambda raw: raw.replace(b"emergency", b"urgencies"), MalformedError),
        (lambda raw: b"{}", MalformedError),
        (lambda raw: b"x" * 2**17, MalformedError),
        (lambda raw: note_by(("alice",)), ThresholdError),
        (lambda raw: note_by(ceremony=throwaway_ceremony("demo", "strangers")), BadSignatureError),
        (lambda raw: note_by(ceremony=throwaway_ceremony("rehearsal")), (WrongEnvironmentError, BadSignatureError)),
    ],
    ids=["bit", "type", "empty", "huge", "one person", "another sender", "another environment"],
)
def test_what_is_no_note_for_this_box_changes_nothing(box: Site, spoil: Any, expected: Any) -> None:
    with pytest.raises(expected):
        emergency.accept(box.config, spoil(note_by()), clock=box.clock)

    assert box.record.notes == ()
    assert box.facts("trust.note") == []


def test_every_flipped_bit_of_a_note_is_refused(box: Site) -> None:
    raw = note_by()
    for place in range(0, len(raw), 7):
        spoilt = bytearray(raw)
        spoilt[place] ^= 1 << (place % 7)
        with pytest.raises((MediaError, TrustError)):
            emergency.accept(box.config, bytes(spoilt), clock=box.clock, dry_run=True)


def test_a_dry_run_tells_and_changes_nothing(box: Site, tmp_path: Path) -> None:
    (tmp_path / "note.json").write_bytes(note_by() + b"\n")

    done = run(box, "trust", "note", tmp_path / "note.json", "--dry-run")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["outcome"] == "would-accept"
    assert box.record.notes == ()
    assert box.facts("trust.note") == []


def test_a_note_is_recorded_once_and_a_missing_one_is_named(box: Site) -> None:
    second = note_by(number=2, revoked=[("carol", RELEASE)])

    first_time = emergency.accept(box.config, second, clock=box.clock)
    again = emergency.accept(box.config, second, clock=box.clock)

    assert (first_time.outcome, first_time.missing) == ("accepted", (1,))
    assert again.outcome == "known"
    recorded = box.facts("trust.note")
    assert [fact["body"]["note"] for fact in recorded] == [2]
    assert recorded[0]["body"]["envelope"].encode() == second


def test_a_lost_trust_record_comes_back_with_its_notes(box: Site, genuine: Shelf) -> None:
    medium = genuine()
    box.receive(medium)
    emergency.accept(box.config, note_by(), clock=box.clock)
    notes = box.record.notes
    (box.config.at.trust / RECORD).unlink()
    for kept in (box.config.at.trust / "notes").iterdir():
        kept.unlink()

    trust_action.recover(box.config, [medium.code] * 2, ["Ann Old", "Ben Young"], checkpoint="", clock=box.clock)

    assert box.record.notes == notes
    with pytest.raises(ThresholdError):
        box.receive(genuine(serial=2))
    assert recovery.stored(box.config.at)[1] == ()


def test_a_note_does_not_stand_in_for_a_lost_record(tmp_path: Path, genuine: Shelf) -> None:
    """Also where the disk of the store is gone: the ledger knows that something was accepted here."""
    with ledger_site(tmp_path / "b", site="demo-clinic") as made:
        places = made.config.at
        places.pinned_trust.mkdir(parents=True)
        (places.pinned_trust / "1.root.json").write_bytes(throwaway_ceremony("demo").chain[0])
        box = Site(config=made.config.model_copy(update={"environment": "demo", "profile": "cpu"}))
        with made.running(box.clock):
            box.receive(genuine(serial=5))
            (places.trust / RECORD).unlink()
            shutil.rmtree(places.store)

            with pytest.raises(NoTrustError, match="lost"):
                emergency.accept(box.config, note_by(), clock=box.clock)
            with pytest.raises(NoTrustError, match="lost"):
                box.receive(genuine(serial=3))


def test_the_printed_note_is_read_back_by_a_scanner_and_taken(box: Site, tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    zxing = pytest.importorskip("zxingcpp")
    image_module = pytest.importorskip("PIL.Image")
    untrusted = note_by()
    sheet = sender.sheet(untrusted, throwaway_ceremony("demo"))

    pages = pypdf.PdfReader(io.BytesIO(sheet)).pages
    codes = [
        code.text
        for page in pages
        for image in page.images
        for code in zxing.read_barcodes(
            image_module.open(io.BytesIO(image.data)).convert("L"), formats=zxing.barcode_formats_from_str("QRCode")
        )
    ]

    assert codes == [untrusted.decode()]
    assert len(untrusted) <= MOST_BYTES
    assert "bob" in "".join(page.extract_text() for page in pages)
    done = run(box, "trust", "note", "-", typed=codes[0].encode() + b"\r\n")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["outcome"] == "accepted"


@pytest.mark.parametrize(
    "scanned",
    [lambda note: note + b"\r\n" + note + b"\r\n", lambda note: b"\xef\xbb\xbf" + note],
    ids=["twice", "marked"],
)
def test_a_code_that_was_scanned_twice_is_one_note(box: Site, scanned: Callable[[bytes], bytes]) -> None:
    done = run(box, "trust", "note", "-", typed=scanned(note_by()))

    assert (done.exit_code, json.loads(done.stdout)["outcome"]) == (0, "accepted")


@pytest.mark.parametrize("spoilt", [lambda note: note[:-40], lambda note: note.swapcase(), lambda _: b""])
def test_a_code_that_was_misread_is_to_be_scanned_again(box: Site, spoilt: Callable[[bytes], bytes]) -> None:
    done = run(box, "trust", "note", "-", typed=spoilt(note_by()))

    assert isinstance(done.exception, MalformedError)
    assert "scan the code again" in done.exception.fix


def test_what_the_keys_touched_is_listed_with_what_still_stands(tmp_path: Path) -> None:
    with ledger_site(tmp_path / "b", site="demo-clinic") as made:
        places = made.config.at
        places.pinned_trust.mkdir(parents=True)
        (places.pinned_trust / "1.root.json").write_bytes(throwaway_ceremony("demo").chain[0])
        box = Site(config=made.config.model_copy(update={"environment": "demo", "profile": "cpu"}))
        with made.running(box.clock):
            box.receive(make_medium(tmp_path / "m", serial=1))
            emergency.accept(box.config, note_by(), clock=box.clock)
            early = json.loads(
                run(box, "trust", "affected", "--person", "bob", "--since", "2027-01-01T00:00:00Z").stdout
            )
            late = json.loads(run(box, "trust", "affected").stdout)
            by_day = json.loads(run(box, "trust", "affected", "--person", "bob", "--since", "2027-01-01").stdout)
            wrong = run(box, "trust", "affected", "--person", "bob", "--since", "yesterday")
            other = json.loads(run(box, "trust", "affected", "--person", "carol").stdout)

    assert [(each["serial"], each["verdict"], each["doubted"]) for each in late["releases"]] == [
        (1, "in-doubt", ["bob"])
    ]
    assert [each["verdict"] for each in early["releases"]] == ["before"]
    assert by_day == early
    assert isinstance(wrong.exception, UsageError)
    assert other["releases"] == []
    assert late["releases"][0]["received_at"]


def test_nothing_is_doubted_without_a_note_or_a_name(box: Site) -> None:
    with pytest.raises(UsageError, match="no emergency note"):
        affected.by_note(box.config, None)
    with pytest.raises(UsageError, match="names the person"):
        affected.by_person(box.config, "mallory", None)


def test_a_note_says_the_same_after_reading() -> None:
    held, clock = throwaway_ceremony("demo"), FixedClock(at=NOW)
    note = sender.draft(held, [("bob", RELEASE)], number=4, reason=Reason.LOST, since=STOLEN, clock=clock)

    assert EmergencyNote.from_bytes(note.to_bytes()) == note
    with pytest.raises(UsageError, match="later time"):
        sender.draft(
            throwaway_ceremony("demo"),
            [("bob", RELEASE)],
            number=1,
            reason=Reason.LOST,
            since=datetime(2030, 1, 1, tzinfo=UTC),
            clock=FixedClock(at=NOW),
        )


def test_a_note_names_the_keys_of_older_roots_too_which_sites_may_still_believe(box: Site, genuine: Shelf) -> None:
    # Carol is in no root any more; this box was sent nothing since, and her old keys are stolen.
    later = rotated(throwaway_ceremony("demo"), without="carol")
    carols = throwaway_ceremony("demo").person("carol").keys["release"]

    facts = emergency.accept(box.config, note_by(revoked=[("carol", RELEASE)], ceremony=later), clock=box.clock)

    assert set(carols) <= set(facts.keys)
    assert dict(facts.people) == {"carol": RELEASE}
    with pytest.raises(SigningError, match="'nobody'"):
        note_by(revoked=[("nobody", RELEASE)], ceremony=later)


def test_a_signature_by_another_key_than_a_root_key_completes_no_note() -> None:
    held = throwaway_ceremony("demo")
    with held.signatory("alice").at_hand() as ready:
        odd = dsse.countersign(note_by(["bob"]), ready.signers("release")[0])

    found = sender.state(odd, held)

    assert (found.signed, found.complete) == (("bob",), False)


def test_a_dry_run_of_a_note_sends_nobody_to_what_only_a_taken_note_shows(box: Site, tmp_path: Path) -> None:
    (tmp_path / "note.json").write_bytes(note_by())

    foreseen = run(box, "trust", "note", tmp_path / "note.json", "--dry-run", as_json=False).stdout
    taken = run(box, "trust", "note", tmp_path / "note.json", as_json=False).stdout

    assert "next: the same without --dry-run" in foreseen
    assert "next: sealift trust affected" in taken
