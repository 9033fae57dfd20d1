"""The box's own authority is replaced step by step; what a power cut left half done, the next rotation completes."""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.actions import tls, tls_authority, tls_clients, tls_facility, tls_standing
from appliance.actions.tls_placing import Here
from appliance.errors import ConflictError, KeyMissingError, UnitError
from appliance.install import certificates, tlsauthorities, tlsfolder, webserver
from appliance.install.certificates import fingerprint, is_issued_by
from appliance.install.revocation import read_crls
from appliance.install.tlsauthorities import FORMER, NEXT
from media import durable
from tests.support.tls import Server, authority, here, pem, site


@pytest.fixture
def box(tmp_path: Path) -> Here:
    made = here(site(tmp_path))
    tls.rotate(made)
    return made


def signer(box: Here) -> str:
    found = box.folder.authority()
    assert found is not None
    return fingerprint(found.certificate)


def trusted(box: Here) -> int:
    return (box.folder.path / "trust.crt").read_bytes().count(b"BEGIN CERTIFICATE")


def test_each_step_is_recorded_before_and_says_which_authority(box: Here) -> None:
    first = signer(box)

    following = tls_authority.begin(box).found[NEXT]["fingerprint"]
    counted = [trusted(box)]
    tls_authority.switch(box)
    counted.append(trusted(box))
    tls_authority.finish(box)

    kinds = [leaf.kind for leaf in box.ledger.find(limit=50, newest_first=False) if "authority" in leaf.kind]
    assert kinds == [tls.AUTHORITY_MADE, tls_authority.MADE, tls_authority.SWITCHED, tls_authority.FINISHED]
    [switched] = box.ledger.find(kind=tls_authority.SWITCHED, limit=2)
    assert switched.body == {"from": first, "to": following}
    assert signer(box) == following != first
    assert (counted, trusted(box)) == ([2, 2], 1)
    assert len(read_crls(box.folder)) == 1
    names = [str(one.subject.rfc4514_string()) for one in [_authority(box)]]
    assert names == ["CN=Sealift CA of ward-7\\, 2,O=Sealift"]


def _authority(box: Here) -> x509.Certificate:
    found = box.folder.authority()
    assert found is not None
    return found.certificate


def test_while_both_are_trusted_each_has_its_list_and_everything_new_is_of_the_one_that_signs(box: Here) -> None:
    tls_authority.begin(box)
    before = _authority(box)
    early = box.folder.shown()
    lists = read_crls(box.folder)
    tls_authority.switch(box)
    shown, made = box.folder.shown(), tls_clients.issue(box, name="emr-1")

    assert early is not None
    assert shown is not None
    assert is_issued_by(early.certificate, before)
    assert is_issued_by(shown.certificate, _authority(box))
    assert made.client.name == "emr-1"
    assert len({crl.issuer for crl in lists}) == len({crl.issuer for crl in read_crls(box.folder)}) == 2
    assert tls.rotate(box).made == ()
    said = [one.text for one in tls_standing.findings(box.config, clock=box.clock) if one.name == "authority change"]
    assert said == ["a former one is trusted too"]


def test_steps_out_of_order_are_refused_and_change_nothing(box: Here, tmp_path: Path) -> None:
    for step in (tls_authority.switch, tls_authority.finish):
        with pytest.raises(ConflictError):
            step(box)
    first = signer(box)
    tls_authority.begin(box, dry_run=True)
    assert tlsauthorities.other(box.folder, NEXT) is None
    tls_authority.begin(box)
    tls_authority.switch(box, dry_run=True)
    assert signer(box) == first
    tls_authority.switch(box)
    with pytest.raises(ConflictError):
        tls_authority.begin(box)
    tls_authority.finish(box, dry_run=True)
    assert tlsauthorities.other(box.folder, FORMER) is not None
    with pytest.raises(KeyMissingError):
        tls_authority.begin(here(site(tmp_path / "bare")))


def test_while_the_facilitys_certificate_is_awaited_a_switch_shows_one_of_the_new_authority_at_once(
    tmp_path: Path,
) -> None:
    box = here(site(tmp_path / "awaits", authority="facility"))
    tls.rotate(box)
    tls_authority.begin(box)

    for step in (tls_authority.switch, tls_authority.finish):
        step(box)
        shown = box.folder.shown()
        assert shown is not None
        assert is_issued_by(shown.certificate, _authority(box))
    given = x509.load_pem_x509_certificates((box.folder.path / "trust.crt").read_bytes())
    assert given == [_authority(box)]
    said = {one.name: one.text for one in tls_standing.findings(box.config, clock=box.clock)}
    assert said["facility's CA"] == "its certificate is not here yet: the box shows one of its own"
    [_, made] = box.ledger.find(kind=tls.MADE, limit=9, newest_first=False)
    assert made.body["why"] == "authority"


def test_what_the_former_authority_signed_is_known_where_a_switch_could_not_be_shown(
    box: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webserver, "_PAUSE_SECONDS", 0)
    tls_authority.begin(box)
    assert isinstance(box.server, Server)
    box.server.is_broken = True
    with pytest.raises(UnitError):
        tls_authority.switch(box)

    shown = box.folder.shown()
    assert shown is not None
    assert not is_issued_by(shown.certificate, _authority(box))
    said = {one.name: one.is_good for one in tls_standing.findings(box.config, clock=box.clock)}
    assert said["certificate"] is True


def test_a_switch_leaves_the_facilitys_certificate_and_its_root_where_they_are(tmp_path: Path) -> None:
    box, root = here(site(tmp_path / "has", authority="facility")), authority()
    tls.rotate(box)
    made = root.issue(tls_facility.request(box).public_key())
    tls_facility.import_chain(box, pem(made), untrusted_root=root.pem)

    tls_authority.begin(box)
    tls_authority.switch(box)
    tls_authority.finish(box)

    shown = box.folder.shown()
    assert shown is not None
    assert shown.certificate == made
    assert (box.folder.path / "trust.crt").read_bytes() == root.pem


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 5, 7])
def test_a_switch_that_is_cut_off_anywhere_leaves_one_of_the_two_and_is_completed(
    box: Here, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    following = tls_authority.begin(box).found[NEXT]["fingerprint"]
    known = {signer(box), following}
    done = 0
    real = durable.replace

    def cut(path: Path, data: bytes, **more: int) -> None:
        nonlocal done
        if done == writes:
            raise KeyboardInterrupt
        done += 1
        real(path, data, **more)

    with monkeypatch.context() as power:
        power.setattr(durable, "replace", cut)
        with pytest.raises(KeyboardInterrupt):
            tls_authority.switch(box)

    tls.rotate(box)
    assert signer(box) in known
    if signer(box) != following:
        tls_authority.switch(box)
    assert signer(box) == following
    assert tlsauthorities.other(box.folder, NEXT) is None
    assert {fingerprint(one.certificate) for one in tlsauthorities.accepted(box.folder)} == known
    shown = box.folder.shown()
    assert shown is not None
    assert is_issued_by(shown.certificate, _authority(box))
    assert len(box.ledger.find(kind=tls.AUTHORITY_MADE, limit=9)) == 1


def test_half_an_authority_is_dropped_and_never_counts(box: Here) -> None:
    tls_authority.begin(box)
    (box.folder.path / "next/ca.key").unlink()
    tls.rotate(box)
    assert (trusted(box), list(box.folder.path.glob("next/*"))) == (1, [])
    tls_authority.begin(box)
    tls_authority.switch(box)
    tlsauthorities._overwrite(box.folder.path / "former/ca.key")
    tls.rotate(box)
    assert (trusted(box), list(box.folder.path.glob("former/*"))) == (1, [])
    assert len(read_crls(box.folder)) == 1


def test_the_key_of_the_former_authority_is_overwritten(box: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    tls_authority.begin(box)
    tls_authority.switch(box)
    key, seen = box.folder.path / "former/ca.key", []
    before = key.read_bytes()
    real = tlsauthorities._overwrite

    def watched(file: Path) -> None:
        real(file)
        seen.append(file.read_bytes())

    monkeypatch.setattr(tlsauthorities, "_overwrite", watched)
    tls_authority.finish(box)

    assert len(seen) == 1
    assert seen[0] != before
    assert not key.exists()


def test_an_end_that_the_web_server_did_not_read_is_read_when_it_is_said_again(
    box: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_authority.begin(box)
    tls_authority.switch(box)

    def refuses() -> bool:
        raise UnitError(what="the web server did not read its files again", why="", fix="")

    monkeypatch.setattr(box.server, "reload", refuses)
    with pytest.raises(UnitError):
        tls_authority.finish(box)
    told: list[int] = []

    def reads() -> bool:
        told.append(trusted(box))
        return True

    monkeypatch.setattr(box.server, "reload", reads)
    with pytest.raises(ConflictError, match="there is no former authority"):
        tls_authority.finish(box)

    assert set(told) == {1}


def test_nothing_takes_the_place_of_what_is_hidden_from_the_web_server(box: Here) -> None:
    """Scenario: nginx runs on through a change of the authority; a file that is renamed over is covered no more."""
    places = [box.folder.path / name for name in ("ca.key", *tlsfolder.HIDDEN)]
    held = [os.open(place, os.O_RDONLY) for place in places]

    tls_authority.begin(box)
    tls_authority.switch(box)
    tls_authority.finish(box)
    key = ec.generate_private_key(ec.SECP256R1())
    box.folder.put_pending(key, certificates.make_request(box.config, key))
    box.folder.drop_pending()

    for place, there in zip(places, held, strict=True):
        assert os.fstat(there).st_nlink > 0, place.name
        assert os.fstat(there).st_ino == place.stat().st_ino
        os.close(there)
    assert [path for name in tlsfolder.HIDDEN for path in (box.folder.path / name).iterdir()] == []
    assert stat.S_IMODE((box.folder.path / "ca.key").stat().st_mode) == 0o400


@pytest.mark.parametrize("written", [0, 100])
def test_a_key_that_was_cut_off_while_it_was_written_is_written_again(
    box: Here, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    following = tls_authority.begin(box).found[NEXT]["fingerprint"]

    def cut(key: Path, pem: bytes) -> None:
        key.chmod(0o600)
        key.write_bytes(pem[:written])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tlsfolder, "_rewrite", cut)
        with pytest.raises(KeyboardInterrupt):
            tls_authority.switch(box)
    assert box.folder.authority() is None

    tls.rotate(box)

    assert signer(box) == following
    assert len(box.ledger.find(kind=tls.AUTHORITY_MADE, limit=9)) == 1


@pytest.mark.parametrize("step", [tls_authority.begin, tls_authority.switch, tls_authority.finish])
def test_a_dry_run_completes_nothing_that_was_cut_off(box: Here, step: Callable[..., object]) -> None:
    tls_authority.begin(box)
    found = box.folder.authority()
    assert found is not None
    tlsauthorities.put(box.folder, FORMER, found)
    before = {path: path.read_bytes() for path in box.folder.path.rglob("*") if path.is_file()}

    with suppress(ConflictError):
        step(box, dry_run=True)

    assert {path: path.read_bytes() for path in box.folder.path.rglob("*") if path.is_file()} == before
