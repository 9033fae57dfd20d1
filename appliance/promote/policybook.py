"""Which gate policy holds on this box now: what the ledger's records make of the release's and of the site's own.

    approval.policy-adopted   two people signed a file, here or on the other box of a pair: it holds from then on
    approval.policy-held      the other box has a file that this one could not take over yet (`policycarrying`)

Promises: only the promoter may write either, after it verified what it says. While another box's file is held back, the
stricter of both holds for every threshold, and no word for a looser one counts; that ends when the file or a later one
of that box is taken over, or two people sign a file here. A file that this release cannot read, or that names a
threshold which it dropped, closes the gates until two people bring in another; that is always possible, because
asking for one needs only `identity`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.promote import strictness
from appliance.promote.policy import GatePolicy, packaged
from appliance.promote.sitepolicy import SitePolicy, laid, parts_of
from appliance.promote.strictness import INSTALLED, LOOSER, STRICTER, Change, Table
from appliance.standby import carried
from media import canonical
from media.errors import MediaError

ADOPTED: Final = "approval.policy-adopted"
HELD: Final = "approval.policy-held"
KINDS: Final = (ADOPTED, HELD)
_PAGE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBook:
    """What the ledger has about policies.

    Attributes:
        adopted: The file that holds; None while it is the release's policy alone.
        held: Files of other boxes that are held back, the newest of each ledger by its origin.
        settled: Up to which record of another box's ledger people decided here, by its origin.
        statements: Digests of all statements that were ever adopted here.
    """

    adopted: Leaf | None
    held: Mapping[str, Leaf]
    settled: Mapping[str, int]
    statements: frozenset[str]

    @classmethod
    def of(cls, ledger: Ledger) -> Self:
        """Return what all records make of it.

        Raises:
            LedgerUnavailableError: The ledger does not answer.
        """
        adopted: Leaf | None = None
        held: dict[str, Leaf] = {}
        settled: dict[str, int] = {}
        statements: set[str] = set()
        start = 0
        while page := ledger.leaves(start, _PAGE, kinds=KINDS):
            for leaf in page:
                origin = carried.origin_of(leaf.body)
                if leaf.kind == HELD:
                    held[origin] = leaf
                    continue
                adopted = leaf
                statements.add(str(leaf.body.get("statement_sha256")))
                if not origin:  # people of this box decided with what was held back before them
                    settled.update({one: sequence_there(other) for one, other in held.items()})
                    held.clear()
                elif origin in held and sequence_there(held[origin]) <= sequence_there(leaf):
                    del held[origin]
            start = page[-1].sequence + 1
        return cls(adopted=adopted, held=held, settled=settled, statements=frozenset(statements))

    @property
    def identity(self) -> str:
        """A digest of what is recorded: what a new file replaces where the policy that results cannot be told."""
        texts = [] if self.adopted is None else [str(self.adopted.body.get("policy"))]
        texts += [str(self.held[origin].body.get("policy")) for origin in sorted(self.held)]
        return sha256(canonical.dumps({"unreadable": texts})).hexdigest()

    def in_force(self, release: GatePolicy | None = None, *, table: Table = INSTALLED) -> GatePolicy:
        """Return the policy that holds; see `in_force`."""
        of_release = release or packaged()
        here = of_release
        if self.adopted is not None:
            body = self.adopted.body
            file = SitePolicy.of_earlier(str(body.get("policy", "")).encode(), table=table)
            if file.thresholds or file.dropped:  # without any, two people took the site's own thresholds back
                here = file.over(of_release, signed_over=str(body.get("release_sha256")))
        for origin in sorted(self.held):
            here = _stricter_of_both(here, self.held[origin], of_release, table)
        return here

    def replaced(self, release: GatePolicy, *, table: Table = INSTALLED) -> tuple[GatePolicy | None, str]:
        """Return the policy that holds, None where it cannot be told, and the digest that a new statement replaces."""
        try:
            holds = self.in_force(release, table=table)
        except MediaError:
            return None, self.identity
        return holds, holds.digest


def in_force(ledger: Ledger, release: GatePolicy | None = None, *, table: Table = INSTALLED) -> GatePolicy:
    """Return the policy that holds here now: the installed release's, with what two people of the site laid over it.

    Args:
        ledger: Where it is recorded; only the promoter may, after it verified both signatures.
        release: The release's policy; the installed one's by default.
        table: The release's thresholds.

    Raises:
        MalformedError: What the ledger has is not a policy file that this release can judge by; nothing may be judged
            until two people bring in another.
        LedgerUnavailableError: The ledger does not answer.
    """
    return PolicyBook.of(ledger).in_force(release, table=table)


def sequence_there(leaf: Leaf) -> int:
    """Return the place of a record in the ledger that it was carried from."""
    return int(leaf.body[carried.FIELD]["sequence"])


def _stricter_of_both(here: GatePolicy, held: Leaf, release: GatePolicy, table: Table) -> GatePolicy:
    file = SitePolicy.of_earlier(str(held.body.get("policy", "")).encode(), table=table)
    # Signed over nothing that was verified here: what is looser in it does not count.
    there = file.over(release, signed_over="")
    parts, ours, theirs = parts_of(release), parts_of(here), parts_of(there)
    told = {} if here.site is None else {one.key: one for one in here.site.changes}
    changes: list[Change] = []
    for key in sorted(table.ways):
        section, _, field = key.partition(".")
        of_release, own = parts[section][field], ours[section][field]
        kept = strictness.stricter(key, of_release, own, theirs[section][field])
        parts[section][field] = kept
        if kept == own and key in told:
            changes.append(told[key])
        elif kept != of_release:
            changes.append(Change(key=key, release=of_release, site=kept, direction=STRICTER))
        elif own != of_release:
            word = told[key].override
            changes.append(Change(key=key, release=of_release, site=own, direction=LOOSER, override=word, counts=False))
    texts = ("" if here.site is None else here.site.sha256, file.sha256)
    return laid(
        release,
        parts,
        tuple(changes),
        name=f"{'' if here.site is None else here.site.name + '+'}{file.name}",
        digest=sha256("\n".join(texts).encode()).hexdigest(),
    )
