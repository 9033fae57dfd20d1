"""The verifier on the medium and the appliance agree, and where they must not, the rule that says so is named here.

Two implementations without a line in common look at the same media: what the corpus froze of both, and media made here
of all that only one of them can know. A difference that is in neither list fails.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.verify.trust import TrustRecord
from media import layout
from tests.corpus.judging import EXPECTED, media
from tests.support.medium import SimulatedMedium, throwaway_ceremony
from tests.support.readers import CORPUS
from tests.support.receiving import NOW, Shelf, copy_here, terms_for

pytestmark = pytest.mark.interop

VERIFY = Path(__file__).resolve().parents[2] / "bundler" / "check" / "verify.py"
VERIFY_TXT = VERIFY.with_name("VERIFY.txt")

BESIDE_RELEASE = "CUST-10: custody/ lies beside release/, for people; the stand-alone verifier does not look there"
NOT_TUF = "TUF decides, and only the appliance reads it: thresholds of metadata, python-tuf, root people"
STATE = "only the box knows what it accepted, who it is and what time it is"
NO_PEOPLE = "people are in the root; the stand-alone verifier knows fingerprints from the sheet"
ORDER = "both refuse; signatures come first on the appliance, lists first in the stand-alone verifier"

# Of the frozen corpus: appliance, stand-alone verifier, rule. Every other medium ends alike in both.
DIFFERS = {
    "tampered/custody-gone.medium.json": (26, 0, BESIDE_RELEASE),
    "tampered/manifest-of-the-other-volume.medium.json": (15, 12, ORDER),
    "tampered/one-person-twice.medium.json": (22, 20, NO_PEOPLE),
    "tampered/tag-manifest-flipped.medium.json": (20, 15, ORDER),
}


def frozen() -> dict[str, dict[str, int]]:
    expected = json.loads((CORPUS / EXPECTED).read_bytes())
    return {name: expected[name] for name in media(CORPUS)}


def test_on_every_medium_of_the_corpus_both_say_the_same_or_differ_by_a_rule() -> None:
    found = {
        name: (each["exit_code"], each["second_opinion"])
        for name, each in frozen().items()
        if each["exit_code"] != each["second_opinion"]
    }

    assert found == {name: (ours, theirs) for name, (ours, theirs, _) in DIFFERS.items()}


def test_one_takes_a_medium_of_the_corpus_that_the_other_refuses_only_beside_the_release() -> None:
    split = [name for name, each in frozen().items() if (each["exit_code"] == 0) != (each["second_opinion"] == 0)]

    assert [DIFFERS[name][2] for name in split] == [BESIDE_RELEASE]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A medium, what both must say, and why where they differ."""

    ours: int
    theirs: int
    rule: str = ""
    made: Callable[[], dict[str, Any]] = dict
    spoil: Callable[[SimulatedMedium], Any] = lambda _: None
    terms: Callable[[SimulatedMedium], dict[str, Any]] = lambda _: {}
    sheet: bool = True


def accepted_later(medium: SimulatedMedium) -> dict[str, Any]:
    record = TrustRecord(
        root_chain=(medium.root_json.decode(),),
        serial=9,
        timestamp_version=9000,
        snapshot_version=9,
        targets_version=9,
        payload_digest="a" * 64,
    )
    return {"trust": record}


def without_volume(medium: SimulatedMedium) -> None:
    medium.volumes.pop()


def twice(medium: SimulatedMedium) -> None:
    medium.volumes[1] = medium.volumes[0]


def without_custody(medium: SimulatedMedium) -> None:
    for volume in medium.volumes:
        shutil.rmtree(volume / layout.CUSTODY)


def beside(medium: SimulatedMedium) -> None:
    (medium.volumes[0] / "notes.txt").write_text("left here")


def sealed_again(medium: SimulatedMedium) -> None:
    medium.flip_bit("data/wheels/tiny-1.0-py3-none-any.whl")
    medium.reseal()


def link(medium: SimulatedMedium) -> None:
    path = medium.path("data/wheels/tiny-1.0-py3-none-any.whl")
    path.unlink()
    path.symlink_to("/etc/hostname")


CASES = {
    "a genuine medium": Case(ours=0, theirs=0),
    "litter of operating systems": Case(ours=0, theirs=0, spoil=SimulatedMedium.add_litter),
    "a volume misses": Case(ours=17, theirs=17, spoil=without_volume),
    "a volume twice": Case(ours=14, theirs=14, spoil=twice),
    "a link in the place of a file": Case(ours=13, theirs=13, spoil=link),
    "a file that no list names": Case(ours=12, theirs=12, spoil=lambda medium: medium.add("data/extra")),
    "a payload of other bytes, sealed again by its signers": Case(
        ours=14,
        theirs=10,
        rule="FMT-76: both refuse what the signed index does not say; the appliance calls the volume foreign",
        spoil=sealed_again,
        sheet=False,
    ),
    "one signature only": Case(ours=21, theirs=21, spoil=SimulatedMedium.drop_signature),
    "custody gone": Case(ours=26, theirs=0, rule=BESIDE_RELEASE, spoil=without_custody),
    "a file beside the release": Case(ours=12, theirs=0, rule="FMT-11: " + BESIDE_RELEASE, spoil=beside),
    "superseded": Case(ours=23, theirs=0, rule=STATE, terms=accepted_later),
    "another site": Case(ours=24, theirs=0, rule=STATE, made=lambda: {"sites": ("elsewhere",)}),
    "stale": Case(ours=25, theirs=0, rule=STATE, terms=lambda _: {"now": NOW + timedelta(days=3650)}),
    "another machine": Case(
        ours=27,
        theirs=0,
        rule=STATE,
        terms=lambda medium: {"machine": replace(terms_for(medium).machine, profile="gpu")},
    ),
    "not rehearsed as the site demands": Case(ours=27, theirs=0, rule=STATE, made=lambda: {"level": "installed"}),
    "metadata signed by one person, sealed by two": Case(
        ours=21, theirs=0, rule=NOT_TUF, spoil=lambda medium: medium.sign_roles_as("alice"), sheet=False
    ),
    "a stranger's medium, without the sheet": Case(
        ours=20,
        theirs=0,
        rule=NO_PEOPLE,
        made=lambda: {"keys": throwaway_ceremony("demo", "other")},
        terms=lambda _: {"trust": TrustRecord(root_chain=(throwaway_ceremony("demo").chain[0].decode(),))},
        sheet=False,
    ),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_both_say_what_they_must_of_what_only_one_can_know(genuine: Shelf, case: Case) -> None:
    medium = genuine(**case.made())
    code, people = medium.code, [medium.fingerprint(person) for person in ("alice", "bob")]
    case.spoil(medium)
    sheet = ["--code", code, *(part for each in people for part in ("--signer", each))] if case.sheet else []
    bare = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    command = [sys.executable, "-I", str(VERIFY), *sheet, *map(str, medium.volumes)]

    theirs = subprocess.run(command, env=bare, capture_output=True, check=False)
    ours, lines = copy_here(medium, None, **case.terms(medium))

    assert (ours, theirs.returncode) == (case.ours, case.theirs), (lines[-1], theirs.stderr)
    assert bool(case.rule) == (case.ours != case.theirs)


def test_a_stranger_who_sealed_it_all_is_seen_by_who_has_the_sheet(genuine: Shelf) -> None:
    mine, strange = genuine(), genuine(keys=throwaway_ceremony("demo", "other"))
    sheet = ["--code", mine.code, "--signer", mine.fingerprint("alice")]
    bare = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    command = [sys.executable, "-I", str(VERIFY), *sheet, *map(str, strange.volumes)]

    done = subprocess.run(command, env=bare, capture_output=True, check=False)

    assert done.returncode == 21


def test_the_page_fits_a_terminal_and_prints_as_plain_text() -> None:
    text = VERIFY_TXT.read_text("ascii")

    assert max(map(len, text.splitlines())) <= 80
    assert "\t" not in text
    assert "delta set" in text


def test_the_stand_alone_verifier_stays_short_enough_to_be_read() -> None:
    # It checks media and ledgers alike (docs/adr/0035); the part on media is the first half.
    assert len(VERIFY.read_text("utf-8").splitlines()) <= 1420
