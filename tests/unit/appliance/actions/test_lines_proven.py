"""An answer of a further line is proven by its line's approvals and by no others; proofs and origins name the line."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import portable
from appliance.actions.proof import ProofReport, Step
from appliance.actions.prove import prove
from appliance.actions.tracing.origin import origin
from appliance.audit import pin
from appliance.audit.note import VerifierKey
from appliance.promote.policy import packaged
from appliance.promote.promoter import Request
from appliance.promote.validated import require_validated
from appliance.registry.descriptor import ModelDescriptor
from appliance.store.content import ContentStore
from tests.support import checker, lines
from tests.support.floor import Floor, open_floor
from tests.support.signatories import signatories

pytestmark = pytest.mark.slow

ANA, *_ = signatories()


@dataclass
class Served:
    """A site that serves a chat model in line 1 and one for classes beside it."""

    floor: Floor
    chat: ModelDescriptor
    classes: ModelDescriptor
    line: int
    asked: int = 0

    def answer(self, digest: str) -> str:
        """Record an answer of a version; return its id."""
        self.asked += 1
        request_id = f"req_{self.asked}"
        ledger = self.floor.site.ledger
        intent = ledger.append("request.intent", {"request_id": request_id, "model_digest": digest})
        body: dict[str, Any] = {"request_id": request_id, "intent_sequence": intent.sequence, "outcome": "ok"}
        ledger.append("request.outcome", body)
        return request_id

    def steps(self, request_id: str) -> tuple[dict[str, Step], dict[str, Step]]:
        """Return the steps of an answer's proof and of its origin."""
        site = self.floor.site
        proven = prove(site.config, site.ledger, request_id)
        return named(proven), named(origin(site.ledger, site.config.at, request_id))


def named(report: ProofReport) -> dict[str, Step]:
    return {step.name: step for step in report.steps}


def request(floor: Floor, descriptor: ModelDescriptor, **said: Any) -> Request:
    floor.validate(descriptor).require_passed()
    validated = require_validated(floor.site.ledger, descriptor.model_digest, packaged())
    return floor.site.client.request(validated, meaning="serve it", requested_by=ANA.id, **said)


@pytest.fixture
def served() -> Iterator[Served]:
    with open_floor() as floor:
        floor.site.config.at.etc.mkdir(parents=True, exist_ok=True)
        pin.pin(floor.site.config.at, VerifierKey.from_text(floor.site.ledger.vkey))
        chat, classes = floor.bring("chat", name="chat"), floor.bring("classes", name="classes")
        floor.serve(chat)
        number = lines.open_line(floor.site, request(floor, classes, beside=True))
        yield Served(floor=floor, chat=chat, classes=classes, line=number)


def test_each_line_s_answer_is_proven_by_the_approvals_of_its_line(served: Served) -> None:
    chat, classes = (served.steps(served.answer(one.model_digest)) for one in (served.chat, served.classes))

    for own, other in zip(chat, classes, strict=True):
        assert all(one[name].ok for one in (own, other) for name in ("promotion", "approvals", "gates"))
        assert (own["promotion"].data.get("line"), other["promotion"].data["line"]) == (None, served.line)
        assert "line" not in own["promotion"].detail
        assert other["promotion"].detail.endswith(f", line {served.line}")
    proven = classes[0]["promotion"]
    assert (proven.data["number"], proven.data["served"]) == (served.line, served.classes.model_digest)
    assert "beside" not in proven.detail


def test_a_line_that_was_stopped_proves_no_later_answer_and_the_other_one_does(served: Served) -> None:
    site = served.floor.site
    lines.stop_line(site, served.line)
    site.clock.advance(60)
    soon = served.answer(served.classes.model_digest)
    site.clock.advance(timedelta(hours=1).total_seconds())
    late, other = served.answer(served.classes.model_digest), served.answer(served.chat.model_digest)

    assert [one["promotion"].ok for one in served.steps(soon)] == [True, True]
    assert [one["promotion"].ok for one in served.steps(late)] == [False, False]
    assert f"{served.chat.model_digest[:12]} was" in served.steps(late)[0]["promotion"].detail
    assert [one["promotion"].ok for one in served.steps(other)] == [True, True]


def test_what_another_line_does_meanwhile_does_not_end_the_time_in_which_a_line_changes(served: Served) -> None:
    floor = served.floor
    successor = floor.bring("next", name="classes")
    lines.bring(floor.site, request(floor, successor), served.line)
    lines.stop_line(floor.site, 1)
    before = served.answer(served.classes.model_digest)

    proven, shown = served.steps(before)
    assert (proven["promotion"].ok, shown["promotion"].ok) == (True, True)
    assert f"while production was changing, line {served.line}" in proven["promotion"].detail
    assert proven["promotion"].data["served"] == successor.model_digest


def test_two_lines_of_one_name_prove_nothing(served: Served) -> None:
    """Scenario: the promoter was taken over and opened a second line for the name that callers ask for."""
    floor = served.floor
    same = floor.bring("evil", name="chat")
    lines.open_line(floor.site, request(floor, same))
    answers = [served.answer(one.model_digest) for one in (served.chat, same, served.classes)]

    said = [served.steps(one) for one in answers]

    assert [[part["promotion"].ok for part in one] for one in said] == [[False, False], [False, False], [True, True]]
    assert "was not the only one of its name" in said[0][0]["promotion"].detail


def test_the_checker_for_elsewhere_names_the_line(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, ledger = served.floor.site.config, served.floor.site.ledger
    releases = {one.serial: one for one in ContentStore(config.at.store).releases()}
    for descriptor, shown in ((served.classes, f", line {served.line}; approved by"), (served.chat, "Z; approved by")):
        digest = descriptor.model_digest
        (registered,) = ledger.find(kind="model.registered", field="model_digest", value=digest)
        one = releases[registered.body["serial"]]
        known = {"serial": one.serial, "release": one.release, "code": one.code, "site": "demo", "files": 1}
        ledger.append("release.received", known)
        made = portable.made(config, ledger, served.answer(digest))
        (tmp_path / "proof.json").write_bytes(made.content)

        assert checker.ending(checker.loaded(), "proof", "--key", ledger.vkey, tmp_path / "proof.json") == 0
        out = capsys.readouterr().out
        assert (f"version       {digest}" in out, shown in out) == (True, True)
