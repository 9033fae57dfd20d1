"""Thresholds of a site's own, laid over the installed release's gate policy: the file, and the policy that results.

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
(`appliance.promote.policychange`); what holds is read from the ledger (`appliance.promote.policybook`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final, Self

from appliance.promote import strictness
from appliance.promote.policy import GatePolicy, SiteThresholds, sections, value
from appliance.promote.strictness import FIXED, INSTALLED, LOOSER, Change, Override, Table
from media import canonical, toml
from media.errors import LimitExceededError, MalformedError

FORMAT: Final = 1
MAX_BYTES: Final = 8 * 1024
_MOST_OVERRIDES: Final = 32
_LONGEST_REASON: Final = 500
_FIX: Final = "see docs/operator/validating.md, Thresholds of the site's own"


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePolicy:
    """A site's file: its thresholds by dotted key, and the words that looser ones rest on, by the same key.

    `dropped` are the thresholds in it that this release has no more, with what became of each; see `of_earlier`.
    """

    name: str
    text: str
    thresholds: Mapping[str, Any]
    overrides: Mapping[str, Override]
    dropped: Mapping[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """The file's digest."""
        return sha256(self.text.encode()).hexdigest()

    @classmethod
    def from_bytes(cls, untrusted: bytes, *, table: Table = INSTALLED) -> Self:
        """Parse a file that is to hold.

        Args:
            untrusted: Its bytes.
            table: The release's thresholds.

        Raises:
            LimitExceededError: It is longer than 8 KiB.
            MalformedError: It is no TOML of this format; `what` names the dotted key.
        """
        found = cls.of_earlier(untrusted, table=table)
        for key, became in found.dropped.items():
            raise _refused(key, f"this release has no such threshold any more: {became}", fix="take it out of the file")
        return found

    @classmethod
    def of_earlier(cls, untrusted: bytes, *, table: Table = INSTALLED) -> Self:
        """Parse a file that people signed under this release or an earlier one: what was dropped since is read.

        Raises:
            LimitExceededError, MalformedError: As `from_bytes`, but for thresholds that `table` knows as dropped.
        """
        if len(untrusted) > MAX_BYTES:
            raise LimitExceededError(
                what="the policy file is too long", why=f"more than {MAX_BYTES} bytes", fix="name only what differs"
            )
        try:
            found, text = toml.read(untrusted), untrusted.decode()
        except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, or a number of thousands of digits
            raise _refused("the policy file", f"it is not TOML: {error}") from error
        canonical.text(text, "the policy file", most=MAX_BYTES, lines=True)
        known = {key.partition(".")[0] for key in (*table.ways, *table.dropped)}
        for name in sorted(found):
            if name not in {"format", "name", "override", *known}:
                raise _refused(_shown(name), "there is no such section, or nothing in it is a threshold")
        canonical.integer(found.get("format"), "format", minimum=FORMAT, maximum=FORMAT)
        named = dict(_thresholds({name: found[name] for name in sorted(known & found.keys())}, table))
        dropped = {key: table.dropped[key] for key in named if key not in table.ways}
        words = _overrides(found.get("override", []), named)
        return cls(
            name=canonical.text(found.get("name"), "name", most=63),
            text=text,
            thresholds={key: asked for key, asked in named.items() if key not in dropped},
            overrides={key: word for key, word in words.items() if key not in dropped},
            dropped=dropped,
        )

    def over(self, release: GatePolicy, *, signed_over: str | None = None) -> GatePolicy:
        """Return the policy that holds where this file is laid over a release's.

        Args:
            release: The installed release's.
            signed_over: The digest of the release's policy that people had before them; None stands for this one.

        Raises:
            MalformedError: A threshold is looser without a word for it, or a word is for none; under another release's
                policy than was signed over this raises nothing, and the stricter of both holds. Or the release has a
                threshold of the file no more: what the site demanded by it cannot be judged.
        """
        for key, became in self.dropped.items():
            raise MalformedError(
                what=f"the site's own {key} cannot be judged",
                why=f"this release has no such threshold any more: {became}",
                fix="two people bring in a file without it: `sealift policy import`",
            )
        is_same = signed_over in {None, release.digest}
        parts, changes = parts_of(release), []
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
        return laid(release, parts, tuple(changes), name=self.name, digest=self.sha256)


def laid(
    release: GatePolicy,
    parts: Mapping[str, Mapping[str, Any]],
    changes: tuple[Change, ...],
    *,
    name: str,
    digest: str,
) -> GatePolicy:
    """Return a release's policy with what a site changed.

    Args:
        release: The release's.
        parts: Every field of every section, as it is to hold.
        changes: What differs, and why.
        name: What the site calls its thresholds.
        digest: Of the text that people signed.
    """
    made: dict[str, Any] = {
        attribute: replace(getattr(release, attribute), **parts[section])
        for section, (attribute, _) in sections().items()
    }
    site = SiteThresholds(name=name, sha256=digest, release_sha256=release.digest, changes=changes)
    policy = replace(release, name=f"{release.name}+{name}", format=3, site=site, **made)
    return replace(policy, digest=sha256(policy.to_bytes()).hexdigest())


def parts_of(release: GatePolicy) -> dict[str, dict[str, Any]]:
    """Return every field of every section of a policy's document."""
    return {
        section: {name: getattr(getattr(release, attribute), name) for name in names}
        for section, (attribute, names) in sections().items()
    }


def _thresholds(untrusted: Mapping[str, Any], table: Table) -> list[tuple[str, Any]]:
    found = []
    for section, fields in untrusted.items():
        for name, one in sorted(canonical.mapping(fields, section).items()):
            key = f"{section}.{name}"
            if key in table.dropped:
                found.append((key, one))
                continue
            if key not in table.ways:
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
