from datetime import timedelta
from pathlib import Path

import pytest

from bundler.cli.main import main
from bundler.custody import HandedOver, chain, hand_over, head
from bundler.custodyform import paper_form
from bundler.errors import SigningError
from media.clock import FixedClock
from media.custody import Method
from media.digest import sha256_hex
from media.errors import BadSignatureError, MalformedError, MissingFileError, UsageError
from tests.support.medium import MADE_AT, SimulatedMedium, make_medium, throwaway_ceremony

LATER = FixedClock(at=MADE_AT + timedelta(hours=3))
TO_SITE = HandedOver(sender="Alice Archer", receiver="Carl Courier", place="Gate", seals=("S-0001-1",))


@pytest.fixture
def medium(tmp_path: Path) -> SimulatedMedium:
    return make_medium(tmp_path / "m")


def test_the_first_hand_over_says_that_the_medium_was_read_back_and_sealed(medium: SimulatedMedium) -> None:
    facts = chain(medium.volumes[0], ceremony=medium.ceremony)

    assert facts.complete
    assert [entry.hand_over.entry for entry in facts.entries] == [1]
    assert "read back" in facts.entries[0].hand_over.condition
    assert facts.entries[0].hand_over.seals == ("S-0001-1",)


def test_a_hand_over_follows_the_one_before(medium: SimulatedMedium) -> None:
    written = hand_over(medium.volumes[0], "carol", TO_SITE, ceremony=medium.ceremony, clock=LATER)

    facts = chain(medium.volumes[0], ceremony=medium.ceremony)

    assert facts.complete
    assert facts.entries[1].file_name == written.name
    assert facts.entries[1].hand_over.entered_by == "carol"


def test_a_hand_over_from_paper_says_so(medium: SimulatedMedium) -> None:
    earlier = MADE_AT + timedelta(hours=1)
    facts = HandedOver(
        sender="Alice Archer", receiver="Carl", place="Gate", seals=("S-0001-1",), on_paper=True, at=earlier
    )

    hand_over(medium.volumes[0], "carol", facts, ceremony=medium.ceremony, clock=LATER)

    entry = chain(medium.volumes[0], ceremony=medium.ceremony).entries[1].hand_over
    assert (entry.method, entry.at) == (Method.PAPER, earlier)


def test_what_is_odd_is_shown_and_not_hidden(medium: SimulatedMedium) -> None:
    odd = HandedOver(
        sender="Nobody Known", receiver="Carl", place="Gate", seals=("X-9",), at=MADE_AT - timedelta(days=1)
    )

    hand_over(medium.volumes[0], "carol", odd, ceremony=medium.ceremony, clock=LATER)

    findings = "\n".join(chain(medium.volumes[0], ceremony=medium.ceremony).findings)
    assert "time runs backwards" in findings
    assert "another person" in findings
    assert "the seals differ" in findings


def test_the_sealed_release_stays_as_it_was(medium: SimulatedMedium) -> None:
    before = {path: path.read_bytes() for path in (medium.volumes[0] / "release").rglob("*") if path.is_file()}

    hand_over(medium.volumes[0], "carol", TO_SITE, ceremony=medium.ceremony, clock=LATER)

    assert {path: path.read_bytes() for path in before} == before


def test_without_custody_the_chain_is_not_complete(medium: SimulatedMedium) -> None:
    for path in (medium.volumes[0] / "custody").iterdir():
        path.unlink()

    facts = chain(medium.volumes[0], ceremony=medium.ceremony)

    assert (facts.complete, facts.entries) == (False, ())


def test_a_hand_over_of_the_other_volume_is_a_tear(medium: SimulatedMedium) -> None:
    other = next((medium.volumes[1] / "custody").iterdir())
    own = next((medium.volumes[0] / "custody").iterdir())
    own.unlink()
    (own.parent / other.name).write_bytes(other.read_bytes())

    assert any("tear" in each for each in chain(medium.volumes[0], ceremony=medium.ceremony).findings)


def test_a_changed_entry_stops_the_next_one(medium: SimulatedMedium) -> None:
    path = next((medium.volumes[0] / "custody").iterdir())
    path.write_bytes(path.read_bytes().replace(b'"payload":"', b'"payload":"A', 1))

    with pytest.raises((BadSignatureError, MalformedError)):
        hand_over(medium.volumes[0], "carol", TO_SITE, ceremony=medium.ceremony, clock=LATER)


def test_a_person_of_another_root_cannot_enter_custody(medium: SimulatedMedium) -> None:
    with pytest.raises((BadSignatureError, SigningError)):
        hand_over(medium.volumes[0], "carol", TO_SITE, ceremony=throwaway_ceremony("demo", "other"), clock=LATER)


def test_an_empty_folder_has_no_custody(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no sealed release here"):
        hand_over(tmp_path, "alice", TO_SITE, ceremony=throwaway_ceremony(), clock=LATER)


def test_the_paper_form_names_release_volume_and_seals(medium: SimulatedMedium) -> None:
    form = paper_form(medium.volumes[1])

    assert "demo-1, serial 1" in form
    assert "2 of 2" in form
    assert "S-0001-2" in form
    assert "Alice Archer" in form


def test_there_is_no_form_without_a_release(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        paper_form(tmp_path)


def test_the_head_is_that_of_the_last_entry_and_stands_on_the_form(medium: SimulatedMedium) -> None:
    volume = medium.volumes[0]
    written = hand_over(volume, "carol", TO_SITE, ceremony=medium.ceremony, clock=LATER)

    assert head(volume) == sha256_hex(written.read_bytes())[:16]
    assert f"Head       {head(volume)}" in paper_form(volume)
    for entry in (volume / "custody").iterdir():
        entry.unlink()
    sealed = volume / "release" / "attest" / "custody-sealed-1.dsse.json"
    assert head(volume) == sha256_hex(sealed.read_bytes())[:16]


@pytest.mark.parametrize(
    "typed", [["--to", ""], ["--to", "x" * 201], ["--place", "Gate\nTwo"], ["--seal", "9" * 65], ["--seal", ""]]
)
def test_a_dry_run_of_a_hand_over_refuses_what_could_not_be_entered(
    medium: SimulatedMedium, capsys: pytest.CaptureFixture[str], typed: list[str]
) -> None:
    before = sorted((medium.volumes[0] / "custody").iterdir())
    said = {"--from": "Alice Archer", "--to": "Carl", "--place": "Gate"} | {typed[0]: typed[1]}
    words = ["custody", "hand-over", str(medium.volumes[0]), "--ceremony", str(medium.ceremony.folder)]
    words += ["--person", "carol", *(word for pair in said.items() for word in pair)]

    for more in (["--dry-run"], []):
        with pytest.raises(SystemExit) as ended:
            main([*words, *more])
        assert ended.value.code == UsageError.exit_code
        assert "cannot be entered as it was written down" in capsys.readouterr().err
    assert sorted((medium.volumes[0] / "custody").iterdir()) == before
