"""Labels for the media of a release, one page to print and cut: what a courier and a site read on the outside.

A label never bears the release code, nor anything else of the trust sheet: those travel apart from the medium. Its QR
code holds what is printed beside it, for an inventory to scan; nothing trusts it.
"""

from dataclasses import dataclass

from bundler.pdf import Sheet
from bundler.plan import ReleasePlan
from bundler.printable import code, element, label_code, page, rows
from bundler.volumechoice import VolumeChoice
from bundler.volumefiles import volume_index
from bundler.workfolder import WorkFolder
from media import clock as clocks
from media.canonical import loads, mapping
from media.people import People

_HAND_OVERS = 4
_ADVICE = (
    "Nothing on this label proves anything: the site checks the medium itself, with the trust sheet that travels "
    "apart. A seal that is broken or has another number is written down, not hidden."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What stands on one medium."""

    release: str
    serial: int
    environment: str
    sites: tuple[str, ...]
    number: int
    count: int
    id: str
    seals: tuple[str, ...]
    payload_bytes: int
    created: str
    stale_after: str

    @property
    def scanned(self) -> str:
        """What the QR code holds."""
        return label_code(self.release, self.serial, number=self.number, count=self.count, volume_id=self.id)

    @property
    def warning(self) -> str:
        """What must be said of a release that is not for production; empty for one that is."""
        return "" if self.environment == "production" else f"{self.environment.upper()}, not for production"

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What is printed, by name; empty where somebody writes."""
        return [
            ("Volume id", f"{self.id[:4]} {self.id[4:8]} {self.id[8:12]} {self.id[12:]}"),
            ("Serial", str(self.serial)),
            ("For", ", ".join(self.sites)),
            ("Payload", f"{self.payload_bytes:,} bytes"),
            ("Made, stale after", f"{self.created}, {self.stale_after}"),
            ("Seals reserved", ", ".join(self.seals)),
            ("Seals put on", ""),
            ("Copy, written on", ""),
            ("Return to", ""),
        ]

    def to_html(self) -> str:
        """Return the label as a section of the page."""
        return "\n".join(
            [
                "<section>",
                code(self.scanned),
                element("h2", f"SEALIFT  {self.release}"),
                element("p", f"Volume {self.number} of {self.count}", css="big"),
                element("p", self.warning, css="warning") if self.warning else "",
                rows(self.facts),
                element("p", _ADVICE, css="small"),
                "</section>",
            ]
        )


def labels(work: WorkFolder) -> tuple[Label, ...]:
    """Return the labels of a release whose metadata is frozen, one for each volume.

    Raises:
        SigningError: It is not frozen yet.
        MediaError: Its lists cannot be read.
    """
    index, plan, choice = volume_index(work), ReleasePlan.load(work.plan), VolumeChoice.load(work)
    roots = sorted(work.metadata.glob("*.root.json"), key=lambda path: path.name.partition(".")[0].zfill(16))
    root = mapping(mapping(loads(roots[-1].read_bytes()), "The root").get("signed"), "The root")
    environment = str(People.from_root(root).environment)
    return tuple(
        Label(
            release=index.release,
            serial=index.serial,
            environment=environment,
            sites=plan.sites,
            number=volume.number,
            count=len(index.volumes),
            id=volume.id,
            seals=choice.seals.get(volume.number, ()),
            payload_bytes=volume.payload_bytes,
            created=plan.created,
            stale_after=plan.stale_after,
        )
        for volume in index.volumes
    )


def label_page(found: tuple[Label, ...]) -> str:
    """Return the page of all labels of a release."""
    return page(f"Labels of {found[0].release}", [each.to_html() for each in found])


def label_sheet(found: tuple[Label, ...]) -> bytes:
    """Return the labels of a release as PDF, a page for each volume, with lines for the hand-overs on the way."""
    first = found[0]
    sheet = Sheet(f"SEALIFT  {first.release}", at=clocks.from_text(first.created))
    for label in found:
        if label is not first:
            sheet.new_page()
        sheet.heading(f"Volume {label.number} of {label.count} of {label.release}")
        if label.warning:
            sheet.text(label.warning, bold=True)
        sheet.code(label.scanned, size=38)
        sheet.facts(label.facts)
        sheet.gap()
        sheet.text(_ADVICE)
        sheet.heading("Hand-overs; each is also written on the custody form or on the medium")
        for _ in range(_HAND_OVERS):
            sheet.lines(("date, time, zone", "from", "to", "seal numbers"))
    return sheet.to_bytes()
