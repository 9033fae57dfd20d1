"""The certificate of sanitisation of a retired box, with the fields that NIST SP 800-88 Rev. 2 asks for.

What the program did is filled in; what only people can do and see (disks, backups elsewhere, witnesses) has lines.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from appliance.paper.form import Form, Section, Table
from media.clock import to_text

_NOT_SAID: Final = "________________"
_ABOUT_BACKUPS: Final = (
    "A backup opens for whoever has its recipient's private key, which never was on this box.",
    "It is unreadable when that key is destroyed, which its holder signs for; a file kept on purpose is noted as kept.",
)


def form(site: str, facts: Mapping[str, Any], checkpoint: str, *, at: datetime) -> Form:
    """Return the certificate.

    Args:
        site: Whose box it was.
        facts: Of the record ``retire.done``.
        checkpoint: The ledger's last signed head.
        at: Now.
    """
    disks, node = facts["disks"], facts.get("node")
    whose = f"{site}, node {node}" if node else site
    opens = "opens here; other nodes have the same keys" if node else "opens"
    if boxes := facts.get("boxes", ()):
        opens += f"{'' if node else ' here'}; hashes of API keys can be made again on {', '.join(boxes)}"
    return Form(
        title="Certificate of sanitisation (NIST SP 800-88 Rev. 2)",
        result=f"{whose}: keys destroyed, what they made no longer {opens}; disks and backups as listed below",
        at=to_text(at.replace(microsecond=0)),
        sections=(
            _performed(whose, facts),
            _media(disks),
            _keys(facts),
            _shown(facts),
            _backups(facts),
            Section(
                title="The ledger's last signed head",
                facts=tuple((f"line {number}", line) for number, line in enumerate(checkpoint.splitlines(), 1) if line),
                notes=(
                    "The other nodes go on with the ledger after it."
                    if node
                    else "Keep it with the exported ledger: what comes after it was not written by this box.",
                ),
            ),
            _signatures(facts),
        ),
    )


def _performed(site: str, facts: Mapping[str, Any]) -> Section:
    return Section(
        title="Performed by",
        facts=(
            ("Organisation, site", site),
            ("Persons", ", ".join(f"{each['name']} ({each['person']})" for each in facts["by"])),
            ("Reason", str(facts["reason"])),
            ("How they proved who they are", "each by the own password, checked by the promoter"),
        ),
        lines=(("Title", "Location", "Telephone"),),
    )


def _media(disks: Mapping[str, Any]) -> Section:
    return Section(
        title="Media in the machine",
        table=Table(
            heads=("No.", "Kind, maker, model, serial number, property number"),
            rows=tuple(
                (str(number), str(text)) for number, text in enumerate(disks["media"] or [_NOT_SAID, _NOT_SAID], 1)
            ),
            widths=(1, 11),
        ),
        facts=(
            ("Method", str(disks["method"])),
            ("Technique", str(disks["technique"] or _NOT_SAID)),
            ("Tool and version", str(disks["tool"] or _NOT_SAID)),
            ("Verification", str(disks["verification"] or _NOT_SAID)),
            ("Destination", str(disks["destination"] or _NOT_SAID)),
            ("Classification before and after", f"{_NOT_SAID} / {_NOT_SAID}"),
        ),
        notes=(
            "This program destroyed keys; it did not sanitise the disks.",
            "Models, programs and records on the disks are not encrypted by those keys.",
            "Whoever carries out the method above signs for it below.",
        ),
    )


def _keys(facts: Mapping[str, Any]) -> Section:
    node, gone = facts.get("node"), facts.get("gone", ())
    notes = [
        "On flash media old cells may survive until the disk itself is sanitised.",
        "Services that were handed keys hold them in memory until they are stopped; who stops them signs below.",
    ]
    if node:
        notes.append("Other nodes have the same keys: this alone erases nothing that lies on the disk of this one.")
    notes += [
        f"The box {one} is or was paired with this one and may have the same secret of API keys (api-key-pepper): of it"
        " this certificate says only that it is gone here. It has a mirror of this box's ledger, too."
        for one in facts.get("boxes", ())
    ]
    notes += [f"Of node {one} people said that its keys went with its machine." for one in gone]
    return Section(
        title=f"Keys destroyed first ({f'on node {node}' if node else 'cryptographic erase of what they protect'})",
        table=Table(
            heads=("Secret", "Files overwritten, synced and unlinked"),
            rows=(
                *((str(each["name"]), ", ".join(each["files"])) for each in facts["keys"]),
                # A release of before told of the second one among the others.
                (", ".join(facts.get("last", ("ledger-checkpoint",))), "last, after the head below was signed"),
            ),
            widths=(4, 8),
        ),
        notes=tuple(notes),
    )


def _shown(facts: Mapping[str, Any]) -> Section:
    return Section(
        title=f"Verified: what the keys made before does not open {_here(facts)}now",
        table=Table(
            heads=("Key", "Tried", "Result"),
            rows=tuple((str(each["key"]), str(each["tried"]), str(each["result"])) for each in facts["shown"]),
            widths=(3, 4, 5),
        ),
    )


def _here(facts: Mapping[str, Any]) -> str:
    return "here " if facts.get("node") or facts.get("boxes") else ""


def _backups(facts: Mapping[str, Any]) -> Section:
    rows = tuple(
        (str(each["name"]), str(each["sha256"])[:16], str(each["recipient"])[-16:], _NOT_SAID)
        for each in facts["backups"]
    )
    return Section(
        title="Backups of this box",
        table=Table(
            heads=("File", "SHA-256", "Opens with key", "Key or file destroyed on"), rows=rows, widths=(6, 3, 3, 3)
        )
        if rows
        else None,
        notes=_ABOUT_BACKUPS if rows else ("No backup was ever recorded.",),
    )


def _signatures(facts: Mapping[str, Any]) -> Section:
    return Section(
        title="Signatures",
        lines=(
            *((f"{each['name']}, performed", "Signature", "Date") for each in facts["by"]),
            ("Services stopped, or the machine switched off, by", "Signature", "Date"),
            ("Disks sanitised by", "Signature", "Date"),
            ("Holder of the backup key", "Signature", "Date"),
            ("Validated by, title", "Signature", "Date"),
        ),
    )
