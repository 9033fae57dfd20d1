"""The closed list of what may leave a facility: each type with its fields, its cap, and a reader that refuses all else.

A type that is not here cannot be written. No type has free text but what its entry here names, and that is capped and
searched for identifiers and secrets like everything else (EXP-1).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from appliance.errors import ExportRefusedError
from media import canonical, inventory, limits, siteevidence, sitefigures
from media.errors import MalformedError, MediaError
from media.inventory import Inventory
from media.release import require_site_name
from media.siteevidence import SiteEvidence
from media.sitefigures import SiteFigures

RECEIPT: Final = "application/vnd.sealift.receipt+json"
_RECEIPT_FIELDS: Final = (
    *("format", "type", "site", "outcome", "at", "release", "serial", "code", "payload_digest", "targets_sha256"),
    *("root_version", "timestamp_version", "signers", "volumes", "files", "bytes", "rehearsal_level", "custody"),
    "ledger",
)
_PROBE_FIELDS: Final = (
    *("architecture", "codename", "cores", "cpu_flags", "cuda", "distribution", "driver", "format", "glibc", "gpus"),
    *("kernel", "memory_mib", "musl", "packages", "product", "python", "release"),
)
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_LOW: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)
_VERSION: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6}){0,3}", re.ASCII)
_GPU: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ()/+._-]{0,63}", re.ASCII)
_PCI: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}", re.ASCII)
_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{1,99} [0-9][A-Za-z0-9.+:~-]{0,99} [a-z0-9][a-z0-9-]{0,19}", re.ASCII)
_FINGERPRINT: Final = re.compile(r"[0-9A-F]{40}", re.ASCII)


class ExportType(StrEnum):
    """Every kind of thing that may leave; there is no other way out."""

    RECEIPT = "receipt"
    INVENTORY = "inventory"
    PROBE = "probe"
    EVIDENCE = "evidence"
    FIGURES = "figures"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeFacts:
    """What one type is.

    Args:
        says: What it tells whom, in a sentence.
        payload_type: Of its envelope; empty for a file that is no envelope.
        most_bytes: What its payload may have.
        fields: All of them.
        free_text: Fields that hold what a person typed, with the most characters of each.
        require: Reads a payload and refuses what is not exactly of this type.
    """

    says: str
    payload_type: str
    most_bytes: int
    fields: tuple[str, ...]
    free_text: Mapping[str, int]
    require: Callable[[bytes], object]


def require_type(kind: ExportType, content: bytes) -> None:
    """Pass only for content that is exactly what the closed list says of its type.

    Raises:
        ExportRefusedError: It is not.
    """
    facts = TYPES.get(kind)
    if facts is None:
        raise ExportRefusedError(what="this may not leave", why="it is no type of the closed list", fix="report it")
    if len(content) > facts.most_bytes:
        raise ExportRefusedError(
            what="the export is too large",
            why=f"{len(content)} bytes, at most {facts.most_bytes} may leave",
            fix="report it; nothing was written",
        )
    try:
        facts.require(content)
    except MediaError as error:
        raise ExportRefusedError(
            what=f"this is no {kind} as the closed list has it", why=f"{error.what}: {error.why}", fix="report it"
        ) from error


def _receipt(content: bytes) -> None:
    what = "The receipt"
    value = canonical.exact_keys(canonical.loads_canonical(content), _RECEIPT_FIELDS, (), what)
    require_site_name(canonical.text(value["site"], what))
    canonical.moment(value["at"], what)
    for name in ("outcome", "release", "rehearsal_level"):
        _matching(value[name], _WORD, what)
    for name in ("code", "payload_digest", "targets_sha256"):
        canonical.sha256_hex(value[name], what)
    for name in ("format", "serial", "root_version", "timestamp_version", "files", "bytes"):
        canonical.integer(value[name], what)
    for signer in canonical.array(value["signers"], what, most=64):
        canonical.exact_keys(signer, ("fingerprint", "name", "person"), (), what)
        _matching(signer["fingerprint"], _FINGERPRINT, what)
        _matching(signer["person"], _WORD, what)
        canonical.text(signer["name"], what, most=_NAME_CHARS)
    for volume in canonical.array(value["volumes"], what, most=limits.VOLUMES):
        canonical.exact_keys(volume, ("id", "number", "tagmanifest_sha256"), (), what)
        canonical.sha256_hex(volume["tagmanifest_sha256"], what)
        _matching(volume["id"], _WORD, what)
        canonical.integer(volume["number"], what, minimum=1)
    custody = canonical.exact_keys(value["custody"], ("complete", "entries", "findings"), (), what)
    canonical.boolean(custody["complete"], what)
    canonical.integer(custody["findings"], what)
    for entry in canonical.array(custody["entries"], what):
        canonical.exact_keys(entry, ("entry", "sha256", "volume"), (), what)
        canonical.sha256_hex(entry["sha256"], what)
        canonical.integer(entry["entry"], what)
        canonical.integer(entry["volume"], what)


def _probe(content: bytes) -> None:
    what = "The probe"
    value = canonical.exact_keys(
        canonical.loads_canonical(content.removesuffix(b"\n"), max_bytes=_PROBE_BYTES), _PROBE_FIELDS, (), what
    )
    if (value["format"], value["product"]) != (1, "sealift-probe"):
        raise _refused(what)
    for name in ("cores", "memory_mib"):
        canonical.integer(value[name], what, minimum=1, maximum=2**28)
    for name in ("architecture", "distribution", "release", "codename"):
        _matching(value[name], _LOW, what)
    for name in ("glibc", "musl", "kernel", "python", "cuda", "driver"):
        _matching(value[name], _VERSION, what)
    for flag in canonical.array(value["cpu_flags"], what, most=512):
        _matching(flag, _LOW, what)
    for gpu in canonical.array(value["gpus"], what, most=16):
        canonical.exact_keys(gpu, ("count", "memory_mib", "name", "pci"), (), what)
        _matching(gpu["name"], _GPU, what)
        _matching(gpu["pci"], _PCI, what)
        canonical.integer(gpu["count"], what)
        canonical.integer(gpu["memory_mib"], what)
    for package in canonical.array(value["packages"] or [], what, most=6000):
        _matching(package, _PACKAGE, what)


def _matching(untrusted: Any, pattern: re.Pattern[str], what: str) -> None:
    value = canonical.text(untrusted, what, most=256, may_be_empty=True)
    if value and not pattern.fullmatch(value):
        raise _refused(what)


def _refused(what: str) -> MediaError:
    return MalformedError(what=f"{what} is malformed", why="a field is not of its form", fix="report it")


_NAME_CHARS: Final = 200
_PROBE_BYTES: Final = 512 * 2**10
TYPES: Final[Mapping[ExportType, TypeFacts]] = MappingProxyType(
    {
        ExportType.RECEIPT: TypeFacts(
            says="a release arrived; the sender's register takes it",
            payload_type=RECEIPT,
            most_bytes=2**20,
            fields=_RECEIPT_FIELDS,
            free_text={"signers.name": _NAME_CHARS},
            require=_receipt,
        ),
        ExportType.INVENTORY: TypeFacts(
            says="what the store holds, so that the sender carries only the rest",
            payload_type=inventory.PAYLOAD_TYPE,
            most_bytes=limits.INVENTORY_BYTES,
            fields=("format", "type", "site", "at", "serial", "hashed", "releases", "files", "ledger"),
            free_text={},
            require=Inventory.from_payload,
        ),
        ExportType.PROBE: TypeFacts(
            says="what kind of machine this is, so that the sender builds for it",
            payload_type="",
            most_bytes=_PROBE_BYTES,
            fields=_PROBE_FIELDS,
            free_text={},
            require=_probe,
        ),
        ExportType.EVIDENCE: TypeFacts(
            says="each check of a receive, or why a medium was refused, without names of this site's people",
            payload_type=siteevidence.PAYLOAD_TYPE,
            most_bytes=limits.EVIDENCE_BYTES,
            fields=siteevidence.FIELDS,
            free_text={},
            require=SiteEvidence.from_payload,
        ),
        ExportType.FIGURES: TypeFacts(
            says="what was counted in a time and how the box stands, for whoever looks after it from outside",
            payload_type=sitefigures.PAYLOAD_TYPE,
            most_bytes=limits.FIGURES_BYTES,
            fields=sitefigures.FIELDS,
            free_text={},
            require=SiteFigures.from_payload,
        ),
    }
)
