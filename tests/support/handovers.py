"""Hand-overs of a medium that was made for a test, signed by who carried it."""

import shutil
from dataclasses import replace
from typing import Any

from bundler.gpghome import short_home
from media import custody, layout
from media.custody import HandOver, HandOverKind, Method
from media.digest import sha256_hex
from media.signers import tuf_signer
from media.volume import VolumeIndex
from tests.support.medium import MADE_AT, SimulatedMedium


def sign_hand_over(medium: SimulatedMedium, entry: HandOver) -> bytes:
    """Return an entry as the person who entered it signs it."""
    person = entry.entered_by
    with short_home(medium.ceremony.home_of(person)) as home:
        return custody.sign(entry, tuf_signer(home, medium.fingerprint(person)))


def hand_over(medium: SimulatedMedium, **changes: Any) -> HandOver:
    """Return a first hand-over of volume 1 as it should be, but for the changes."""
    sealed = medium.path(layout.sealed_custody_name(1)).read_bytes()
    index = VolumeIndex.from_bytes(medium.path(layout.VOLUMES, volume=1).read_bytes())
    entry = HandOver(
        entry=1,
        previous=sha256_hex(sealed),
        release=medium.release,
        volume=index.volumes[0].id,
        kind=HandOverKind.HANDED_OVER,
        from_="Bundling room",
        to="Courier",
        at=MADE_AT,
        place="Gate",
        seals=("S-0002-1",),
        condition="whole",
        method=Method.SIGNED,
        entered_by="carol",
    )
    return replace(entry, **changes)


def put_custody(medium: SimulatedMedium, files: list[bytes]) -> None:
    """Make these the hand-overs of volume 1."""
    folder = medium.volumes[0] / layout.CUSTODY
    shutil.rmtree(folder)
    folder.mkdir()
    for number, raw in enumerate(files, start=1):
        (folder / layout.custody_name(number, sha256_hex(raw))).write_bytes(raw)
