"""Wrote `v1/`. Run for a new format version only: python -m tests.corpus.make_corpus NEW_FOLDER."""

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from media import bagit, canonical, custody, dsse, layout, volumeplan
from media.custody import HandOver, HandOverKind, Method
from media.deltabase import Base, Knowledge, Run
from media.digest import sha256_hex
from media.layout import BLOCK_BYTES
from media.volumeplan import Delta
from tests.support.gpg import gnupg_home
from tests.support.sender import Sender, make_sender
from tests.support.terms import large_target, small_target, targets_signed

_AT = datetime(2026, 11, 20, 8, tzinfo=UTC)


def write(folder: Path) -> None:
    """Write the files of one small release on two volumes, sealed by two people and handed over twice."""
    folder.mkdir(parents=True)
    targets = [
        small_target("data/release.json", b"{}", "release"),
        small_target("data/empty", b""),
        large_target("data/models/m/w.gguf", 3 * BLOCK_BYTES + 5),
    ]
    index = volumeplan.plan(targets, [2 * BLOCK_BYTES, 4 * BLOCK_BYTES], release="2026.11", serial=7)
    parts = [part for each in index.volumes for part in each.parts]
    index = index.with_part_digests({part.path: sha256_hex(part.path.encode()) for part in parts})
    first = index.volumes[0]
    info = bagit.BagInfo(
        release="2026.11",
        number=1,
        count=2,
        payload_bytes=first.payload_bytes,
        payload_files=len(first.parts),
        serial=7,
        volume_id=first.id,
    )
    with gnupg_home() as home:
        sender = make_sender(home)
        files = {
            "root.json": canonical.dumps(dict(sender.root)),
            "targets.json": canonical.dumps(targets_signed(targets)),
            "volumes.json": index.to_bytes(),
            layout.BAG_INFO: bagit.render_bag_info(info),
            layout.MANIFEST: bagit.render_manifest({part.path: part.sha256 for part in first.parts}),
            **_custody(sender, first.id),
        }
        files[layout.TAG_MANIFEST] = bagit.render_manifest({name: sha256_hex(data) for name, data in files.items()})
        for person in ("alice", "bob"):
            name = layout.signature_name(sender.fingerprints[person, "release"])
            files[name] = sender.detached(person, files[layout.TAG_MANIFEST])
    for name, data in files.items():
        (folder / name).write_bytes(data)


def delta_index() -> bytes:
    """Return the index of a delta set of that release: the first blocks of the weights lie in a file of serial 5."""
    targets = [
        small_target("data/release.json", b"{}", "release"),
        small_target("data/empty", b""),
        large_target("data/models/m/w.gguf", 3 * BLOCK_BYTES + 5),
    ]
    run = Run(target="data/models/m/w.gguf", first=0, last=1, object="ab" * 32, block=4)
    base = Base(
        site="clinic-a",
        source=Knowledge.INVENTORY,
        at=datetime(2026, 11, 20, 8, tzinfo=UTC),
        serials=(5,),
        runs=(run,),
    )
    delta = Delta(base=base, carried={"data/models/m/w.gguf": [(2, 3)], "data/release.json": [(0, 0)]})
    index = volumeplan.plan(targets, [4 * BLOCK_BYTES], release="2026.11", serial=7, delta=delta)
    parts = [part for each in index.volumes for part in each.parts]
    return index.with_part_digests({part.path: sha256_hex(part.path.encode()) for part in parts}).to_bytes()


def _custody(sender: Sender, volume_id: str) -> dict[str, bytes]:
    sealed = HandOver(
        entry=0,
        previous="",
        release="2026.11",
        volume=volume_id,
        kind=HandOverKind.SEALED,
        from_="Alice Example",
        to="Alice Example",
        at=_AT,
        place="Sender",
        seals=("A-1001", "A-1002"),
        condition="packed",
        method=Method.SIGNED,
        entered_by="alice",
    )
    files = {"custody-sealed-1.dsse.json": custody.sign(sealed, sender.signers["alice", "release"])}
    previous = files["custody-sealed-1.dsse.json"]
    for number, (giver, taker, person) in enumerate(
        [("Alice Example", "Courier Kim", "alice"), ("Courier Kim", "Dora Example", "dora")], start=1
    ):
        entry = replace(
            sealed,
            entry=number,
            previous=sha256_hex(previous),
            kind=HandOverKind.HANDED_OVER,
            from_=giver,
            to=taker,
            at=_AT + timedelta(hours=number),
            method=Method.PAPER if person == "dora" else Method.SIGNED,
            entered_by=person,
        )
        previous = custody.sign(entry, sender.signers[person, "release"])
        files[layout.custody_name(number, sha256_hex(previous))] = previous
    statement = canonical.dumps({"_type": "https://in-toto.io/Statement/v1", "predicate": {"level": "installed"}})
    once = dsse.sign(dsse.INTOTO, statement, sender.signers["alice", "release"])
    files["rehearsal.dsse.json"] = dsse.countersign(once, sender.signers["bob", "release"])
    return files


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    Path(f"{sys.argv[1]}-delta").mkdir()
    (Path(f"{sys.argv[1]}-delta") / "volumes.json").write_bytes(delta_index())
