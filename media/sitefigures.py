"""Figures of a box's work and health as they may leave a site (EXP-12, EXP-13): counts and numbers under closed names.

An EXPORT type: fixed fields, no free text, nobody's name, no department, no name of a model; every number is a whole
one. Both sides read and write it here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from media import canonical, limits
from media.errors import MalformedError, UnsupportedFormatError
from media.release import require_site_name

FORMAT: Final = 1
TYPE: Final = "sealift/figures"
PAYLOAD_TYPE: Final = "application/vnd.sealift.figures+json"
FIELDS: Final = ("at", "counts", "format", "ledger", "numbers", "since", "site", "type", "until")
GROUPS: Final = ("answers", "arms", "classes", "days", "outcomes", "phi", "refusals", "tokens")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", re.ASCII)
"""What stands before a count: a code, a class, a day; no word that a person or a caller chose."""
METRIC: Final = re.compile(r"sealift_[a-z_]{1,80}", re.ASCII)
LABEL: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}", re.ASCII)
MOST: Final = 2**53 - 1
_MOST_NAMES: Final = 512
_MOST_NUMBERS: Final = 1024
_WHAT: Final = "The figures"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFigures:
    """What a box counted in a time, and how it stands.

    Args:
        fields: All fields but `ledger`, checked.
    """

    fields: Mapping[str, Any]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Return the figures with these fields beside `format` and `type`.

        Raises:
            MalformedError: A field is one that `from_payload` would refuse.
        """
        made = cls(fields={**fields, "format": FORMAT, "type": TYPE})
        return cls.from_payload(made.to_payload(ledger=None))[0]

    @classmethod
    def from_payload(cls, untrusted: bytes) -> tuple[Self, dict[str, Any]]:
        """Return the figures and all their fields; `ledger` is for the caller to judge.

        Raises:
            LimitExceededError: More bytes than figures may have.
            MalformedError: A field is wrong.
            UnsupportedFormatError: A later version of the format.
        """
        value = canonical.mapping(canonical.loads_canonical(untrusted, max_bytes=limits.FIGURES_BYTES), _WHAT)
        if canonical.integer(value.get("format"), _WHAT, minimum=1) > FORMAT:
            raise UnsupportedFormatError(
                what="the figures have a later format", why=f"this program reads format {FORMAT}", fix="use a newer one"
            )
        canonical.exact_keys(value, FIELDS, (), _WHAT)
        if value["type"] != TYPE:
            raise _malformed("it says that it is something else")
        require_site_name(canonical.text(value["site"], _WHAT))
        for name in ("at", "since", "until"):
            canonical.moment(value[name], _WHAT)
        groups = canonical.exact_keys(value["counts"], GROUPS, (), _WHAT)
        for group in groups.values():
            _counts(group)
        for number in canonical.array(value["numbers"], _WHAT, most=_MOST_NUMBERS):
            _number(number)
        return cls(fields={name: each for name, each in value.items() if name != "ledger"}), value

    def to_payload(self, *, ledger: Mapping[str, Any] | None) -> bytes:
        """Return the canonical bytes, with the site's proof, or with None: the bytes whose digest the record names."""
        return canonical.dumps({**self.fields, "ledger": None if ledger is None else dict(ledger)})


def _counts(untrusted: Any) -> None:
    group = canonical.mapping(untrusted, _WHAT)
    if len(group) > _MOST_NAMES:
        raise _malformed("a group has too many counts")
    for name, count in group.items():
        _matching(name, NAME)
        canonical.integer(count, _WHAT, maximum=MOST)


def _number(untrusted: Any) -> None:
    value = canonical.exact_keys(untrusted, ("labels", "name", "thousandths"), (), _WHAT)
    _matching(value["name"], METRIC)
    canonical.integer(value["thousandths"], _WHAT, minimum=-MOST, maximum=MOST)
    for name, label in canonical.mapping(value["labels"], _WHAT).items():
        _matching(name, LABEL)
        _matching(label, LABEL)


def _matching(untrusted: Any, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(canonical.text(untrusted, _WHAT)):
        raise _malformed("a name is not of its form")


def _malformed(why: str) -> MalformedError:
    return MalformedError(what="The figures are malformed", why=why, fix="have them exported again")
