"""A key on a PKCS#11 token approves: made and used on a real SoftHSM2 token, verified by promoter and launcher."""

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from appliance.actions import people as people_actions
from appliance.actions import persontoken
from appliance.actions.persontoken import TokenKey
from appliance.actions.ways import ByFile, ByToken
from appliance.errors import ApprovalRefusedError
from appliance.promote.classes import PKCS11
from appliance.promote.standing import require_promoted
from media.errors import KeyUnusableError
from tests.support.promotion import PASSWORD, Site, digest, open_site
from tests.support.signatories import Signatory, signatories
from tests.support.softhsm import MODULE, PIN, Token, soft_token

pytestmark = pytest.mark.interop
A, B = digest("A"), digest("B")


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    with soft_token(tmp_path_factory.mktemp("t"), "site people") as made:
        made.make_key("eva", curve="secp384r1", number=1)
        made.make_key("finn", curve="secp256r1", number=2)
        yield made


def key(label: str) -> TokenKey:
    return TokenKey(module=MODULE, token="site people", label=label)


@pytest.fixture
def site(token: Token, tmp_path: Path) -> Site:
    opened = open_site(tmp_path, enrolled=0)
    for code, (label, name) in zip(
        opened.client.codes(2), {"eva": "Eva Rossi", "finn": "Finn Olsen"}.items(), strict=True
    ):
        public = persontoken.public_key(key(label), PIN)
        opened.client.enrol(code=code, name=name, password=PASSWORD, token_key=public)
    return opened


def test_two_people_approve_with_keys_that_never_leave_the_token(site: Site) -> None:
    request = site.request(A, by=_by("Eva Rossi"))
    for label, person in (("eva", "eva-rossi"), ("finn", "finn-olsen")):
        way = ByToken(key=key(label), pin=lambda: PIN)
        presented = way.present(site.client, person, request.statement.to_bytes())
        site.client.approve(request.statement.sha256, presented)
    site.client.promote(request.statement.sha256)

    assert require_promoted(site.config.at, A).people == ("Eva Rossi", "Finn Olsen")


def test_what_the_token_s_own_tool_signs_elsewhere_is_handed_in_as_a_file(
    site: Site, token: Token, tmp_path: Path
) -> None:
    request = site.request(A, by=_by("Eva Rossi"))
    # SoftHSM2 signs a digest only, which the tool of many cards does as well.
    hashed, signature = tmp_path / "statement.sha384", tmp_path / "statement.sig"
    hashed.write_bytes(hashlib.sha384(request.statement.to_bytes()).digest())
    command = ["pkcs11-tool", "--module", MODULE, "--token-label", token.label, "--login", "--pin", PIN, "--sign"]
    command += ["--mechanism", "ECDSA", "--id", "01", "--signature-format", "openssl"]
    subprocess.run([*command, "-i", str(hashed), "-o", str(signature)], check=True, capture_output=True)
    way = ByFile(path=signature, approves_by=PKCS11)

    done = site.client.approve(
        request.statement.sha256, way.present(site.client, "eva-rossi", request.statement.to_bytes())
    )
    assert [(one.person, one.approves_by) for one in done.approvals] == [("eva-rossi", "pkcs11")]


def test_a_public_key_that_was_read_from_the_token_is_enrolled_from_a_file(token: Token, tmp_path: Path) -> None:
    made = persontoken.public_key(key("finn"), PIN)
    pem = load_der_public_key(made).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for content in (made, pem):
        (tmp_path / "key").write_bytes(content)
        assert people_actions.read_public_key(tmp_path / "key") == made


def test_a_signature_over_another_statement_is_refused(site: Site) -> None:
    first, second = (site.request(one, by=_by("Eva Rossi")) for one in (A, B))
    way = ByToken(key=key("eva"), pin=lambda: PIN)
    presented = way.present(site.client, "eva-rossi", first.statement.to_bytes())

    with pytest.raises(ApprovalRefusedError):
        site.client.approve(second.statement.sha256, presented)


@pytest.mark.parametrize(
    ("place", "pin"),
    [
        (key("eva"), "000000"),
        (key("nobody"), PIN),
        (TokenKey(module=MODULE, token="another token", label="eva"), PIN),
        (TokenKey(module="/nowhere/module.so", token="site people", label="eva"), PIN),
    ],
    ids=["pin", "key", "token", "module"],
)
def test_a_token_that_cannot_be_used_says_so(token: Token, place: TokenKey, pin: str) -> None:
    with pytest.raises(KeyUnusableError):
        persontoken.sign(place, pin, b"statement")


def _by(name: str) -> Signatory:
    return replace(signatories()[0], name=name)
