"""The paper form for hand-overs: first class, because most couriers have no key. Filled in by hand, entered later."""

from pathlib import Path

from media import layout
from media.bagit import BagInfo, parse_bag_info
from media.custody import HandOver
from media.dsse import Envelope
from media.errors import MissingFileError
from media.volume import VolumeIndex

_ROWS = 4


def paper_form(volume: Path) -> str:
    """Return the form of one volume, with what is known filled in.

    Raises:
        MissingFileError: There is no sealed release here.
        MediaError: Its lists cannot be read.
    """
    release = volume / layout.RELEASE
    try:
        info = parse_bag_info((release / layout.BAG_INFO).read_bytes())
        sealed = _sealed(release, info)
    except OSError:
        raise MissingFileError(
            what="there is no sealed release here", fix="name the folder where the volume is mounted"
        ) from None
    lines = [
        "CUSTODY OF A MEDIUM",
        "===================",
        f"Release    {info.release}, serial {info.serial}",
        f"Volume     {info.number} of {info.count}, id {info.volume_id}",
        f"Packed by  {sealed.from_}, {sealed.at:%Y-%m-%d %H:%M} UTC, {sealed.place}",
        f"Seals      {', '.join(sealed.seals) or '(write the numbers here) ' + 30 * '_'}",
        "",
        "Each row is one hand-over. Compare the seal numbers before you sign. A seal that is broken or has another",
        "number is written down, not hidden: the receiving site decides.",
    ]
    for row in range(1, _ROWS + 1):
        lines += [
            "",
            f"{row}. Date and time (with zone)  ____________________   Place  ______________________________",
            "   From (print)  ____________________________   Signature  ______________________________",
            "   To (print)    ____________________________   Signature  ______________________________",
            "   Seal numbers  ____________________________   Condition  ______________________________",
        ]
    lines += [
        "",
        "The receiver enters this form with: sealift-bundler custody hand-over VOLUME --paper, or on the box.",
    ]
    return "\n".join(lines) + "\n"


def _sealed(release: Path, info: BagInfo) -> HandOver:
    index = VolumeIndex.from_bytes((release / layout.VOLUMES).read_bytes())
    number = next((each.number for each in index.volumes if each.id == info.volume_id), info.number)
    envelope = Envelope.from_bytes((release / layout.sealed_custody_name(number)).read_bytes())
    return HandOver.from_payload(envelope.payload)
