from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.mediumcheck import check
from media import layout
from media.errors import (
    BadSignatureError,
    DigestMismatchError,
    ExtraFileError,
    MalformedError,
    MissingFileError,
    MissingVolumeError,
    SamePersonError,
    SealiftError,
    ThresholdError,
    UnsafePathError,
    UsageError,
    WrongVolumeError,
)
from tests.support.medium import SimulatedMedium, ceremony_with_two_keys_of, make_medium, throwaway_ceremony

pytestmark = pytest.mark.slow  # whole builds, commands or processes, a second and more each

WHEEL = "data/wheels/tiny-1.0-py3-none-any.whl"


def _link(medium: SimulatedMedium) -> None:
    path = medium.path(WHEEL)
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.fixture
def medium(tmp_path: Path) -> SimulatedMedium:
    return make_medium(tmp_path / "m")


@pytest.mark.parametrize("volumes", [1, 2, 3])
def test_a_genuine_medium_passes_in_any_order_of_volumes(tmp_path: Path, volumes: int) -> None:
    medium = make_medium(tmp_path / "m", volumes=volumes)

    report = check(list(reversed(medium.volumes)), ceremony=medium.ceremony, code=medium.code)

    assert (report.release, report.serial, report.code) == ("demo-1", 1, medium.code)
    assert report.signers == ("Alice Archer", "Bob Baker")
    assert report.bytes == sum(map(len, medium.payload.values()))
    assert report.root_is_known
    assert all(facts.complete for facts in report.custody.values())


def test_without_a_known_root_the_report_says_so(medium: SimulatedMedium) -> None:
    assert not check(medium.volumes).root_is_known


def test_litter_is_listed_and_not_looked_at(medium: SimulatedMedium) -> None:
    medium.add_litter()

    assert set(check(medium.volumes, ceremony=medium.ceremony).litter) == layout.LITTER


def test_a_strangers_medium_fails_under_a_known_root(tmp_path: Path, medium: SimulatedMedium) -> None:
    stranger = make_medium(tmp_path / "s", keys=throwaway_ceremony("demo", "stranger"))

    with pytest.raises(BadSignatureError):
        check(stranger.volumes, ceremony=medium.ceremony)


def test_another_code_than_the_sheets_fails(medium: SimulatedMedium) -> None:
    with pytest.raises(DigestMismatchError, match="release code"):
        check(medium.volumes, ceremony=medium.ceremony, code="0" * 64)


SPOILED: list[tuple[str, Callable[[SimulatedMedium], object], type[SealiftError]]] = [
    ("a payload bit", lambda m: m.flip_bit(WHEEL), DigestMismatchError),
    ("a metadata bit", lambda m: m.flip_bit("metadata/1.targets.json", offset=20), DigestMismatchError),
    ("an attestation bit", lambda m: m.flip_bit("attest/sbom.dsse.json", offset=40), DigestMismatchError),
    ("a verifier bit", lambda m: m.flip_bit(layout.SECOND_OPINION, offset=40), DigestMismatchError),
    ("a tag manifest bit", lambda m: m.flip_bit(layout.TAG_MANIFEST, offset=3), SealiftError),
    ("a payload manifest bit", lambda m: m.flip_bit(layout.MANIFEST, offset=3), SealiftError),
    ("one signature", lambda m: m.drop_signature(), ThresholdError),
    ("one person twice", lambda m: m.sign_twice_as("alice"), BadSignatureError),
    ("a file too many", lambda m: m.add("data/wheels/evil.whl"), ExtraFileError),
    ("a module beside the verifier", lambda m: m.add("check/json.py"), ExtraFileError),
    ("a file too few", lambda m: m.remove(WHEEL), MissingFileError),
    ("an evidence file too few", lambda m: m.remove("attest/scan.dsse.json"), MissingFileError),
    ("a short file", lambda m: m.truncate("data/models/tiny/tiny.gguf", 100), SealiftError),
    ("a link", _link, UnsafePathError),
    ("a file beside release/", lambda m: (m.volumes[0] / "run-me.exe").touch(), ExtraFileError),
]


@pytest.mark.parametrize(("spoil", "error"), [each[1:] for each in SPOILED], ids=[each[0] for each in SPOILED])
def test_a_spoiled_medium_is_refused(
    medium: SimulatedMedium, spoil: Callable[[SimulatedMedium], object], error: type[SealiftError]
) -> None:
    spoil(medium)

    with pytest.raises(error):
        check(medium.volumes, ceremony=medium.ceremony)


def test_a_volume_that_is_missing_is_named(medium: SimulatedMedium) -> None:
    with pytest.raises(MissingVolumeError, match="volume 2"):
        check(medium.volumes[:1], ceremony=medium.ceremony)


def test_a_volume_given_twice_is_refused(medium: SimulatedMedium) -> None:
    with pytest.raises(WrongVolumeError):
        check([medium.volumes[0], medium.volumes[0]], ceremony=medium.ceremony)


def test_volumes_of_two_genuine_releases_are_never_mixed(tmp_path: Path, medium: SimulatedMedium) -> None:
    other = make_medium(tmp_path / "o", serial=2)

    with pytest.raises(WrongVolumeError):
        check([medium.volumes[0], other.volumes[1]], ceremony=medium.ceremony)


def test_what_two_people_seal_again_still_needs_the_signed_list(medium: SimulatedMedium) -> None:
    medium.flip_bit(WHEEL)
    medium.reseal("alice", "bob")

    with pytest.raises((DigestMismatchError, MalformedError)):
        check(medium.volumes, ceremony=medium.ceremony)


def test_two_keys_of_one_person_are_one_person(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m", keys=ceremony_with_two_keys_of("alice"))
    check(medium.volumes, ceremony=medium.ceremony)

    medium.sign_roles_as("alice")

    with pytest.raises(SamePersonError):
        check(medium.volumes, ceremony=medium.ceremony)


def test_one_volume_is_judged_alone(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m")

    first = check(medium.volumes[:1], ceremony=medium.ceremony, code=medium.code, some=True)
    second = check(medium.volumes[1:], ceremony=medium.ceremony, some=True)

    assert (first.code, first.not_given) == (medium.code, (2,))
    assert (second.code, second.not_given) == ("", (1,))
    assert first.bytes + second.bytes == sum(map(len, medium.payload.values()))
    with pytest.raises(MissingVolumeError, match="volume 1 is missing"):
        check(medium.volumes[1:], ceremony=medium.ceremony)
    with pytest.raises(UsageError, match="that of volume 1"):
        check(medium.volumes[1:], ceremony=medium.ceremony, code=medium.code, some=True)


def test_a_spoilt_volume_is_found_alone(tmp_path: Path) -> None:
    medium = make_medium(tmp_path / "m")
    medium.flip_bit("data/models/tiny/tiny.gguf", volume=2)

    check(medium.volumes[:1], ceremony=medium.ceremony, some=True)
    with pytest.raises(DigestMismatchError, match="volume 2"):
        check(medium.volumes[1:], ceremony=medium.ceremony, some=True)
