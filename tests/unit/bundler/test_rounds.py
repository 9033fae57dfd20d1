"""Round one and round two, and everything that may go wrong between people."""

import resource
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from securesystemslib.signer import Signature  # type: ignore[attr-defined]  # no __all__

from bundler import freeze
from bundler.attest import attest, choose_volumes
from bundler.ceremony import Ceremony, Invitation, KeyPlace, hold
from bundler.errors import CapacityError, SigningError
from bundler.onego import release_in_one_go
from bundler.plan import ReleasePlan
from bundler.seal import code_of, finish_seals, seal
from bundler.secondlook import require_second_look
from bundler.sign import PartialSignature, sign
from bundler.signatory import Signatory
from bundler.volumechoice import VolumeChoice
from bundler.workfolder import WorkFolder
from media.canonical import dumps, loads
from media.clock import FixedClock
from media.digest import sha256_hex
from media.errors import DigestMismatchError, ExtraFileError, MalformedError, UnreadableError
from tests.support.candidate import new_candidate
from tests.support.gpg import GnuPG
from tests.support.medium import MADE_AT, throwaway_ceremony, tiny_payload

pytestmark = pytest.mark.slow  # whole commands and processes, seconds each

CLOCK = FixedClock(at=MADE_AT)


def attested(folder: Path) -> WorkFolder:
    work = new_candidate(folder)
    ceremony = throwaway_ceremony()
    choose_volumes(work, "alice", VolumeChoice(), ceremony=ceremony, clock=CLOCK, place="Room 1")
    attest(work, "alice", ceremony=ceremony)
    return work


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    return attested(tmp_path / "w")


def test_the_second_signer_freezes_the_release_and_seals_at_once(work: WorkFolder) -> None:
    ceremony = throwaway_ceremony()

    first = sign(work, "alice", ceremony=ceremony)
    second = sign(work, "bob", ceremony=ceremony)

    assert (first.signed, first.frozen, first.sealed_volumes) == (("alice",), False, ())
    assert (second.signed, second.frozen, second.sealed_volumes) == (("alice", "bob"), True, (1,))


def test_the_sheet_appears_with_the_last_seal(work: WorkFolder) -> None:
    ceremony = throwaway_ceremony()
    sign(work, "bob", ceremony=ceremony)
    sign(work, "carol", ceremony=ceremony)
    assert not work.sheet.exists()

    done = seal(work, "alice", ceremony=ceremony)

    assert done.sealed_by == ("alice", "carol")
    assert done.code == sha256_hex((work.seal_of(1) / "tagmanifest-sha256.txt").read_bytes())
    assert "Carol Cook" in work.sheet.read_text("utf-8")


def test_people_sign_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    ceremony = throwaway_ceremony()
    one, other = attested(tmp_path / "one"), WorkFolder(root=tmp_path / "other")
    shutil.copytree(one.root, other.root)
    for place, order in ((one, ("alice", "bob")), (other, ("bob", "alice"))):
        for person in order:
            sign(place, person, ceremony=ceremony)

    def signed(work: WorkFolder) -> dict[str, object]:
        return {path.name: loads(path.read_bytes())["signed"] for path in work.metadata.glob("1.*.json")}

    assert signed(one) == signed(other)


def test_what_a_full_disk_cut_off_is_signed_again(work: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    ceremony, real = throwaway_ceremony(), Signatory.seal
    sign(work, "alice", ceremony=ceremony)
    sign(work, "bob", ceremony=ceremony)

    def full_from_here(person: Signatory, data: bytes) -> bytes:
        made = real(person, data)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40, before[1]))  # as many bytes as a disk had room for
        return made

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as full:
        full.setattr(Signatory, "seal", full_from_here)
        try:
            with pytest.raises(UnreadableError, match="could not be written"):
                seal(work, "alice", ceremony=ceremony)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert seal(work, "alice", ceremony=ceremony).sealed_by == ("alice", "bob")


@pytest.mark.parametrize("where", ["_write_check", "write_tag_files"])
def test_a_freeze_that_was_cut_off_is_done_by_signing_again(
    work: WorkFolder, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    ceremony = throwaway_ceremony()

    def cut_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    sign(work, "alice", ceremony=ceremony)
    with monkeypatch.context() as cut:
        cut.setattr(freeze, where, cut_off)
        with pytest.raises(KeyboardInterrupt):
            sign(work, "bob", ceremony=ceremony)
    own = (work.signatures / "bob.json").read_bytes()

    done = sign(work, "bob", ceremony=ceremony)

    assert (done.signed, done.frozen, done.sealed_volumes) == (("alice", "bob"), True, (1,))
    assert (work.signatures / "bob.json").read_bytes() == own
    assert seal(work, "alice", ceremony=ceremony).sealed_by == ("alice", "bob")


def test_a_person_signs_once(work: WorkFolder) -> None:
    sign(work, "alice", ceremony=throwaway_ceremony())

    with pytest.raises(SigningError, match="has signed this release already"):
        sign(work, "alice", ceremony=throwaway_ceremony())


def test_a_stranger_cannot_sign(work: WorkFolder) -> None:
    with pytest.raises(SigningError, match="names no person 'mallory'"):
        sign(work, "mallory", ceremony=throwaway_ceremony())


def test_a_person_whose_keys_are_elsewhere_is_told_to_name_the_home(work: WorkFolder, tmp_path: Path) -> None:
    with pytest.raises(SigningError) as refused:
        sign(work, "alice", ceremony=throwaway_ceremony(), home=tmp_path / "nowhere")

    assert "--home" in refused.value.fix


def test_nothing_is_signed_before_every_statement_is(tmp_path: Path) -> None:
    work = new_candidate(tmp_path / "w")
    ceremony = throwaway_ceremony()
    choose_volumes(work, "alice", VolumeChoice(), ceremony=ceremony, clock=CLOCK, place="Room 1")
    attest(work, "alice", ceremony=ceremony, only=["custody-sealed-1", "sbom"])

    with pytest.raises(SigningError, match="provenance is not signed"):
        sign(work, "alice", ceremony=ceremony)


def test_nothing_is_signed_before_the_volumes_are_chosen(tmp_path: Path) -> None:
    with pytest.raises(CapacityError, match="not chosen yet"):
        sign(new_candidate(tmp_path / "w"), "alice", ceremony=throwaway_ceremony())


def test_a_statement_changed_after_its_maker_signed_is_found(work: WorkFolder) -> None:
    (work.attest / "scan.json").write_bytes(b"{}")

    with pytest.raises(SigningError, match="scan was changed after it was signed"):
        sign(work, "bob", ceremony=throwaway_ceremony())


def test_a_statement_signed_by_someone_who_may_not_is_refused(tmp_path: Path) -> None:
    work = new_candidate(tmp_path / "w")
    ceremony = throwaway_ceremony()
    choose_volumes(work, "carol", VolumeChoice(), ceremony=ceremony, clock=CLOCK, place="Room 1")

    done = attest(work, "carol", ceremony=ceremony)

    assert "rehearsal" in done.waiting
    assert set(done.signed) == {"custody-sealed-1", "provenance", "sbom", "scan"}


def test_only_the_packer_signs_the_sealed_custody_entry(tmp_path: Path) -> None:
    work = new_candidate(tmp_path / "w")
    ceremony = throwaway_ceremony()
    choose_volumes(work, "carol", VolumeChoice(), ceremony=ceremony, clock=CLOCK, place="Room 1")

    assert attest(work, "alice", ceremony=ceremony).waiting == ("custody-sealed-1",)


def test_volumes_are_chosen_once(work: WorkFolder) -> None:
    with pytest.raises(SigningError, match="are fixed"):
        choose_volumes(
            work, "alice", VolumeChoice(rooms=(10**6,)), ceremony=throwaway_ceremony(), clock=CLOCK, place="Room 1"
        )


def test_a_candidate_changed_after_the_volumes_were_chosen_is_refused(work: WorkFolder) -> None:
    (work.data / "evals" / "tiny.jsonl").write_bytes(b"{}\n")

    with pytest.raises(SigningError, match="not about these volumes"):
        sign(work, "alice", ceremony=throwaway_ceremony())


def test_a_rehearsal_of_another_payload_is_refused(tmp_path: Path) -> None:
    work = new_candidate(tmp_path / "w")
    statement = loads((work.attest / "rehearsal.json").read_bytes())
    statement["predicate"]["payload_digest"] = "0" * 64
    (work.attest / "rehearsal.json").write_bytes(dumps(statement))
    ceremony = throwaway_ceremony()
    choose_volumes(work, "alice", VolumeChoice(), ceremony=ceremony, clock=CLOCK, place="Room 1")
    attest(work, "alice", ceremony=ceremony)

    with pytest.raises(SigningError, match="another payload was rehearsed"):
        sign(work, "alice", ceremony=ceremony)


@pytest.mark.parametrize(
    ("demanded", "reached", "passes"),
    [
        ("answered-on-target", "answered-on-cpu", False),
        ("answered-on-cpu", "answered-on-cpu", True),
        ("installed", "answered-on-cpu", True),
        ("installed", "imagined", False),
        ("installed", None, False),
    ],
)
def test_nothing_is_signed_that_was_rehearsed_less_than_the_site_demands(
    tmp_path: Path, *, demanded: str, reached: str | None, passes: bool
) -> None:
    work = new_candidate(tmp_path / "w")
    work.plan.write_bytes(dumps({**loads(work.plan.read_bytes()), "rehearsal": demanded}))
    statement = loads((work.attest / "rehearsal.json").read_bytes())
    statement["predicate"]["level"] = reached
    (work.attest / "rehearsal.json").write_bytes(dumps(statement))
    if reached is None:
        (work.attest / "rehearsal.json").unlink()
    ceremony = throwaway_ceremony()
    choose_volumes(work, "alice", VolumeChoice(), ceremony=ceremony, clock=CLOCK, place="Room 1")
    attest(work, "alice", ceremony=ceremony)

    with nullcontext() if passes else pytest.raises(SigningError, match=f"demands a rehearsal of level {demanded}"):
        sign(work, "alice", ceremony=ceremony)


def test_a_bill_of_materials_that_lacks_a_file_is_not_signed_with(tmp_path: Path) -> None:
    work = new_candidate(tmp_path / "w")
    statement = loads((work.attest / "sbom.json").read_bytes())
    left = statement["predicate"]["components"].pop()
    (work.attest / "sbom.json").write_bytes(dumps(statement))
    ceremony = throwaway_ceremony()
    choose_volumes(work, "alice", VolumeChoice(), ceremony=ceremony, clock=CLOCK, place="Room 1")
    attest(work, "alice", ceremony=ceremony)

    with pytest.raises(ExtraFileError, match=left["name"]):
        sign(work, "alice", ceremony=ceremony)


def test_a_candidate_changed_between_two_signers_is_found_by_the_second(work: WorkFolder) -> None:
    ceremony = throwaway_ceremony()
    sign(work, "alice", ceremony=ceremony)
    plan = ReleasePlan.load(work.plan)
    work.plan.write_bytes(replace(plan, stale_after="2030-01-01T00:00:00Z").to_bytes())

    with pytest.raises(SigningError, match="alice signed other bytes") as refused:
        sign(work, "bob", ceremony=ceremony)

    assert "timestamp" in refused.value.why


def test_a_signature_put_under_another_name_does_not_count(work: WorkFolder) -> None:
    ceremony = throwaway_ceremony()
    sign(work, "alice", ceremony=ceremony)
    own = (work.signatures / "alice.json").read_bytes()
    (work.signatures / "alice.json").unlink()
    (work.signatures / "bob.json").write_bytes(own.replace(b'"person":"alice"', b'"person":"bob"'))

    with pytest.raises(SigningError, match="by another key than the person's") as refused:
        sign(work, "carol", ceremony=ceremony)
    assert "remove signatures/bob.json" in refused.value.fix


def test_a_signature_of_somebody_whom_a_new_root_no_longer_names_says_what_to_remove(work: WorkFolder) -> None:
    ceremony = throwaway_ceremony()
    sign(work, "alice", ceremony=ceremony)
    own = (work.signatures / "alice.json").read_bytes()
    (work.signatures / "alice.json").unlink()
    left = work.signatures / "zoe.json"
    left.write_bytes(own.replace(b'"person":"alice"', b'"person":"zoe"'))

    with pytest.raises(SigningError, match=r"zoe\.json is of somebody whom the root does not name") as refused:
        sign(work, "carol", ceremony=ceremony)

    assert refused.value.fix == "remove signatures/zoe.json"
    left.unlink()
    assert sign(work, "carol", ceremony=ceremony).signed == ("carol",)


def test_a_signature_with_a_changed_bit_does_not_count(work: WorkFolder) -> None:
    ceremony = throwaway_ceremony()
    sign(work, "alice", ceremony=ceremony)
    value = loads((work.signatures / "alice.json").read_bytes())
    one = value["signatures"]["targets"][0]
    one["sig"] = ("0" if one["sig"][0] != "0" else "1") + one["sig"][1:]
    (work.signatures / "alice.json").write_bytes(dumps(value))

    with pytest.raises(SigningError, match="a signature does not hold"):
        sign(work, "bob", ceremony=ceremony)


def test_a_partial_signature_is_read_back_as_it_was_written(work: WorkFolder) -> None:
    sign(work, "alice", ceremony=throwaway_ceremony())
    data = (work.signatures / "alice.json").read_bytes()

    assert PartialSignature.from_bytes(data).to_bytes() == data
    assert len(data) < 4096


def test_any_other_file_among_the_signatures_is_refused(work: WorkFolder) -> None:
    work.signatures.mkdir()
    (work.signatures / "bob.json").write_bytes(b'{"format":1}')

    with pytest.raises(SigningError, match="is no signature file"):
        sign(work, "alice", ceremony=throwaway_ceremony())


def test_a_third_signature_comes_too_late(work: WorkFolder) -> None:
    for person in ("alice", "bob"):
        sign(work, person, ceremony=throwaway_ceremony())

    with pytest.raises(SigningError, match="is frozen"):
        sign(work, "carol", ceremony=throwaway_ceremony())
    with pytest.raises(SigningError, match="is frozen"):
        attest(work, "carol", ceremony=throwaway_ceremony())


def test_whoever_types_while_others_freeze_the_release_leaves_their_seals_alone(
    work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ceremony, real = throwaway_ceremony(), Signatory.sign
    sign(work, "alice", ceremony=ceremony)

    def others_are_quicker(person: Signatory, role: str, data: bytes) -> list[Signature]:
        if person.person.id == "carol" and not work.is_frozen:
            sign(work, "bob", ceremony=ceremony)
            seal(work, "alice", ceremony=ceremony)
        return real(person, role, data)

    monkeypatch.setattr(Signatory, "sign", others_are_quicker)
    with pytest.raises(SigningError, match="frozen while you signed"):
        sign(work, "carol", ceremony=ceremony)

    assert code_of(work) in work.sheet.read_text("utf-8").replace(" ", "")
    assert finish_seals(work, ceremony=ceremony).people == ("alice", "bob")
    assert seal(work, "carol", ceremony=ceremony).sealed_by == ("alice", "bob", "carol")


def test_two_people_who_sign_at_one_moment_freeze_the_release(
    work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ceremony, real = throwaway_ceremony(), Signatory.sign

    def bob_too(person: Signatory, role: str, data: bytes) -> list[Signature]:
        if person.person.id == "alice" and not (work.signatures / "bob.json").exists():
            sign(work, "bob", ceremony=ceremony)
        return real(person, role, data)

    monkeypatch.setattr(Signatory, "sign", bob_too)
    done = sign(work, "alice", ceremony=ceremony)

    assert (done.signed, done.frozen, done.sealed_volumes) == (("alice", "bob"), True, (1,))


def test_a_third_person_may_still_seal(work: WorkFolder) -> None:
    ceremony = throwaway_ceremony()
    for person in ("alice", "bob"):
        sign(work, person, ceremony=ceremony)

    seal(work, "alice", ceremony=ceremony)
    done = seal(work, "carol", ceremony=ceremony)

    assert done.sealed_by == ("alice", "bob", "carol")


def test_nobody_seals_before_the_metadata_is_frozen(work: WorkFolder) -> None:
    with pytest.raises(SigningError, match="not ready to be sealed"):
        seal(work, "alice", ceremony=throwaway_ceremony())


def test_nobody_seals_bytes_that_changed_since_round_one(work: WorkFolder) -> None:
    ceremony = throwaway_ceremony()
    for person in ("alice", "bob"):
        sign(work, person, ceremony=ceremony)
    (work.data / "evals" / "tiny.jsonl").write_bytes(bytes(len(tiny_payload()["data/evals/tiny.jsonl"])))

    with pytest.raises(DigestMismatchError, match="has changed since it was signed"):
        seal(work, "alice", ceremony=ceremony)


def test_nobody_seals_twice(work: WorkFolder) -> None:
    ceremony = throwaway_ceremony()
    for person in ("alice", "bob"):
        sign(work, person, ceremony=ceremony)

    with pytest.raises(SigningError, match="has sealed every volume already"):
        seal(work, "bob", ceremony=ceremony)


def test_a_file_slipped_into_check_after_freezing_is_found(work: WorkFolder) -> None:
    ceremony = throwaway_ceremony()
    for person in ("alice", "bob"):
        sign(work, person, ceremony=ceremony)
    (work.check / "json.py").write_text("evil = True\n", encoding="utf-8")

    with pytest.raises(SigningError, match=r"check/json\.py is not what was sealed"):
        seal(work, "alice", ceremony=ceremony)


def test_a_release_for_a_machine_that_receivers_cannot_read_is_not_signed(tmp_path: Path) -> None:
    work = new_candidate(tmp_path / "w")
    plan = ReleasePlan.load(work.plan)
    work.plan.write_bytes(replace(plan, targets=({"profile": "cpu"},)).to_bytes())
    ceremony = throwaway_ceremony()
    choose_volumes(work, "alice", VolumeChoice(), ceremony=ceremony, clock=CLOCK, place="Room 1")
    attest(work, "alice", ceremony=ceremony)

    with pytest.raises(MalformedError, match="A target machine"):
        sign(work, "alice", ceremony=ceremony)


def test_a_rehearsal_is_signed_in_one_go(tmp_path: Path) -> None:
    ceremony = throwaway_ceremony("rehearsal")

    made = release_in_one_go(new_candidate(tmp_path / "w"), [tmp_path / "v"], ceremony=ceremony, clock=CLOCK)

    assert len(made.code) == 64
    assert "REHEARSAL" in made.sheet.read_text("utf-8")


def production(folder: Path, gnupg: GnuPG) -> Ceremony:
    def bringing(person: str, name: str) -> Invitation:
        root, release = (gnupg.key(f"{name} {use} <{person}.{use}@sender.example>") for use in ("root", "release"))
        return Invitation(
            id=person,
            name=name,
            root_key=KeyPlace(home=gnupg.home, fingerprint=root),
            release_key=KeyPlace(home=gnupg.home, fingerprint=release),
        )

    return hold(folder, [bringing("ann", "Ann Adams"), bringing("ben", "Ben Brown")], environment="production")


def test_production_people_sign_from_their_own_homes(tmp_path: Path, gnupg: GnuPG) -> None:
    work, ceremony = new_candidate(tmp_path / "w"), production(tmp_path / "c", gnupg)
    choose_volumes(work, "ann", VolumeChoice(), ceremony=ceremony, clock=CLOCK, place="Room 1")

    attest(work, "ann", ceremony=ceremony, home=gnupg.home)
    for person in ("ben", "ann"):
        sign(work, person, ceremony=ceremony, home=gnupg.home)
    done = seal(work, "ben", ceremony=ceremony, home=gnupg.home)

    assert done.sheet is not None
    assert "***" not in done.sheet.read_text("utf-8")


def test_production_carries_every_kind_of_evidence(tmp_path: Path, gnupg: GnuPG) -> None:
    work, ceremony = new_candidate(tmp_path / "w"), production(tmp_path / "c", gnupg)
    (work.attest / "rehearsal.json").unlink()
    choose_volumes(work, "ann", VolumeChoice(), ceremony=ceremony, clock=CLOCK, place="Room 1")
    attest(work, "ann", ceremony=ceremony, home=gnupg.home)

    with pytest.raises(SigningError, match="there is no rehearsal statement"):
        sign(work, "ann", ceremony=ceremony, home=gnupg.home)


def test_whoever_did_not_build_a_production_release_builds_it_again_or_says_why_not(
    tmp_path: Path, gnupg: GnuPG
) -> None:
    work, ceremony = new_candidate(tmp_path / "w"), production(tmp_path / "c", gnupg)
    choose_volumes(work, "ann", VolumeChoice(), ceremony=ceremony, clock=CLOCK, place="Room 1")
    attest(work, "ann", ceremony=ceremony, home=gnupg.home)

    assert require_second_look(work, "ann", ceremony=ceremony, is_rebuilt=False) == ""
    assert require_second_look(work, "ben", ceremony=ceremony, is_rebuilt=True) == ""
    assert require_second_look(work, "ben", ceremony=ceremony, is_rebuilt=False, reason="no tools here") == ""
    for reason in ("", "  "):
        with pytest.raises(SigningError, match="Ann Adams built this release"):
            require_second_look(work, "ben", ceremony=ceremony, is_rebuilt=False, reason=reason)


def test_production_is_never_signed_in_one_go(tmp_path: Path, gnupg: GnuPG) -> None:
    ceremony = production(tmp_path / "c", gnupg)

    with pytest.raises(SigningError, match="not signed in one go"):
        release_in_one_go(new_candidate(tmp_path / "w"), [tmp_path / "v"], ceremony=ceremony, clock=CLOCK)


def test_production_keys_are_not_looked_for_in_the_ceremony_folder(tmp_path: Path, gnupg: GnuPG) -> None:
    work, ceremony = new_candidate(tmp_path / "w"), production(tmp_path / "c", gnupg)
    choose_volumes(work, "ann", VolumeChoice(), ceremony=ceremony, clock=CLOCK, place="Room 1")

    with pytest.raises(SigningError, match="no keys of Ann Adams on this machine"):
        attest(work, "ann", ceremony=ceremony)
