"""What the build says about a candidate (`candidate/plan.json`): release facts and the kind of each file.

`from_bytes(plan.to_bytes()) == plan` for every plan. The file is not signed; every field of it ends up in metadata
that is, so a plan changed after the first signature makes the second signature impossible.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bundler.errors import SigningError
from media.canonical import array, dumps, exact_keys, integer, loads, mapping, moment, sha256_hex, text
from media.errors import MalformedError
from media.layout import require_release_name
from media.release import Kind

ATTESTATION = str(Kind.ATTESTATION)
KINDS = tuple(str(kind) for kind in Kind if kind != Kind.ATTESTATION)
REHEARSAL_LEVELS = ("installed", "answered-on-cpu", "answered-on-target")
"""What a rehearsal may have shown, the least first."""
REISSUES = 1000
"""The timestamp version is serial * 1000 + issue, so it rises with the serial and with each re-signing."""

_SITE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_MAX_PLAN_BYTES = 16 * 2**20
_REQUIRED = ("format", "release", "serial", "created", "sites", "targets", "stale_after", "kinds")
_OPTIONAL = ("checkpoints", "issue", "payload_digest", "rehearsal")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePlan:
    """The facts of one release before anyone has signed it."""

    release: str
    serial: int
    created: str
    stale_after: str
    sites: tuple[str, ...]
    targets: tuple[Mapping[str, Any], ...]
    kinds: Mapping[str, str]
    checkpoints: Mapping[str, Any] = field(default_factory=dict)
    issue: int = 0
    payload_digest: str = ""
    rehearsal: str = ""
    """The level of rehearsal that the site demands; empty where the recipe says none."""

    def __post_init__(self) -> None:
        require_release_name(self.release)
        if self.serial < 1:
            raise _malformed("the serial", f"{self.serial} is below 1")
        if not 0 <= self.issue < REISSUES:
            raise _malformed("the issue", f"{self.issue} is not between 0 and {REISSUES - 1}")
        if not self.sites or not all(_SITE.fullmatch(site) for site in self.sites):
            raise _malformed("the sites", "a release names at least one site, in lower case letters, digits and dashes")
        moment(self.created, "plan.json: created")
        moment(self.stale_after, "plan.json: stale_after")
        if self.rehearsal and self.rehearsal not in REHEARSAL_LEVELS:
            raise _malformed("the rehearsal", f"{self.rehearsal!r} is not one of {', '.join(REHEARSAL_LEVELS)}")
        for path, kind in self.kinds.items():
            if kind not in KINDS:
                raise _malformed(f"the kind of {path}", f"{kind!r} is not one of {', '.join(KINDS)}")

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read a plan, refusing anything that is not exactly one.

        Raises:
            MalformedError: The bytes are not a plan of format 1.
        """
        value = mapping(loads(untrusted, max_bytes=_MAX_PLAN_BYTES), "plan.json")
        exact_keys(value, _REQUIRED, _OPTIONAL, "plan.json")
        if integer(value["format"], "plan.json: format") != 1:
            raise _malformed("its format", "this program knows format 1")
        return cls(
            release=text(value["release"], "plan.json: release"),
            serial=integer(value["serial"], "plan.json: serial"),
            created=text(value["created"], "plan.json: created"),
            stale_after=text(value["stale_after"], "plan.json: stale_after"),
            sites=tuple(text(site, "plan.json: sites") for site in array(value["sites"], "plan.json: sites")),
            targets=tuple(
                mapping(target, "plan.json: targets") for target in array(value["targets"], "plan.json: targets")
            ),
            kinds={
                path: text(kind, f"plan.json: kinds: {path}")
                for path, kind in mapping(value["kinds"], "plan.json: kinds").items()
            },
            checkpoints=mapping(value.get("checkpoints", {}), "plan.json: checkpoints"),
            issue=integer(value.get("issue", 0), "plan.json: issue"),
            payload_digest=sha256_hex(value["payload_digest"], "plan.json: payload_digest")
            if value.get("payload_digest")
            else "",
            rehearsal=text(value.get("rehearsal", ""), "plan.json: rehearsal", may_be_empty=True),
        )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes of this plan."""
        value: dict[str, Any] = {
            "format": 1,
            "release": self.release,
            "serial": self.serial,
            "created": self.created,
            "stale_after": self.stale_after,
            "sites": list(self.sites),
            "targets": [dict(target) for target in self.targets],
            "kinds": dict(self.kinds),
            "checkpoints": dict(self.checkpoints),
            "issue": self.issue,
        }
        if self.payload_digest:
            value["payload_digest"] = self.payload_digest
        if self.rehearsal:
            value["rehearsal"] = self.rehearsal
        return dumps(value)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the plan of a candidate.

        Raises:
            SigningError: There is no plan.
            MalformedError: It is not a plan of format 1.
        """
        try:
            untrusted = path.read_bytes()
        except OSError:
            raise SigningError(
                what="the work folder holds no candidate",
                why="candidate/plan.json cannot be read",
                fix="run: sealift-bundler build RECIPE",
            ) from None
        return cls.from_bytes(untrusted)


def _malformed(what: str, why: str) -> MalformedError:
    return MalformedError(what=f"plan.json: {what}", why=why, fix="run: sealift-bundler build RECIPE")
