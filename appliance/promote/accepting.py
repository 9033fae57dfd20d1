"""Whether what was handed in is an approval that counts here and now: the one way in for every kind of statement.

Promises: only classes that the site file counts; only an approver, and where the site separates roles nobody who is an
admin too; nobody whose keys were reset within the last day; a security key whose counter did not rise was copied and is
refused, and its counter is kept before the approval is recorded.
"""

from collections.abc import Sequence
from typing import Final

from appliance.config import Config
from appliance.errors import ApprovalRefusedError
from appliance.promote import classes
from appliance.promote.approvals import Approval, require_different, still_counting, verify_signature
from appliance.promote.assertion import Assertion
from appliance.promote.classes import PASSWORD_TOTP, WEBAUTHN
from appliance.promote.folder import PromoterFolder
from appliance.promote.people import ADMIN, SitePeople
from appliance.promote.presented import Presented
from appliance.promote.secondfactor import SecondFactors
from media import canonical
from media.clock import Clock, to_text

FORMAT: Final = 1
COUNTERS: Final = "counters.json"


class Acceptance:
    """Judges what people hand in; shared by promotions, changes of the host and corrections of the clock."""

    def __init__(self, folder: PromoterFolder, *, config: Config, clock: Clock, factors: SecondFactors) -> None:
        self._folder = folder
        self._counting = tuple(config.policy.classes)
        self._separates = config.separates_roles
        self._clock = clock
        self._factors = factors

    def take(
        self, statement: bytes, presented: Presented, people: SitePeople, before: Sequence[Approval] = ()
    ) -> tuple[Approval, tuple[Approval, ...]]:
        """Return the new approval, and all that count now with it as the last.

        Args:
            statement: The exact bytes.
            presented: What came in.
            people: Everyone ever enrolled.
            before: The approvals that the statement has.

        Raises:
            ApprovalRefusedError: It is refused, or the person, key or fingerprint counts already.
            UnknownPersonError: The password or the one-time code is wrong.
        """
        if presented.approves_by not in self._counting:
            raise _refused(
                f"approvals by {classes.NAMES[presented.approves_by]} do not count at this site",
                "approve in a way that policy.classes of the site file names",
            )
        signature = presented.signature
        if presented.approves_by == PASSWORD_TOTP:
            person = people.require_active(presented.person)
            signature = self._factors.sign(person.id, presented.password, presented.totp, statement)
        now = self._clock.now().replace(microsecond=0)
        approval = verify_signature(statement, signature, people.active, approves_by=presented.approves_by, at=now)
        self._require_may(approval, people)
        kept = still_counting(before, people, counting=self._counting)
        require_different((*kept, approval), people)
        if approval.approves_by == WEBAUTHN:
            self._require_risen(approval.fingerprint, Assertion.from_bytes(signature).counter)
        return approval, (*kept, approval)

    def keep_counter(self, fingerprint: str, counter: int) -> None:
        """Remember how often a security key had signed when it was registered."""
        self._save({**self._counters(), fingerprint: counter})

    def _require_may(self, approval: Approval, people: SitePeople) -> None:
        person = people.require_active(approval.person)
        if person.counts_from is not None and self._clock.now() < person.counts_from:
            raise _refused(
                f"the keys of {person.name} were reset",
                f"approvals of {person.name} count again from {to_text(person.counts_from)}",
            )
        if self._separates and ADMIN in person.roles:
            raise _refused(
                f"{person.name} is an admin, and admins do not approve at this site",
                "let an approver approve, or two others change the person's roles",
            )

    def _require_risen(self, fingerprint: str, counter: int) -> None:
        counters = self._counters()
        last = counters.get(fingerprint, 0)
        # Zero for ever: the authenticator does not count (WebAuthn Level 2, 6.1.1).
        if (counter or last) and counter <= last:
            raise _refused(
                f"the security key's counter did not rise: {counter} after {last}",
                "the key may have been copied: two others reset this person's keys",
            )
        self._save({**counters, fingerprint: counter})

    def _counters(self) -> dict[str, int]:
        content = self._folder.read_secret(COUNTERS)
        if content is None:
            return {}
        fields = canonical.exact_keys(canonical.loads_canonical(content), ("format", "counters"), what=COUNTERS)
        canonical.integer(fields["format"], f"{COUNTERS}.format", minimum=FORMAT, maximum=FORMAT)
        found = canonical.mapping(fields["counters"], COUNTERS)
        return {name: canonical.integer(value, COUNTERS) for name, value in found.items()}

    def _save(self, counters: dict[str, int]) -> None:
        self._folder.save_secret(COUNTERS, canonical.dumps({"format": FORMAT, "counters": counters}))


def _refused(why: str, fix: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(what="an approval is refused", why=why, fix=fix)
