"""The trust sheet: one page that travels apart from the medium and lets two people begin to trust it.

It names the release code, the first root, every signer's full fingerprint, the threshold, the sites, the serial and the
volumes; and the commands a person types on a bare Debian 12, literally, before anything from the medium is run. The
commands execute nothing of the medium until its copy has been compared with this page.
"""

from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from media import layout

COPY_FOLDER = "/root/sealift-first"


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetSigner:
    """Someone who sealed the release."""

    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetVolume:
    """One volume and the seal numbers reserved for it."""

    number: int
    id: str
    seals: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSheet:
    """What two people must know before they trust a medium."""

    release: str
    serial: int
    environment: str
    sites: tuple[str, ...]
    code: str
    root_sha256: str
    root_version: int
    threshold: int
    stale_after: str
    signers: tuple[SheetSigner, ...]
    volumes: tuple[SheetVolume, ...]
    base: tuple[int, ...] = ()
    """Serials that a delta set builds on; none for a full set."""

    def copy_commands(self) -> tuple[str, ...]:
        """Return what copies the small part of volume 1, as files and not as links."""
        parts = ("*.txt", "*.sig", layout.METADATA, layout.ATTEST, layout.CHECK)
        sources = " ".join(f'"$MEDIUM"/{layout.RELEASE}/{part}' for part in parts)
        return (
            f"mkdir -m 700 {COPY_FOLDER} && cd {COPY_FOLDER} && \\",
            f"cp -rL {sources} .",
        )

    def check_commands(self) -> tuple[tuple[str, str], ...]:
        """Return the commands that check the copy, each with what must come out."""
        code = (
            f"echo '{self.code}  {layout.TAG_MANIFEST}' | sha256sum --check --strict",
            f"prints: {layout.TAG_MANIFEST}: OK",
        )
        signatures = tuple((_gpgv(signer), _expected(signer)) for signer in self.signers)
        complete = (
            f"sha256sum --check --strict --quiet {layout.TAG_MANIFEST} && echo COMPLETE",
            "prints: COMPLETE",
        )
        return (code, *signatures, complete)

    def bootstrap_command(self) -> str:
        """Return what begins the installation from the checked copy."""
        media = " ".join(f'--medium "${_variable(volume.number)}"' for volume in self.volumes)
        site = ' --site "$SITE"' if len(self.sites) > 1 else ""
        return f"python3 -I {layout.BOOTSTRAP} {media}{site}"

    def variables(self) -> tuple[str, ...]:
        """Return the lines that say where the volumes are mounted and, if it must be said, which site this is."""
        places = tuple(f"{_variable(each.number)}=/media/sealift-{each.number}" for each in self.volumes)
        return (*places, f"SITE={self.sites[0]}") if len(self.sites) > 1 else places

    def to_json(self) -> dict[str, Any]:
        """Return the facts of the sheet for a program."""
        return {
            "format": 1,
            "release": self.release,
            "serial": self.serial,
            "environment": self.environment,
            "sites": list(self.sites),
            "code": self.code,
            "root_sha256": self.root_sha256,
            "root_version": self.root_version,
            "threshold": self.threshold,
            "stale_after": self.stale_after,
            "base": list(self.base),
            "signers": [{"name": signer.name, "fingerprint": signer.fingerprint} for signer in self.signers],
            "volumes": [
                {"number": volume.number, "id": volume.id, "seals": list(volume.seals)} for volume in self.volumes
            ],
        }

    def to_text(self) -> str:
        """Return the page."""
        installing = self._only_on_top() if self.base else self._first_installation()
        return "\n".join([*self._facts(), "", *self._volumes(), "", *installing]) + "\n"

    def _only_on_top(self) -> list[str]:
        serials = ", ".join(map(str, self.base))
        return [
            "Delta set",
            "---------",
            f"It carries only what a site with serial {serials} has not, and completes nothing without that: it is no",
            "first medium. Receive it with `sealift receive`; what the site lacks is named before a byte is copied.",
        ]

    def _facts(self) -> list[str]:
        warning = f"*** {self.environment.upper()}: keys of no value; a production box refuses this ***"
        code, root = spaced(self.code, 8, 4), spaced(self.root_sha256, 8, 4)
        lines = [
            "SEALIFT TRUST SHEET",
            "===================",
            *([] if self.environment == "production" else [warning]),
            "Send this page apart from the medium. Whoever changes both deceives the site.",
            "",
            f"Release        {self.release}, serial {self.serial}",
            f"For sites      {', '.join(self.sites)}",
            f"Stale after    {self.stale_after}",
            f"Release code   {code[0]}",
            f"               {code[1]}",
            f"First root     {root[0]}   (SHA-256 of 1.root.json)",
            f"               {root[1]}",
            f"Root version   {self.root_version}",
            f"Sealed by      {len(self.signers)} people; at least {self.threshold} different people are needed",
        ]
        for signer in self.signers:
            lines += [f"  {signer.name}", f"    {spaced(signer.fingerprint, 4, 10)[0]}"]
        return lines

    def _volumes(self) -> list[str]:
        lines = ["Volumes"]
        for volume in self.volumes:
            seals = f"seals {', '.join(volume.seals)}" if volume.seals else "no seal numbers reserved"
            lines.append(f"  {volume.number} of {len(self.volumes)}   id {volume.id}   {seals}")
        return lines

    def _first_installation(self) -> list[str]:
        last = len(self.check_commands()) + 1
        lines = [
            "First installation, on a bare Debian 12, as root",
            "------------------------------------------------",
            f"Nothing from the medium runs before step {last}, and step {last} runs from the checked copy.",
            "",
            "0. Mount every volume read-only, say where they are, and copy the small part of volume 1:",
            "",
            *self.variables(),
            *self.copy_commands(),
            "",
            "Check the copy. Stop, and call the sender, if anything else comes out than what stands here.",
        ]
        for step, (command, outcome) in enumerate(self.check_commands(), start=1):
            lines += ["", f"{step}. {command}", *wrap(outcome, 110, initial_indent="   ", subsequent_indent="   ")]
        return [
            *lines,
            "",
            f"{last}. {self.bootstrap_command()}",
            "   Two people type the release code of this page, each at their own prompt.",
            "   When it has ended: sealift setup",
        ]


def _variable(number: int) -> str:
    return "MEDIUM" if number == 1 else f"MEDIUM_{number}"


def _gpgv(signer: SheetSigner) -> str:
    keyring = f"./{layout.certificate_name(signer.fingerprint)}"
    signature = f"./{layout.signature_name(signer.fingerprint)}"
    return f"gpgv --ignore-time-conflict --status-fd 1 --keyring {keyring} {signature} ./{layout.TAG_MANIFEST}"


def _expected(signer: SheetSigner) -> str:
    refusals = "BADSIG, ERRSIG, EXPSIG, EXPKEYSIG, REVKEYSIG or NO_PUBKEY"
    return f"prints one line with GOODSIG and one with VALIDSIG that ends in {signer.fingerprint}; none with {refusals}"


def spaced(text: str, group: int, per_line: int) -> list[str]:
    """Return text in groups that a person can compare, a number of them on each line."""
    groups = wrap(text, group)
    return [" ".join(groups[start : start + per_line]) for start in range(0, len(groups), per_line)]
