"""What one version answered: how many requests of whom, when, in which arm; and each of them by its id.

The way back from a version to every answer it touched; for versions that were brought by doubted keys, see
`appliance.actions.affected`. Prompts and answers are not in the ledger and not here.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.registry import catalog
from appliance.registry.catalog import Version

_INTENT: Final = "request.intent"
_PAGE: Final = 500
MOST_LISTED: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredFacts:
    """What a version answered; `requests` are the newest, `answers` counts all."""

    version: Version
    answers: int
    first: str
    last: str
    departments: dict[str, int]
    keys: dict[str, int]
    arms: dict[str, int]
    requests: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "model_digest": self.version.model_digest,
            "name": self.version.name,
            "version": self.version.version,
            "answers": self.answers,
            "first": self.first,
            "last": self.last,
            "departments": self.departments,
            "keys": self.keys,
            "arms": self.arms,
            "requests": list(self.requests),
        }


def answered(ledger: Ledger, state: Engine, which: str, *, most: int = MOST_LISTED) -> AnsweredFacts:
    """Return what a version began to answer; the whole ledger is read, in slices.

    Raises:
        UnknownVersionError: There is no such version.
        LedgerUnavailableError: The ledger neither answers nor reads.
    """
    with state.connect() as session:
        version = catalog.version(session, which)
    departments, keys, arms = Counter[str](), Counter[str](), Counter[str]()
    requests: list[dict[str, Any]] = []
    first = last = ""
    count = 0
    for leaf in _begun(ledger, version.model_digest):
        body = leaf.body
        count += 1
        first, last = first or leaf.time, leaf.time
        departments[str(body.get("department"))] += 1
        keys[str(body.get("key_id"))] += 1
        arms[str(body.get("arm") or "production")] += 1
        requests.append({"request_id": str(body.get("request_id")), "sequence": leaf.sequence, "at": leaf.time})
        if len(requests) > most:
            del requests[0]
    return AnsweredFacts(
        version=version,
        answers=count,
        first=first,
        last=last,
        departments=dict(departments.most_common()),
        keys=dict(keys.most_common()),
        arms=dict(arms.most_common()),
        requests=tuple(requests),
    )


def _begun(ledger: Ledger, digest: str) -> Iterator[Leaf]:
    start = 0
    while page := ledger.leaves(start, _PAGE, kinds={_INTENT}):
        yield from (leaf for leaf in page if leaf.body.get("model_digest") == digest)
        start = page[-1].sequence + 1
