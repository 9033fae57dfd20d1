"""The paper form for hand-overs: first class, because most couriers have no key. Filled in by hand, entered later."""

from dataclasses import dataclass
from pathlib import Path

from bundler.custody import head
from bundler.pdf import Sheet
from bundler.printable import blank, code, element, label_code, page, rows
from media import layout
from media.bagit import BagInfo, parse_bag_info
from media.custody import HandOver
from media.dsse import Envelope
from media.errors import MissingFileError
from media.volume import VolumeIndex

_ROWS = 4
_TITLE = "Custody of a medium"
_ADVICE = (
    "Each row is one hand-over. Compare the seal numbers before you sign. A seal that is broken or has another",
    "number is written down, not hidden: the receiving site decides.",
)
_HEAD = (
    "The head ends the signed chain as printed. The last holder sends the receiver the head of the last entry",
    "by another way.",
)
_ENTERED = "The receiver enters this form with: sealift-bundler custody hand-over VOLUME --paper, or on the box."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What the form says before anybody writes on it."""

    info: BagInfo
    sealed: HandOver
    head: str

    @property
    def scanned(self) -> str:
        """What the QR code holds: the label's."""
        info = self.info
        return label_code(info.release, info.serial, number=info.number, count=info.count, volume_id=info.volume_id)

    def facts(self) -> list[tuple[str, str]]:
        info, sealed = self.info, self.sealed
        return [
            ("Release", f"{info.release}, serial {info.serial}"),
            ("Volume", f"{info.number} of {info.count}, id {info.volume_id}"),
            ("Packed by", f"{sealed.from_}, {sealed.at:%Y-%m-%d %H:%M} UTC, {sealed.place}"),
            ("Seals", ", ".join(sealed.seals)),
            ("Head", self.head),
        ]


def paper_form(volume: Path) -> str:
    """Return the form of one volume as text, with what is known filled in.

    Raises:
        MissingFileError: There is no sealed release here.
        MediaError: Its lists cannot be read.
    """
    facts = _known(volume).facts()
    lines = [_TITLE.upper(), "=" * len(_TITLE)]
    lines += [f"{name:<10} {text or '(write the numbers here) ' + 30 * '_'}" for name, text in facts]
    lines += ["", *_ADVICE]
    for row in range(1, _ROWS + 1):
        lines += [
            "",
            f"{row}. Date and time (with zone)  ____________________   Place  ______________________________",
            "   From (print)  ____________________________   Signature  ______________________________",
            "   To (print)    ____________________________   Signature  ______________________________",
            "   Seal numbers  ____________________________   Condition  ______________________________",
        ]
    return "\n".join([*lines, "", *_HEAD, _ENTERED]) + "\n"


def printable_form(volume: Path) -> str:
    """Return the form of one volume as an HTML page to print, with the volume's QR code.

    Raises:
        MissingFileError: There is no sealed release here.
        MediaError: Its lists cannot be read.
    """
    known = _known(volume)
    info = known.info
    body = [
        "<section>",
        code(known.scanned),
        element("h1", _TITLE),
        rows(known.facts()),
        "</section>",
        element("p", " ".join(_ADVICE)),
    ]
    for row in range(1, _ROWS + 1):
        body += [
            '<div class="row">',
            f"<p>{row}. Date and time (with zone) {blank()} Place {blank()}</p>",
            *(
                f"<p>{left} {blank()} {right} {blank()}</p>"
                for left, right in (
                    ("From (print)", "Signature"),
                    ("To (print)", "Signature"),
                    ("Seal numbers", "Condition"),
                )
            ),
            "</div>",
        ]
    return page(
        f"Custody of volume {info.number} of {info.release}",
        [*body, element("p", " ".join(_HEAD)), element("p", _ENTERED)],
    )


def form_sheet(volume: Path) -> bytes:
    """Return the form of one volume as PDF, with the volume's QR code.

    Raises:
        MissingFileError: There is no sealed release here.
        MediaError: Its lists cannot be read.
    """
    known = _known(volume)
    sheet = Sheet(_TITLE, at=known.sealed.at)
    sheet.code(known.scanned, size=36)
    sheet.facts(known.facts())
    sheet.gap()
    sheet.text(" ".join(_ADVICE))
    for row in range(1, _ROWS + 1):
        sheet.heading(f"{row}. hand-over")
        sheet.lines(("date and time, with zone", "place", "seal numbers", "condition"))
        sheet.lines(("from (print)", "signature", "to (print)", "signature"))
    sheet.text(" ".join((*_HEAD, _ENTERED)))
    return sheet.to_bytes()


def _known(volume: Path) -> _Known:
    release = volume / layout.RELEASE
    try:
        info = parse_bag_info((release / layout.BAG_INFO).read_bytes())
        return _Known(info=info, sealed=_sealed(release, info), head=head(volume))
    except OSError:
        raise MissingFileError(
            what="there is no sealed release here", fix="name the folder where the volume is mounted"
        ) from None


def _sealed(release: Path, info: BagInfo) -> HandOver:
    index = VolumeIndex.from_bytes((release / layout.VOLUMES).read_bytes())
    number = next((each.number for each in index.volumes if each.id == info.volume_id), info.number)
    envelope = Envelope.from_bytes((release / index.sealed_entry(number)).read_bytes())
    return HandOver.from_payload(envelope.payload)
