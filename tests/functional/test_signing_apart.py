"""A hybrid ceremony and a release whose people never share a machine: files and QR codes are all that travels.

Alice has an OpenPGP key, Bob a PKCS#11 token, Carol a key file; each has an ML-DSA-87 file besides, and everyone seals
tag manifests with OpenPGP.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zxingcpp
from PIL import Image

from tests.support.candidate import new_candidate
from tests.support.gpg import GnuPG, gnupg_home
from tests.support.receiving import make_site
from tests.support.softhsm import PIN, soft_token
from tests.support.typist import Typist

pytestmark = pytest.mark.interop

PASSPHRASE = "correct horse battery"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One person's machine: their keys, and folders of their own."""

    person: str
    name: str
    folder: Path
    gnupg: GnuPG
    seal: str
    root: tuple[str, ...]
    release: tuple[str, ...]
    secrets: dict[str, str]

    def asked(self, places: tuple[str, ...]) -> tuple[str, ...]:
        """Return what the command will ask for, in its order; a token asks once."""
        found = [self.secrets[place] for place in places if not place.startswith("gpg:")]
        return tuple(each for number, each in enumerate(found) if each != PIN or PIN not in found[:number])

    def keys(self, use: str) -> tuple[list[str], tuple[str, ...]]:
        places = self.root if use == "root" else self.release
        others = [place for place in places if not place.startswith("gpg:")]
        return [part for place in others for part in ("--key", place)], self.asked(places)


@pytest.fixture
def typist(capsys: pytest.CaptureFixture[str]) -> Typist:
    return Typist(capsys)


@pytest.fixture
def desks(typist: Typist, tmp_path: Path) -> Iterator[dict[str, Desk]]:
    with soft_token(tmp_path / "hsm", "bob") as token, gnupg_home() as one, gnupg_home() as two, gnupg_home() as three:
        made = {}
        for (person, name), gnupg in zip(
            (("alice", "Alice Archer"), ("bob", "Bob Baker"), ("carol", "Carol Cook")), (one, two, three), strict=True
        ):
            folder = tmp_path / person
            folder.mkdir()
            places: dict[str, list[str]] = {"root": [], "release": []}
            secrets = {}
            seal = gnupg.key(f"{name} seal <{person}@sender.example>")
            for number, use in enumerate(places, start=1):
                if person == "alice":
                    places[use].append(f"gpg:{seal if use == 'release' else gnupg.key(f'{name} root <a@x.example>')}")
                elif person == "bob":
                    places[use].append(
                        token.make_key(use, curve="secp384r1" if use == "root" else "prime256v1", number=number)
                    )
                    secrets[places[use][0]] = PIN
                for kind in ("ed25519", "ml-dsa-87") if person == "carol" else ("ml-dsa-87",):
                    file = folder / f"{use}.{kind}.pem"
                    typist.facts("key", "make", file, "--kind", kind, secrets=(PASSPHRASE,))
                    places[use].append(f"file:{file}")
                    secrets[f"file:{file}"] = PASSPHRASE
            made[person] = Desk(
                person=person,
                name=name,
                folder=folder,
                gnupg=gnupg,
                seal=seal,
                root=tuple(places["root"]),
                release=tuple(places["release"]),
                secrets=secrets,
            )
        yield made


def hold_ceremony(typist: Typist, desks: dict[str, Desk], lead: Path) -> Path:
    """Everyone joins and signs at their own desk; the lead merges. Carol hands in codes, photographed."""
    joins: list[object] = []
    for desk in desks.values():
        file = desk.folder / f"{desk.person}.join.json"
        keys = [part for place in desk.root for part in ("--root-key", place)]
        keys += [part for place in desk.release for part in ("--release-key", place)]
        typist.facts(
            *("ceremony", "join", file, "--person", f"{desk.person}:{desk.name}", *keys),
            *("--home", desk.gnupg.home, "--seal-key", desk.seal),
            secrets=desk.asked((*desk.root, *desk.release)),
        )
        joins += ["--join", file]
    proposal = lead / "root-1.json"
    facts = typist.facts("root", "propose", proposal, *joins, "--environment", "production", "--policy", "hybrid")
    typist.facts(
        *("ceremony", "script", lead / "script.pdf", "--proposal", proposal, *joins, "--witness", "Wendy Witness")
    )
    handed_in = []
    for desk in desks.values():
        own = shutil.copy(proposal, desk.folder / proposal.name)
        keys, secrets = desk.keys("root")
        signature = desk.folder / f"{desk.person}.root.json"
        typist.facts(
            *("root", "sign", own, "--person", desk.person, "--out", signature, "--home", desk.gnupg.home, *keys),
            *("--digest", facts["digest"]),
            *(("--codes", desk.folder / "codes") if desk.person == "carol" else ()),
            secrets=secrets,
        )
        handed_in.append(signature)
    code, _ = typist.run("root", "merge", proposal, handed_in[0], "--ceremony", lead / "c")
    assert code == 111
    assert "missing: bob, carol" in typist.talk
    photographed = photograph(desks["carol"].folder / "codes", lead / "carol.txt")
    typist.facts("root", "merge", proposal, handed_in[0], photographed, "--ceremony", lead / "c")
    return lead / "c"


def taken_by(typist: Typist, desk: Desk, *files: Path) -> dict[str, Any]:
    """Take what others handed in, dry first: that says the same and changes nothing."""
    words = ("take", desk.folder / "w", *files, "--ceremony", desk.folder / "c")
    before = {path: path.read_bytes() for path in desk.folder.rglob("*") if path.is_file()}
    dry = typist.facts(*words, "--dry-run")
    assert {path: path.read_bytes() for path in desk.folder.rglob("*") if path.is_file()} == before
    done = typist.facts(*words)
    assert done == {**dry, "dry_run": False}
    return done


def photograph(codes: Path, target: Path) -> Path:
    """Read QR codes back from their images, as a scanner would, in an order of its own."""
    lines = []
    for image in sorted(codes.glob("*.png"), reverse=True):
        found = zxingcpp.read_barcodes(
            Image.open(image).convert("L"), formats=zxingcpp.barcode_formats_from_str("QRCode")
        )
        assert len(found) == 1
        lines.append(found[0].text)
    target.write_text("\n".join(lines))
    return target


def test_three_people_who_share_no_machine_sign_a_hybrid_release_that_a_site_receives(
    typist: Typist, desks: dict[str, Desk], tmp_path: Path
) -> None:
    lead = tmp_path / "lead"
    lead.mkdir()
    ceremony = hold_ceremony(typist, desks, lead)
    assert typist.facts("ceremony", "show", ceremony)["policy"] == "hybrid"
    for desk in desks.values():
        shutil.copytree(ceremony, desk.folder / "c")
        new_candidate(desk.folder / "w")

    def signing(person: str) -> tuple[tuple[object, ...], tuple[str, ...]]:
        desk = desks[person]
        keys, secrets = desk.keys("release")
        return (*("--ceremony", desk.folder / "c", "--person", person, "--home", desk.gnupg.home), *keys), secrets

    def at(person: str, command: str, *options: object) -> dict[str, object]:
        words, secrets = signing(person)
        return typist.facts(command, desks[person].folder / "w", *words, *options, secrets=secrets)

    def hand_in(person: str, name: str) -> Path:
        desk = desks[person]
        target = desk.folder / f"{name}.json"
        places = ("--ceremony", desk.folder / "c", "--person", person)
        codes = ("--codes", desk.folder / name) if (person, name) == ("carol", "signed") else ()
        typist.facts("hand-in", desk.folder / "w", *places, "--out", target, *codes)
        return target

    def take(person: str, *files: Path) -> dict[str, object]:
        return taken_by(typist, desks[person], *files)

    at("alice", "attest", "--seal", "1=A-100")
    for person in ("bob", "carol"):
        shutil.copy(desks["alice"].folder / "w" / "volumes.json", desks[person].folder / "w" / "volumes.json")
        for file in (desks["alice"].folder / "w" / "attest").glob("custody-*.json"):
            shutil.copy(file, desks[person].folder / "w" / "attest" / file.name)
        (desks[person].folder / "w" / "attest" / "custody-sealed-1.dsse.json").unlink()
    statements = hand_in("alice", "statements")
    for person in ("bob", "carol"):
        take(person, statements)
    # Alice signed the provenance: she built it. The others build it again, or say why not.
    assert at("alice", "sign")["frozen"] is False
    for person in ("bob", "carol"):
        refused, _ = typist.run("sign", desks[person].folder / "w", *signing(person)[0])
        assert (refused, "Alice Archer built this release" in typist.talk) == (111, True)
        assert at(person, "sign", "--not-rebuilt", "a candidate of a test has no recipe")["frozen"] is False
    signed = {person: hand_in(person, "signed") for person in desks}
    signed["carol"] = photograph(desks["carol"].folder / "signed", tmp_path / "carol-signed.txt")
    for person in desks:
        taken = take(person, *(file for other, file in signed.items() if other != person))
        assert (taken["frozen"], taken["signed"]) == (True, ["alice", "bob", "carol"])
    for person in desks:
        at(person, "seal")
    sealed = {person: hand_in(person, "sealed") for person in ("bob", "carol")}
    done = take("alice", *sealed.values())
    assert (done["sheet"], done["sealed_by"]) == (True, ["alice", "bob", "carol"])

    stick = tmp_path / "stick"
    written = at("alice", "write", stick, "--to", "Carl Courier")
    checked = typist.facts("check", stick, "--ceremony", ceremony, "--code", done["code"])
    site = make_site(tmp_path / "site", (ceremony / "root" / "1.root.json").read_bytes(), environment="production")
    facts = site.receive([stick])

    assert written["sheet"]["code"] == done["code"]  # type: ignore[index]  # JSON of our own
    assert checked["root_is_known"] is True
    assert facts.outcome == "received"
    assert facts.facts["signature_policy"] == "hybrid"
    assert [each["person"] for each in facts.facts["metadata_signers"]] == ["alice", "bob", "carol"]
    kinds = {
        key["scheme"] for key in json.loads((ceremony / "root" / "1.root.json").read_bytes())["signed"]["keys"].values()
    }
    assert kinds == {"pgp+eddsa-ed25519", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp256", "ed25519", "ml-dsa-87/1"}
