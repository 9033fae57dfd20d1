"""Labels for the media of a release, one page to print and cut: what a courier and a site read on the outside.

A label never bears the release code, nor anything else of the trust sheet: those travel apart from the medium. Its QR
code holds what is printed beside it, for an inventory to scan; nothing trusts it.
"""

from dataclasses import dataclass

from bundler.plan import ReleasePlan
from bundler.printable import code, element, label_code, page, rows
from bundler.volumechoice import VolumeChoice
from bundler.volumefiles import volume_index
from bundler.workfolder import WorkFolder
from media.canonical import loads, mapping
from media.people import People

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

    def to_html(self) -> str:
        """Return the label as a section of the page."""
        is_real = self.environment == "production"
        warning = element("p", f"{self.environment.upper()}, not for production", css="warning")
        return "\n".join(
            [
                "<section>",
                code(self.scanned),
                element("h2", f"SEALIFT  {self.release}"),
                element("p", f"Volume {self.number} of {self.count}", css="big"),
                "" if is_real else warning,
                rows(
                    [
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
                ),
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
