"""What an automation key is: its text, its scopes, and everything that one can do at all.

Its text is ``sl-auto-KEYID-SECRET``, so that each other door can tell what it is; the secret is 256 bits of chance in
base64url. Gateways know it by its form as none of theirs.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from appliance.promote import actors
from media import canonical
from media.errors import UsageError

_LONGEST: Final = 80
_MARK: Final = "sl-auto-"
_FORM: Final = re.compile(r"sl-auto-([a-z2-7]{10})-[A-Za-z0-9_-]{43}", re.ASCII)
_SECRET_BYTES: Final = 32


class Scope(StrEnum):
    """What a key may be for; each is named when it is made, and none contains another."""

    READ = "read"
    EXPORT = "export"
    VALIDATE = "validate"
    REQUEST = "request"
    LINE = "line"
    HOLD = "hold"


DEEDS: Final[Mapping[str, Scope]] = {
    "status": Scope.READ,
    "versions": Scope.READ,
    "version": Scope.READ,
    "job": Scope.READ,
    "requests": Scope.READ,
    "rollout": Scope.READ,
    "history": Scope.READ,
    "openapi": Scope.READ,
    "affected": Scope.EXPORT,
    "validate": Scope.VALIDATE,
    "request": Scope.REQUEST,
    "hold": Scope.HOLD,
}
"""Everything that a key can do at all, and the scope that each takes; saying a line takes `Scope.LINE` besides."""
CHANGES: Final = frozenset({Scope.VALIDATE, Scope.REQUEST, Scope.HOLD})


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationKey:
    """What is known of a key; never the key.

    Attributes:
        person: Who made it and answers for it.
        made: Sequence of its record.
        ended: Why it works no more, empty while it works.
    """

    key_id: str
    name: str
    person: str
    scopes: tuple[Scope, ...]
    purpose: str
    made: int
    made_at: str
    expires_at: str
    ended: str = ""

    @property
    def actor(self) -> str:
        """How records and pages name it."""
        return actors.of_key(self.name, self.person)

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        names = ("key_id", "name", "person", "actor", "purpose", "made", "made_at", "expires_at", "ended")
        return {**{name: getattr(self, name) for name in names}, "scopes": [str(one) for one in self.scopes]}

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Parse what `to_json` gave.

        Raises:
            MalformedError: A field is missing or of another shape.
        """
        texts = ("key_id", "name", "person", "purpose", "made_at", "expires_at", "ended")
        fields = canonical.exact_keys(untrusted, (*texts, "actor", "made", "scopes"), what="key")
        return cls(
            **{name: canonical.text(fields[name], f"key.{name}", may_be_empty=True) for name in texts},
            made=canonical.integer(fields["made"], "key.made"),
            scopes=tuple(canonical.one_of(one, Scope, "key.scopes") for one in fields["scopes"]),
        )


def key_of(body: Mapping[str, Any], *, sequence: int, at: str, ended: str = "") -> AutomationKey:
    """Return the key that a record of `MADE` is about; `ended` says why it works no more."""
    return AutomationKey(
        key_id=str(body.get("key_id")),
        name=str(body.get("name")),
        person=str(body.get("person")),
        scopes=tuple(one for one in Scope if one in body.get("scopes", ())),
        purpose=str(body.get("purpose", "")),
        made=sequence,
        made_at=at,
        expires_at=str(body.get("expires_at")),
        ended=ended,
    )


def require_scopes(untrusted: Sequence[str]) -> tuple[Scope, ...]:
    """Return the scopes of a new key in their order; reading alone where none is named.

    Raises:
        UsageError: One is unknown.
    """
    unknown = [one for one in untrusted if one not in set(Scope)]
    if unknown:
        raise UsageError(
            what="a scope is unknown", why=unknown[0][:40], fix=f"choose of {', '.join(Scope)}; none approves"
        )
    return tuple(one for one in Scope if one in untrusted) or (Scope.READ,)


def new_text(key_id: str) -> str:
    """Return the text of a new key."""
    return f"{_MARK}{key_id}-{secrets.token_urlsafe(_SECRET_BYTES)}"


def key_id_of(untrusted: str) -> str:
    """Return the id in a key's text; nothing where it is not in that form."""
    found = _FORM.fullmatch(untrusted[: _LONGEST + 1])
    return "" if found is None else found[1]


def looks_like_one(untrusted: str) -> bool:
    """Tell whether a text is meant as an automation key, well formed or not."""
    return untrusted[: len(_MARK)].lower() == _MARK
