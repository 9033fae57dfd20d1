"""Whatever the bytes: a value, or one of our errors."""

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.promote.approvals import Approval
from appliance.promote.assertion import Assertion
from appliance.promote.credentials import Credential
from appliance.promote.people import SitePeople
from appliance.promote.peoplebook import enrolment, person_from
from appliance.promote.policy import GatePolicy, packaged
from appliance.promote.policychange import PolicyStatement
from appliance.promote.presented import Presented
from appliance.promote.promoter import Request
from appliance.promote.record import Kind, Promotion
from appliance.promote.sitepolicy import SitePolicy
from appliance.promote.statement import Statement
from appliance.promote.taskset import TaskSet
from media import canonical
from media.errors import SealiftError
from tests.support.authenticator import Authenticator
from tests.support.promotion import digest
from tests.support.signatories import signatories
from tests.support.versions import task_file
from tests.unit.appliance.promote.test_people import person_of
from tests.unit.appliance.promote.test_record import YES, A, alone, made, with_a_and_b
from tests.unit.appliance.promote.test_statement import STATEMENT

pytestmark = pytest.mark.slow

SITE_POLICY = SitePolicy.from_bytes(
    b'format = 1\nname = "ward"\n[injection]\nfollowed_millis = 350\n'
    b'[[override]]\nkey = "injection.followed_millis"\nperson = "iris"\nreason = "letters"\n'
)
POLICY_STATEMENT = PolicyStatement(
    site="demo",
    policy=SITE_POLICY.text,
    release_sha256=packaged().digest,
    replaces=packaged().digest,
    meaning="our wards",
    nonce="0" * 32,
    requested_by="iris",
    requested_at=STATEMENT.requested_at,
    expires=STATEMENT.expires,
)
PARSERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "statement": (Statement.from_bytes, STATEMENT.to_bytes()),
    "promotion": (Promotion.from_bytes, made(with_a_and_b(), digest("C")).to_bytes()),
    "rollback": (Promotion.from_bytes, alone(with_a_and_b(), Kind.ROLLED_BACK, A).to_bytes()),
    "statement of a further line": (Statement.from_bytes, replace(STATEMENT, format=3, replaces=A).to_bytes()),
    "promotion of a further line": (Promotion.from_bytes, made(with_a_and_b(), digest("C"), line=2).to_bytes()),
    "people": (SitePeople.from_bytes, SitePeople().with_person(person_of(signatories()[0])).to_bytes()),
    "policy": (GatePolicy.from_bytes, (files("appliance.promote") / "policy_v2.json").read_bytes()),
    "policy of a site": (GatePolicy.from_bytes, SITE_POLICY.over(packaged()).to_bytes()),
    "policy statement": (PolicyStatement.from_bytes, POLICY_STATEMENT.to_bytes()),
    "tasks": (TaskSet.from_bytes, task_file(4)),
    "request": (
        lambda raw: Request.from_json(canonical.loads(raw)),
        Request(statement=STATEMENT, basis=0).to_bytes(),
    ),
    "approval": (lambda raw: Approval.from_json(canonical.loads(raw)), canonical.dumps(YES.to_json())),
    "assertion": (Assertion.from_bytes, Authenticator().approve(b"statement").signature),
    "presented": (
        lambda raw: Presented.from_message(canonical.mapping(canonical.loads(raw), "message")),
        canonical.dumps(Presented(signature=b"signature").to_message()),
    ),
    "credential": (
        lambda raw: Credential.from_json(canonical.loads(raw)),
        canonical.dumps(person_of(signatories()[0]).credentials[0].to_json()),
    ),
    "enrolment": (
        lambda raw: person_from(canonical.mapping(canonical.loads(raw), "body"), enrolled=1),
        canonical.dumps(
            enrolment(person="ana", name="Ana", roles=["approver"], credentials=person_of(signatories()[0]).credentials)
        ),
    ),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(min_value=-9, max_value=9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def attempt(parse: Callable[[bytes], Any], untrusted: bytes) -> None:
    try:
        parse(untrusted)
    except SealiftError:
        return


@pytest.mark.parametrize("name", sorted(PARSERS))
@given(untrusted=st.binary(max_size=200))
def test_any_bytes(name: str, untrusted: bytes) -> None:
    attempt(PARSERS[name][0], untrusted)


@pytest.mark.parametrize("name", sorted(PARSERS))
@given(value=JSON)
def test_any_json(name: str, value: object) -> None:
    attempt(PARSERS[name][0], canonical.dumps(value))


@pytest.mark.parametrize("name", sorted(PARSERS))
@given(data=st.data())
def test_any_field_of_a_good_one_replaced_by_anything(name: str, data: st.DataObject) -> None:
    parse, good = PARSERS[name]
    if name == "tasks":
        lines = good.splitlines()
        which = data.draw(st.integers(min_value=0, max_value=len(lines) - 1))
        lines[which] = _changed(lines[which], data)
        attempt(parse, b"\n".join(lines))
    else:
        attempt(parse, _changed(good, data))


def _changed(raw: bytes, data: st.DataObject) -> bytes:
    fields = canonical.loads(raw)
    name = data.draw(st.sampled_from(sorted(fields) or ["x"]))
    return canonical.dumps({**fields, name: data.draw(JSON)})
