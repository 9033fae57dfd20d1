"""Four ways to approve, one rule: a signature over this very statement, verified again by whoever loads the engine."""

import base64
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import ApprovalRefusedError, NotPromotedError, UnknownPersonError
from appliance.promote.assertion import Assertion, require_registration
from appliance.promote.classes import BY_PASSWORD, FULL_CLASSES, IS_ADMIN, PASSWORD_TOTP, PKCS11
from appliance.promote.credentials import Credential, spki_of
from appliance.promote.people import SitePeople
from appliance.promote.presented import Presented
from appliance.promote.promoter import Request
from appliance.promote.standing import require_promoted
from appliance.timekeeping.onetime import STEP_SECONDS, code_at
from media.errors import BadSignatureError, MalformedError, UsageError
from tests.support.authenticator import PRESENT, Authenticator
from tests.support.promotion import PASSWORD, Site, digest, open_site
from tests.support.signatories import signatories

ANA, BEN, *_ = signatories()
A, B = digest("A"), digest("B")
ALL = ["openpgp", "webauthn", "pkcs11", "password-totp"]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site where Eva has a security key, Finn a key on a token, Gus a password with one-time codes; Ana OpenPGP."""
    return open_site(tmp_path, enrolled=0, classes=ALL)


@pytest.fixture
def key() -> Authenticator:
    return Authenticator()


@pytest.fixture
def token() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


@pytest.fixture
def people(site: Site, key: Authenticator, token: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    codes = site.client.codes(4)
    brought: list[tuple[str, dict[str, Any]]] = [
        ("Ana Petrova", {"certificate": ANA.certificate}),
        ("Eva Rossi", {"registration": key.register(site.client.register())}),
        ("Finn Olsen", {"token_key": spki_of(token.public_key())}),
        ("Gus Haas", {"totp": True}),
    ]
    return {
        name: site.client.enrol(code=code, name=name, password=PASSWORD, **given)
        for code, (name, given) in zip(codes, brought, strict=True)
    }


def secret_of(person: dict[str, Any]) -> bytes:
    return base64.b32decode(parse_qs(urlsplit(person["totp_address"]).query)["secret"][0])


def by_password(site: Site, person: dict[str, Any], *, password: str = PASSWORD, steps: int = 0) -> Presented:
    step = int(site.clock.now().timestamp()) // STEP_SECONDS + steps
    return Presented(
        approves_by=PASSWORD_TOTP, person=person["person"], password=password, totp=code_at(secret_of(person), step)
    )


def by_token(token: ec.EllipticCurvePrivateKey, statement: bytes) -> Presented:
    return Presented(approves_by=PKCS11, signature=token.sign(statement, ec.ECDSA(SHA384())))


def requested(site: Site, version: str = A) -> Request:
    return site.request(version, by=ANA)


def test_one_time_codes_are_those_of_the_standard() -> None:
    secret = b"12345678901234567890"  # RFC 6238, appendix B, the last six of its eight digits

    assert [code_at(secret, at // 30) for at in (59, 1111111109, 1234567890, 20000000000)] == [
        "287082",
        "081804",
        "005924",
        "353130",
    ]


def test_who_approved_in_a_way_that_counts_no_more_approves_in_another(tmp_path: Path) -> None:
    site = open_site(tmp_path, enrolled=0, classes=ALL)
    first, second = site.client.codes(2)
    site.client.enrol(code=first, name=ANA.name, password=PASSWORD, certificate=ANA.certificate)
    both = site.client.enrol(code=second, name=BEN.name, password=PASSWORD, certificate=BEN.certificate, totp=True)
    request = site.approve(requested(site), ANA)
    site.client.approve(request.statement.sha256, by_password(site, both))
    site.config = site.config.model_copy(
        update={"policy": site.config.policy.model_copy(update={"classes": ["openpgp"]})}
    )
    site.restart()

    site.approve(request, BEN)
    assert [one.approves_by for one in site.client.promote(request.statement.sha256).approvals] == ["openpgp"] * 2


def test_a_security_key_and_a_token_bring_a_version_forward_and_the_launcher_verifies_both(
    site: Site, people: dict[str, Any], key: Authenticator, token: ec.EllipticCurvePrivateKey
) -> None:
    request = requested(site)
    statement = request.statement.to_bytes()
    site.client.approve(request.statement.sha256, key.approve(statement))
    site.client.approve(request.statement.sha256, by_token(token, statement))
    site.client.promote(request.statement.sha256)

    assert require_promoted(site.config.at, A).model_digest == A
    assert SitePeople.from_bytes(site.folder.people().to_bytes()) == site.folder.people()
    kept = [leaf.body["class"] for leaf in site.ledger.find(kind="approval.given", newest_first=False)]
    assert kept == ["webauthn", "pkcs11"]


def test_a_token_with_p256_signs_with_sha256(site: Site) -> None:
    token = ec.generate_private_key(ec.SECP256R1())
    site.client.enrol(
        code=site.client.codes(2)[0], name="Finn Olsen", password=PASSWORD, token_key=spki_of(token.public_key())
    )
    request = site.request(A, by=replace(ANA, name="Finn Olsen"))
    signature = token.sign(request.statement.to_bytes(), ec.ECDSA(SHA256()))

    done = site.client.approve(request.statement.sha256, Presented(approves_by=PKCS11, signature=signature))
    assert [one.person for one in done.approvals] == ["finn-olsen"]


def test_password_and_code_are_shown_as_a_lower_class_wherever_the_approval_is(
    site: Site, people: dict[str, Any]
) -> None:
    request = requested(site)
    done = site.client.approve(request.statement.sha256, by_password(site, people["Gus Haas"]))
    site.client.approve(request.statement.sha256, ANA.sign(request.statement.to_bytes()))
    site.client.promote(request.statement.sha256)

    # This site's profile has two people who are admins and approvers both, and says so as well.
    assert done.approvals[0].lower == (BY_PASSWORD, IS_ADMIN)
    assert done.approvals[0].shown == "Gus Haas (lower class: password and one-time code, is an admin too)"
    made = site.folder.production().made_for(A)
    assert made is not None
    assert [one.lower for one in made.approvals] == [(BY_PASSWORD, IS_ADMIN), (IS_ADMIN,)]
    assert require_promoted(site.config.at, A).number == 1


def test_an_approval_that_hides_its_lower_class_is_refused_by_the_launcher(site: Site, people: dict[str, Any]) -> None:
    request = requested(site)
    site.client.approve(request.statement.sha256, by_password(site, people["Gus Haas"]))
    site.client.approve(request.statement.sha256, ANA.sign(request.statement.to_bytes()))
    site.client.promote(request.statement.sha256)
    file = site.folder.path / "promotions/000001.json"
    changed = file.read_bytes().replace(f'"{BY_PASSWORD}",'.encode(), b"", 1)
    assert changed != file.read_bytes()
    file.write_bytes(changed)

    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, A)


@pytest.mark.parametrize(
    ("password", "steps"), [("wrong password", 0), (PASSWORD, 2), (PASSWORD, -2)], ids=["password", "later", "earlier"]
)
def test_a_wrong_password_or_a_code_of_another_time_is_refused(
    site: Site, people: dict[str, Any], password: str, steps: int
) -> None:
    request = requested(site)

    with pytest.raises(UnknownPersonError):
        site.client.approve(
            request.statement.sha256, by_password(site, people["Gus Haas"], password=password, steps=steps)
        )


def test_a_code_counts_once_even_for_another_statement(site: Site, people: dict[str, Any]) -> None:
    first, second = requested(site), requested(site, B)
    presented = by_password(site, people["Gus Haas"])
    site.client.approve(first.statement.sha256, presented)

    with pytest.raises(UnknownPersonError, match="refused"):
        site.client.approve(second.statement.sha256, presented)
    site.clock.advance(STEP_SECONDS)
    site.client.approve(second.statement.sha256, by_password(site, people["Gus Haas"]))


def test_after_five_wrong_guesses_the_right_ones_wait(site: Site, people: dict[str, Any]) -> None:
    request = requested(site)
    for _ in range(5):
        with pytest.raises(UnknownPersonError):
            site.client.approve(request.statement.sha256, by_password(site, people["Gus Haas"], password="wrong one"))

    with pytest.raises(UnknownPersonError):
        site.client.approve(request.statement.sha256, by_password(site, people["Gus Haas"]))
    site.clock.advance(601)
    site.client.approve(request.statement.sha256, by_password(site, people["Gus Haas"]))


def test_neither_the_secret_nor_the_signing_key_lies_open(site: Site, people: dict[str, Any]) -> None:
    kept = b"".join(path.read_bytes() for path in site.config.at.promoter.rglob("*.json"))
    recorded = b"".join(leaf.raw for leaf in site.ledger.leaves(0, 100))
    secret = secret_of(people["Gus Haas"])

    for form in (secret, base64.b32encode(secret), base64.b64encode(secret)):
        assert form not in kept + recorded
    assert (site.config.at.promoter / "secondfactors.json").stat().st_mode & 0o777 == 0o600


def test_the_site_file_says_which_ways_count(tmp_path: Path) -> None:
    site = open_site(tmp_path, enrolled=0)
    codes = site.client.codes(2)
    with pytest.raises(UsageError):
        site.client.enrol(code=codes[0], name="Gus Haas", password=PASSWORD, totp=True)
    site.client.enrol(code=codes[0], name="Ana Petrova", password=PASSWORD, certificate=ANA.certificate)
    request = requested(site)

    with pytest.raises(ApprovalRefusedError, match="refused") as refused:
        site.client.approve(
            request.statement.sha256,
            Presented(approves_by=PASSWORD_TOTP, person=ANA.id, password=PASSWORD, totp="000000"),
        )
    assert "do not count" in refused.value.why


def test_the_launcher_counts_only_what_the_site_file_counts_now(site: Site, people: dict[str, Any]) -> None:
    request = requested(site)
    site.client.approve(request.statement.sha256, by_password(site, people["Gus Haas"]))
    site.client.approve(request.statement.sha256, ANA.sign(request.statement.to_bytes()))
    site.client.promote(request.statement.sha256)

    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, A, counting=FULL_CLASSES)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"flags": PRESENT}, "verif"),
        ({"origin": "http://localhost:9"}, "origin"),
        ({"type": "webauthn.create"}, "type"),
        ({"challenge": "AAAA"}, "challenge"),
        ({"crossOrigin": True}, "another site"),
    ],
    ids=["no user verification", "another page", "another ceremony", "another statement", "a frame"],
)
def test_an_answer_of_a_security_key_to_something_else_is_refused(
    site: Site, people: dict[str, Any], key: Authenticator, how: dict[str, Any], why: str
) -> None:
    request = requested(site)

    with pytest.raises(ApprovalRefusedError) as refused:
        site.client.approve(request.statement.sha256, key.approve(request.statement.to_bytes(), **how))
    assert why in refused.value.why


def test_a_security_key_of_another_site_is_refused(site: Site, people: dict[str, Any], key: Authenticator) -> None:
    request = requested(site)
    elsewhere = replace(key, rp_id="evil.example")

    with pytest.raises(ApprovalRefusedError):
        site.client.approve(request.statement.sha256, elsewhere.approve(request.statement.to_bytes()))


def test_an_approval_handed_in_again_is_refused_for_this_statement_and_for_another(
    site: Site, people: dict[str, Any], key: Authenticator, token: ec.EllipticCurvePrivateKey
) -> None:
    first, second = requested(site), requested(site, B)
    given = (key.approve(first.statement.to_bytes()), by_token(token, first.statement.to_bytes()))
    for one in given:
        site.client.approve(first.statement.sha256, one)

    for one in given:
        for request in (first, second):
            with pytest.raises(ApprovalRefusedError):
                site.client.approve(request.statement.sha256, one)


def test_a_security_key_whose_counter_did_not_rise_was_copied(
    site: Site, people: dict[str, Any], key: Authenticator
) -> None:
    first, second = requested(site), requested(site, B)
    site.client.approve(first.statement.sha256, key.approve(first.statement.to_bytes()))

    with pytest.raises(ApprovalRefusedError) as refused:
        site.client.approve(second.statement.sha256, key.approve(second.statement.to_bytes(), counts=False))
    assert "counter did not rise" in refused.value.why
    site.restart()
    site.client.approve(second.statement.sha256, key.approve(second.statement.to_bytes()))


def test_a_registration_answers_a_challenge_of_this_promoter_once_and_in_time(site: Site, key: Authenticator) -> None:
    codes = site.client.codes(2)
    asked = site.client.register()

    def enrol(registration: dict[str, str], name: str = "Eva Rossi") -> None:
        site.client.enrol(code=codes[0], name=name, password=PASSWORD, registration=registration)

    for wrong in (
        key.register({"challenge": "AAAA"}),
        key.register(asked, flags=PRESENT),
        replace(key, origin="https://evil.example").register(site.client.register()),
    ):
        with pytest.raises(ApprovalRefusedError):
            enrol(wrong)
    late = site.client.register()
    site.clock.advance(601)
    with pytest.raises(ApprovalRefusedError):
        enrol(key.register(late))
    good = key.register(site.client.register())
    enrol(good)
    with pytest.raises(ApprovalRefusedError):
        site.client.enrol(code=codes[1], name="Finn Olsen", password=PASSWORD, registration=good)


def test_an_approver_brings_something_to_approve_with(site: Site) -> None:
    with pytest.raises(UsageError):
        site.client.enrol(code=site.client.codes(2)[0], name="Eva Rossi", password=PASSWORD)


@pytest.mark.parametrize("wrong", [b"", b"junk", spki_of(ec.generate_private_key(ec.SECP521R1()).public_key())])
def test_a_key_that_is_not_of_its_class_is_not_enrolled(site: Site, wrong: bytes) -> None:
    with pytest.raises((MalformedError, UsageError)):
        site.client.enrol(code=site.client.codes(2)[0], name="Finn Olsen", password=PASSWORD, token_key=wrong)


def test_an_api_key_neither_approves_nor_vouches_nor_logs_in(site: Site, people: dict[str, Any]) -> None:
    api_key = "sl-abcdefghij-" + "k" * 43
    request = requested(site)
    by_key = Presented(approves_by=PASSWORD_TOTP, person=people["Gus Haas"]["person"], password=api_key, totp="000000")

    attempts: tuple[tuple[Callable[[], object], type[Exception]], ...] = (
        (lambda: site.client.approve(request.statement.sha256, by_key), UnknownPersonError),
        (lambda: site.client.approve(request.statement.sha256, api_key.encode()), ApprovalRefusedError),
        (lambda: site.client.login(ANA.id, api_key), UnknownPersonError),
        (lambda: site.client.invite([(ANA.id, api_key), ("eva-rossi", api_key)]), UnknownPersonError),
    )
    for attempt, error in attempts:
        with pytest.raises(error):
            attempt()
    assert site.client.pending()[0].approvals == ()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_any_changed_byte_of_a_statement_voids_what_was_signed(at: int, bit: int) -> None:
    statement = bytearray(b'{"a":"statement","nonce":"00"}')
    token, key = ec.generate_private_key(ec.SECP256R1()), Authenticator()
    credential = Credential.of(PKCS11, spki_of(token.public_key()))
    signature = token.sign(bytes(statement), ec.ECDSA(SHA256()))
    assertion = key.approve(bytes(statement)).signature
    credential.require(bytes(statement), signature)
    statement[at % len(statement)] ^= 1 << bit

    with pytest.raises(BadSignatureError):
        credential.require(bytes(statement), signature)
    made = require_registration(
        key.register({"challenge": "AAAA"}), challenge=bytes(3), rp_id=key.rp_id, origin=key.origin
    )
    with pytest.raises(BadSignatureError):
        Assertion.from_bytes(assertion).require(
            sha256(bytes(statement)).digest(),
            key=made.key,
            credential_id=made.credential_id,
            rp_id=key.rp_id,
            origin=key.origin,
        )
