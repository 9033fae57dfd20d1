"""Evidence of one receive, or of one that was refused, as it may leave a site (EXP-7 to EXP-9).

An EXPORT type: fixed fields, no free text, no name of a person of the site: what they decided is counted. The paper
form that people sign names them and stays. Both sides read and write it here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from media import canonical, limits
from media.errors import MalformedError, UnsupportedFormatError
from media.release import require_site_name

FORMAT: Final = 1
TYPE: Final = "sealift/evidence"
PAYLOAD_TYPE: Final = "application/vnd.sealift.evidence+json"
FIELDS: Final = (
    *("at", "checks", "code", "custody", "decisions", "error", "exit_code", "format", "ledger", "outcome"),
    *("payload_digest", "record", "release", "serial", "signers", "site", "type", "verifier", "volumes"),
)
OUTCOMES: Final = ("received", "partly-received", "reverified", "refused", "rejected")
SEALS: Final = ("same", "other", "not-looked-at")
_RESULTS: Final = ("held", "refused", "not-made", "not-reached")
_WORD: Final = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_VERSION: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){1,3}([a-z.+-][a-z0-9.+-]{0,19})?", re.ASCII)
_KIND: Final = re.compile(r"[a-z-]{1,32}\.[a-z-]{1,32}", re.ASCII)
_HEX16: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_FINGERPRINT: Final = re.compile(r"[0-9A-F]{40}", re.ASCII)
_WHAT: Final = "The evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteEvidence:
    """What became of one medium at a site.

    Args:
        fields: All fields but `ledger`, checked.
    """

    fields: Mapping[str, Any]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Return the evidence with these fields beside `format` and `type`.

        Raises:
            MalformedError: A field is one that `from_payload` would refuse.
        """
        made = cls(fields={**fields, "format": FORMAT, "type": TYPE})
        return cls.from_payload(made.to_payload(ledger=None))[0]

    @classmethod
    def from_payload(cls, untrusted: bytes) -> tuple[Self, dict[str, Any]]:
        """Return the evidence and all its fields; `ledger` is for the caller to judge.

        Raises:
            LimitExceededError: More bytes than evidence may have.
            MalformedError: A field is wrong.
            UnsupportedFormatError: A later version of the format.
        """
        value = canonical.mapping(canonical.loads_canonical(untrusted, max_bytes=limits.EVIDENCE_BYTES), _WHAT)
        if canonical.integer(value.get("format"), _WHAT, minimum=1) > FORMAT:
            raise UnsupportedFormatError(
                what="the evidence has a later format", why=f"this program reads format {FORMAT}", fix="use a newer one"
            )
        canonical.exact_keys(value, FIELDS, (), _WHAT)
        if value["type"] != TYPE:
            raise _malformed("it says that it is something else")
        require_site_name(canonical.text(value["site"], _WHAT))
        canonical.moment(value["at"], _WHAT)
        _one(value["outcome"], OUTCOMES)
        _matching(value["error"], _WORD, may_be_empty=True)
        canonical.integer(value["exit_code"], _WHAT, maximum=255)
        _matching(value["release"], _NAME, may_be_empty=True)
        canonical.integer(value["serial"], _WHAT, maximum=limits.SERIAL_MAX)
        for name in ("code", "payload_digest"):
            _digest(value[name], may_be_empty=True)
        _each(value["signers"], lambda each: _matching(each, _FINGERPRINT), most=64)
        _each(value["volumes"], _volume, most=limits.VOLUMES)
        _each(value["checks"], _check, most=64)
        _custody(value["custody"])
        decisions = canonical.exact_keys(value["decisions"], ("custody", "stale"), (), _WHAT)
        for name in decisions:
            canonical.integer(decisions[name], _WHAT, maximum=64)
        record = canonical.exact_keys(value["record"], ("kind", "sequence"), (), _WHAT)
        _matching(record["kind"], _KIND)
        canonical.integer(record["sequence"], _WHAT, minimum=-1)
        if value["verifier"] is not None:
            verifier = canonical.exact_keys(value["verifier"], ("sha256", "version"), (), _WHAT)
            _digest(verifier["sha256"])
            _matching(verifier["version"], _VERSION)
        return cls(fields={name: each for name, each in value.items() if name != "ledger"}), value

    def to_payload(self, *, ledger: Mapping[str, Any] | None) -> bytes:
        """Return the canonical bytes, with the site's proof, or with None: the bytes whose digest the record names."""
        return canonical.dumps({**self.fields, "ledger": None if ledger is None else dict(ledger)})


def _volume(untrusted: Any) -> None:
    value = canonical.exact_keys(untrusted, ("id", "number", "tagmanifest_sha256"), (), _WHAT)
    _matching(value["id"], _HEX16)
    canonical.integer(value["number"], _WHAT, maximum=limits.VOLUMES)
    _digest(value["tagmanifest_sha256"], may_be_empty=True)


def _check(untrusted: Any) -> None:
    value = canonical.exact_keys(untrusted, ("at", "check", "end", "result"), (), _WHAT)
    _matching(value["check"], _WORD)
    _one(value["result"], _RESULTS)
    for name in ("at", "end"):
        if value[name]:
            canonical.moment(value[name], _WHAT)


def _custody(untrusted: Any) -> None:
    if untrusted is None:
        return
    value = canonical.exact_keys(untrusted, ("complete", "entries", "findings", "looked_at", "paper"), (), _WHAT)
    canonical.boolean(value["complete"], _WHAT)
    canonical.integer(value["findings"], _WHAT)
    canonical.integer(value["paper"], _WHAT)
    _each(value["entries"], _entry, most=limits.VOLUMES * limits.CUSTODY_ENTRIES)
    _each(value["looked_at"], _looked_at, most=limits.VOLUMES)


def _entry(untrusted: Any) -> None:
    value = canonical.exact_keys(untrusted, ("entry", "sha256", "volume"), (), _WHAT)
    canonical.integer(value["volume"], _WHAT, minimum=1, maximum=limits.VOLUMES)
    canonical.integer(value["entry"], _WHAT, maximum=limits.CUSTODY_ENTRIES)
    _digest(value["sha256"])


def _looked_at(untrusted: Any) -> None:
    value = canonical.exact_keys(untrusted, ("head", "head_told", "seals", "volume"), (), _WHAT)
    canonical.integer(value["volume"], _WHAT, minimum=1, maximum=limits.VOLUMES)
    _matching(value["head"], _HEX16)
    canonical.boolean(value["head_told"], _WHAT)
    _one(value["seals"], SEALS)


def _each(untrusted: Any, require: Callable[[Any], None], *, most: int) -> None:
    for each in canonical.array(untrusted, _WHAT, most=most):
        require(each)


def _one(untrusted: Any, choices: tuple[str, ...]) -> None:
    if untrusted not in choices:
        raise _malformed("a field is none of its words")


def _matching(untrusted: Any, pattern: re.Pattern[str], *, may_be_empty: bool = False) -> None:
    value = canonical.text(untrusted, _WHAT, most=128, may_be_empty=may_be_empty)
    if value and not pattern.fullmatch(value):
        raise _malformed("a field is not of its form")


def _digest(untrusted: Any, *, may_be_empty: bool = False) -> None:
    if not (may_be_empty and untrusted == ""):
        canonical.sha256_hex(untrusted, _WHAT)


def _malformed(why: str) -> MalformedError:
    return MalformedError(what="The evidence is malformed", why=why, fix="ask the site to export it again")
