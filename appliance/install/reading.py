"""Whether a release reads what this site has stored, so that none is put into place that would load nothing.

What is stored: promotions, whose format says whether a further line was opened, and pairings with the cards in them.
What a release reads is in its own wheel (`appliance/formats.json`); one that has no such file is of before. Promises:
this is looked at before a plan is made, so nobody is asked to approve a release that must not go in; where nothing was
stored that every release reads, nothing is looked at.
"""

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from appliance import formats
from appliance.config import Places
from appliance.errors import InstallError
from appliance.install.carried import Whole
from appliance.promote.record import MAX_BYTES
from appliance.standby.card import BoxCard
from appliance.standby.pairing import Pairing
from media import canonical
from media.dsse import Envelope
from media.errors import MediaError, SealiftError

_SERVER: Final = "server"
_WHEELS: Final = "data/wheels/"
_OURS: Final = re.compile(rb"^sealift==\S{1,100}\s+--hash=sha256:([0-9a-f]{64})\s*$", re.MULTILINE)
_IN_WHEEL: Final = f"appliance/{formats.FILE}"
_MOST: Final = 64 * 1024
_MOST_PAIRING: Final = 256 * 1024


def require_reads(places: Places, whole: Whole) -> None:
    """Return when a release, as it is to be installed here, reads what lies here.

    Raises:
        InstallError: It does not say so, or what lies here is out of this process's reach.
        StoreDamagedError: A file of it is not what was signed.
    """
    stored = whole.stored
    written = _written(places)
    if not formats.unread({}, written):
        return
    missing = formats.unread(_reads(whole), written)
    if missing:
        raise InstallError(
            what=f"release {stored.release} (serial {stored.serial}) does not read what this site has stored",
            why=f"it says nothing of {', '.join(missing)}; it would load nothing, or know no other box",
            fix="; ".join(_way_out(written)),
        )


def _written(places: Places) -> Mapping[str, int]:
    """Return the newest format of what lies here; a file that cannot be told apart is not this one's to judge."""
    found = {formats.PROMOTION: 0, formats.CARD: 0}
    for content in _contents(places.promoter / "promotions", most=MAX_BYTES):
        found[formats.PROMOTION] = max(found[formats.PROMOTION], _format(content))
    for content in _contents(places.boxes, most=_MOST_PAIRING):
        found[formats.CARD] = max(found[formats.CARD], _card_format(content))
    return found


def _contents(folder: Path, *, most: int) -> Iterator[bytes]:
    try:
        for path in folder.iterdir():  # a glob would take a folder that it may not look into for an empty one
            if path.suffix == ".json":
                with path.open("rb") as stream:
                    yield stream.read(most)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InstallError(
            what="what was promoted and paired here cannot be read",
            why=error.strerror or type(error).__name__,
            fix="install as root; whether the release reads it has to be known first",
        ) from error


def _format(content: bytes) -> int:
    try:
        found: Any = canonical.mapping(canonical.loads(content), "promotion").get("format")
    except MediaError:
        return 0
    return found if isinstance(found, int) else 0


def _card_format(content: bytes) -> int:
    try:
        pairing = Pairing.from_bytes(content)
        cards = (Envelope.from_bytes(one).payload for one in (pairing.first, pairing.second))
        return max(BoxCard.from_payload(one).format for one in cards)
    except SealiftError:
        return 0


def _reads(whole: Whole) -> Mapping[str, int]:
    """Return what our wheel says that it reads, of that release; nothing where it says nothing.

    Which wheel it is follows from the requirements: beside an update lies the wheel that it replaces.
    """
    pinned = _OURS.search(whole.requirements.get(_SERVER, b"").replace(b"\\\n", b" "))
    digest = "" if pinned is None else pinned[1].decode()
    ours = [path for path, file in whole.stored.files.items() if path.startswith(_WHEELS) and file.sha256 == digest]
    if not ours:
        return {}
    try:
        with zipfile.ZipFile(whole.stored.verify(ours[0])) as wheel, wheel.open(_IN_WHEEL) as member:
            return formats.parse(canonical.loads(member.read(_MOST)), formats.FILE)
    except (KeyError, zipfile.BadZipFile, RuntimeError, NotImplementedError, MediaError):
        return {}


def _way_out(written: Mapping[str, int]) -> Iterator[str]:
    unread = {name for name, number in written.items() if formats.unread({}, {name: number})}
    if formats.PROMOTION in unread:
        yield "install a release that knows several models, or restore a backup of before the second one"
    if formats.CARD in unread:
        yield "part from the other box first: `sealift standby part NAME`"
