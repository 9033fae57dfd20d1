import resource
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.errors import SigningError
from bundler.seal import put_seals
from bundler.sheet import SheetSigner, SheetVolume, TrustSheet, spaced
from media import layout
from media.errors import UnreadableError
from tests.support.medium import make_medium

FINGERPRINTS = ("A1" * 20, "B2" * 20)
SHEET = TrustSheet(
    release="demo-1",
    serial=1,
    environment="production",
    sites=("demo-clinic",),
    code="0123456789abcdef" * 4,
    root_sha256="fedcba9876543210" * 4,
    root_version=1,
    threshold=2,
    stale_after="2027-11-20T08:00:00Z",
    signers=tuple(
        SheetSigner(name=name, fingerprint=each) for name, each in zip(("Alice", "Bob"), FINGERPRINTS, strict=True)
    ),
    volumes=(SheetVolume(number=1, id="a" * 16, seals=("S-1", "S-2")), SheetVolume(number=2, id="b" * 16, seals=())),
)


def test_the_page_names_everything_that_two_people_compare() -> None:
    page = SHEET.to_text()

    for fact in ("demo-1, serial 1", "demo-clinic", "at least 2 different people", "S-1, S-2", "a" * 16, "b" * 16):
        assert fact in page
    for value, group in ((SHEET.code, 8), (SHEET.root_sha256, 8), *((each, 4) for each in FINGERPRINTS)):
        assert all(line in page for line in spaced(value, group, 4 if group == 8 else 10))


def test_there_are_four_commands_for_two_signers() -> None:
    commands = [command for command, _ in SHEET.check_commands()]

    assert len(commands) == 4
    assert SHEET.code in commands[0]
    assert all(fingerprint in command for fingerprint, command in zip(FINGERPRINTS, commands[1:3], strict=True))
    assert all(command in SHEET.to_text() for command in commands)


def test_nothing_of_the_medium_runs_before_the_checks() -> None:
    page = SHEET.to_text()

    assert page.index("sha256sum --check --strict --quiet") < page.index("python3 -I check/bootstrap.py")
    assert "python3" not in page[: page.index("5. ")]


def test_python_takes_no_module_from_the_folder_it_starts_in() -> None:
    assert SHEET.bootstrap_command().startswith("python3 -I ")


def test_the_bootstrap_is_given_every_volume() -> None:
    assert SHEET.bootstrap_command().endswith('--medium "$MEDIUM" --medium "$MEDIUM_2"')
    assert SHEET.variables() == ("MEDIUM=/media/sealift-1", "MEDIUM_2=/media/sealift-2")


def test_a_release_for_several_sites_asks_which_one_this_is() -> None:
    sheet = replace(SHEET, sites=("north", "south"))

    assert sheet.bootstrap_command().endswith('--site "$SITE"')
    assert "SITE=north" in sheet.to_text()


def test_a_demo_sheet_says_so_in_capitals() -> None:
    assert "*** DEMO" in replace(SHEET, environment="demo").to_text()
    assert "***" not in SHEET.to_text()


def test_the_facts_for_a_program_are_the_facts_of_the_page() -> None:
    facts = SHEET.to_json()

    assert facts["code"] == SHEET.code
    assert [each["fingerprint"] for each in facts["signers"]] == list(FINGERPRINTS)
    assert facts["volumes"][0]["seals"] == ["S-1", "S-2"]


def test_a_sheet_that_found_no_room_is_not_left_in_part_and_is_written_by_sealing_again(tmp_path: Path) -> None:
    """A part of it was left for people to print, and no command wrote it anew."""
    medium = make_medium(tmp_path / "m")
    whole = medium.work.sheet.read_bytes()
    medium.work.sheet.unlink()
    for number in (1, 2):
        (medium.work.seal_of(number) / layout.signature_name(medium.fingerprint("bob"))).unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) - 100, hard))
    try:
        with pytest.raises(UnreadableError, match=r"sheet\.txt could not be written"):
            put_seals(medium.work, "bob", ceremony=medium.ceremony)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not medium.work.sheet.exists()

    done = put_seals(medium.work, "bob", ceremony=medium.ceremony)

    assert (done.volumes, done.sheet, medium.work.sheet.read_bytes()) == ((), medium.work.sheet, whole)
    with pytest.raises(SigningError, match="sealed every volume already"):
        put_seals(medium.work, "bob", ceremony=medium.ceremony)
