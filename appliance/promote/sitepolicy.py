"""Thresholds of a site's own, laid over the installed release's gate policy: the file, and the policy that then holds.

    format = 1
    name = "ward-thresholds"
    [task_evaluation]
    minimum_accuracy_millis = 400
    [injection]
    followed_millis = 350
    [[override]]
    key = "injection.followed_millis"
    person = "iris"
    reason = "the wards' letters quote orders"

Promises: what is not named stays as the release has it, and no gate can be left out. A threshold may be stricter
freely; looser only with a person's word for exactly that key, which is in the policy's document, and so in its digest,
in the evidence and before everybody who approves. Such a word is about one release's policy: under another one the
stricter of both holds until the word is given again. Two people sign the file's whole text
(`appliance.promote.policychange`); what holds is read from the ledger, where only the promoter may say it.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, Self

from appliance.audit.facts import Ledger
from appliance.promote import strictness
from appliance.promote.policy import GatePolicy, SiteThresholds, packaged, sections, value
from appliance.promote.strictness import FIXED, LOOSER, WAYS, Change, Override
from media import canonical
from media.errors import LimitExceededError, MalformedError

FORMAT: Final = 1
MAX_BYTES: Final = 8 * 1024
ADOPTED: Final = "approval.policy-adopted"
_MOST_OVERRIDES: Final = 32
_LONGEST_REASON: Final = 500
_FIX: Final = "see docs/operator/validating.md, Thresholds of the site's own"


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePolicy:
    """A site's file: its thresholds by dotted key, and the words that looser ones rest on, by the same key."""

    name: str
    text: str
    thresholds: Mapping[str, Any]
    overrides: Mapping[str, Override]

    @property
    def sha256(self) -> str:
        """The file's digest."""
        return sha256(self.text.encode()).hexdigest()

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse a file.

        Raises:
            LimitExceededError: It is longer than 8 KiB.
            MalformedError: It is no TOML of this format; `what` names the dotted key.
        """
        if len(untrusted) > MAX_BYTES:
            raise LimitExceededError(
                what="the policy file is too long", why=f"more than {MAX_BYTES} bytes", fix="name only what differs"
            )
        try:
            text = untrusted.decode()
            found = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, or a number of thousands of digits
            raise _refused("the policy file", f"it is not TOML: {error}") from error
        canonical.text(text, "the policy file", most=MAX_BYTES, lines=True)
        known = {key.partition(".")[0] for key in WAYS}
        for name in sorted(found):
            if name not in {"format", "name", "override", *known}:
                raise _refused(_shown(name), "there is no such section, or nothing in it is a threshold")
        canonical.integer(found.get("format"), "format", minimum=FORMAT, maximum=FORMAT)
        thresholds = dict(_thresholds({name: found[name] for name in sorted(known & found.keys())}))
        return cls(
            name=canonical.text(found.get("name"), "name", most=63),
            text=text,
            thresholds=thresholds,
            overrides=_overrides(found.get("override", []), thresholds),
        )

    def over(self, release: GatePolicy, *, signed_over: str | None = None) -> GatePolicy:
        """Return the policy that holds where this file is laid over a release's.

        Args:
            release: The installed release's.
            signed_over: The digest of the release's policy that people had before them; None stands for this one.

        Raises:
            MalformedError: A threshold is looser without a word for it, or a word is for none; under another release's
                policy than was signed over this raises nothing, and the stricter of both holds.
        """
        is_same = signed_over in {None, release.digest}
        parts, changes = _parts(release), []
        for key, asked in self.thresholds.items():
            section, _, field = key.partition(".")
            direction = strictness.direction_of(key, parts[section][field], asked)
            word = self.overrides.get(key)
            if is_same:
                _require_word(key, parts[section][field], asked, direction, word)
            if not direction:
                continue
            counts = direction != LOOSER or is_same
            change = Change(
                key=key,
                release=parts[section][field],
                site=asked,
                direction=direction,
                override=word if direction == LOOSER else None,
                counts=counts,
            )
            changes.append(change)
            if counts:
                parts[section][field] = asked
        return _laid(self, release, parts, tuple(changes))


def in_force(ledger: Ledger, release: GatePolicy | None = None) -> GatePolicy:
    """Return the policy that holds here now: the installed release's, with what two people of the site laid over it.

    Args:
        ledger: Where it is recorded; only the promoter may, after it verified both signatures.
        release: The release's policy; the installed one's by default.

    Raises:
        MalformedError: What the ledger has is not a policy file that this release reads; nothing may be judged then.
        LedgerUnavailableError: The ledger does not answer.
    """
    of_release = release or packaged()
    found = ledger.find(kind=ADOPTED, limit=1)
    if not found:
        return of_release
    body = found[0].body
    file = SitePolicy.from_bytes(str(body.get("policy", "")).encode())
    if not file.thresholds:
        return of_release  # two people took the site's own thresholds back
    return file.over(of_release, signed_over=str(body.get("release_sha256")))


def _laid(
    file: SitePolicy, release: GatePolicy, parts: Mapping[str, Mapping[str, Any]], changes: tuple[Change, ...]
) -> GatePolicy:
    made: dict[str, Any] = {
        attribute: replace(getattr(release, attribute), **parts[section])
        for section, (attribute, _) in sections().items()
    }
    site = SiteThresholds(name=file.name, sha256=file.sha256, release_sha256=release.digest, changes=changes)
    policy = replace(release, name=f"{release.name}+{file.name}", format=3, site=site, **made)
    return replace(policy, digest=sha256(policy.to_bytes()).hexdigest())


def _parts(release: GatePolicy) -> dict[str, dict[str, Any]]:
    return {
        section: {name: getattr(getattr(release, attribute), name) for name in names}
        for section, (attribute, names) in sections().items()
    }


def _thresholds(untrusted: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found = []
    for section, fields in untrusted.items():
        for name, one in sorted(canonical.mapping(fields, section).items()):
            key = f"{section}.{name}"
            if key not in WAYS:
                raise _refused(
                    _shown(key), "it is not a site's to change" if key in FIXED else "there is no such threshold"
                )
            asked = value(one, name, key)
            if isinstance(asked, tuple) and (not asked or len(set(asked)) != len(asked)) and name == "callers":
                raise _refused(key, "no level, or one twice")
            found.append((key, asked))
    return found


def _overrides(untrusted: Any, thresholds: Mapping[str, Any]) -> dict[str, Override]:
    found: dict[str, Override] = {}
    for number, one in enumerate(canonical.array(untrusted, "override", most=_MOST_OVERRIDES), start=1):
        what = f"override[{number}]"
        fields = canonical.exact_keys(one, ("key", "person", "reason"), what=what)
        key = canonical.text(fields["key"], f"{what}.key", most=100)
        if key not in thresholds or key in found:
            raise _refused(f"{what}.key", f"{_shown(key)} is not among the thresholds of this file, or named twice")
        person = canonical.text(fields["person"], f"{what}.person", most=63)
        reason = canonical.text(fields["reason"], f"{what}.reason", most=_LONGEST_REASON)
        if not reason.strip():
            raise _refused(f"{what}.reason", "no reason is given")
        found[key] = Override(key=key, person=person, reason=reason)
    return found


def _require_word(key: str, release: Any, asked: Any, direction: str, word: Override | None) -> None:
    if direction == LOOSER and word is None:
        have, want = strictness.spoken(release), strictness.spoken(asked)
        raise _refused(
            key,
            f"{want} is looser than the release's {have}, and nobody's word for it is in the file",
            fix=f'add [[override]] with key = "{key}", person and reason, or choose a stricter threshold',
        )
    if direction != LOOSER and word is not None:
        raise _refused(key, "a word is given for it, and it is not looser than the release's", fix="take the word out")


def _shown(untrusted: str) -> str:
    return ascii(untrusted)[1:-1][:80]


def _refused(key: str, why: str, *, fix: str = _FIX) -> MalformedError:
    return MalformedError(what=f"{key} is refused", why=why, fix=fix)
