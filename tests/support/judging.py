"""A site with answers to judge, and its page: two versions whose answers were sampled, one of them in production."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flask import Flask

from appliance.actions.judgements import Sitting, sitting
from appliance.promote import sitesets
from tests.support.adminpage import page_of
from tests.support.floor import Floor, open_floor
from tests.support.signatories import signatories


@dataclass(slots=True)
class Judging:
    """The floor, the version whose answers are judged, the other side's, and the page."""

    floor: Floor
    digest: str
    other: str

    def page(self) -> Flask:
        """Return the page's application as a start of its process would."""
        return page_of(self.floor.site, self.floor.state)

    def sitting(self, person: str) -> Sitting:
        """Return the sheet before one judge."""
        return sitting(self.floor.site.config.at, self.floor.site.ledger, self.digest, person=person)


@contextmanager
def open_judging() -> Iterator[Judging]:
    """Yield a site where three pairs and one rubric wait for judges."""
    with open_floor() as floor:
        lines = [
            {"format": 2, "name": "letters", "floor": "0"},
            {"id": "a", "kind": "rubric", "prompt": "Q 1?", "criteria": ["polite", "short"]},
        ]
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        sitesets.add(floor.site.config.at, floor.site.ledger, content, person=signatories()[0].id)
        first, second = floor.bring("first"), floor.bring("second")
        floor.serve(first)
        floor.validate(second)
        yield Judging(floor=floor, digest=second.model_digest, other=first.model_digest)
