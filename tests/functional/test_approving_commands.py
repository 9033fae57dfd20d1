"""Every way to approve by the commands that people type, against real ledger and promoter processes."""

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.errors import NotPromotedError
from appliance.promote.client import PromoterClient
from appliance.timekeeping.onetime import STEP_SECONDS, code_at
from tests.functional.test_forged_rows import launch
from tests.support.promoting import bring, medium_of
from tests.support.running_site import Run, RunningSite, as_json, runner, running_site
from tests.support.versions import short_folder

pytestmark = pytest.mark.slow
POLICY = '[policy]\nrequest = "release"\nclasses = ["openpgp", "pkcs11", "password-totp"]\n'


@pytest.fixture
def site() -> Iterator[RunningSite]:
    with short_folder() as root, running_site(root, medium_of(1), more=POLICY) as running:
        (root / "password").write_text("correct horse battery\n")
        yield running


@pytest.fixture
def sealift(site: RunningSite, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(site, capsys)


def enrolled(site: RunningSite, sealift: Run, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Enrol Eva with a one-time code's app, and Finn, whose first code was lost, with a token's key; her secret."""
    public = site.root / "finn.pem"
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    first, _ = as_json(sealift, "people", "codes")["codes"]
    password = ("--password-file", str(site.root / "password"))
    eva = as_json(sealift, "people", "enrol", "--code", first, "--name", "Eva Rossi", "--one-time-code", *password)
    (second,) = as_json(sealift, "people", "codes", "--by", eva["person"], *password)["codes"]
    shown = sealift(
        *("people", "enrol", "--code", second, "--name", "Finn Olsen", "--token-public-key", str(public), *password)
    )
    assert "key on a token" in shown.out
    return base64.b32decode(parse_qs(urlsplit(eva["totp_address"]).query)["secret"][0])


def code_now(secret: bytes) -> str:
    return code_at(secret, int(time.time()) // STEP_SECONDS)


def test_a_password_with_a_code_and_a_token_s_signature_bring_a_version_forward(
    site: RunningSite, sealift: Run
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    secret = enrolled(site, sealift, key)
    digest = bring(site, 1)
    as_json(sealift, "validate", digest)
    as_json(sealift, "promote", digest, "--as", "eva-rossi")
    promoter = PromoterClient.open(site.config)
    statement = promoter.pending()[0].statement.to_bytes()
    promoter.close()
    signature = site.root / "statement.sig"
    signature.write_bytes(key.sign(statement, ec.ECDSA(SHA256())))
    by_password = ("--password", "--password-file", str(site.root / "password"), "--yes")

    wrong = sealift("approve", digest, "--as", "eva-rossi", *by_password, "--one-time-code", "000000000")
    assert wrong.code == 45
    told = as_json(
        sealift, *("approve", digest, "--as", "eva-rossi", *by_password, "--one-time-code", code_now(secret))
    )
    assert told["lower_class"] == {"Eva Rossi": ["password and one-time code"]}
    handed_in = ("--signature", str(signature), "--signature-class", "pkcs11", "--yes")
    shown = sealift("approve", digest, "--as", "finn-olsen", *handed_in)
    assert "Eva Rossi (lower class: password and one-time code), Finn Olsen: 2 of 2" in shown.out
    assert as_json(sealift, "promote", digest)["step"] == "serving"

    assert "Eva Rossi (lower class: password and one-time code)" in sealift("history").out
    listed = sealift("people", "list").out
    assert "fewer than two admins" in listed
    # The launcher counts by the site file of the moment.
    file = site.config.at.config_file
    file.write_text(file.read_text().replace(', "password-totp"', ""))
    assert launch(site, digest).returncode == NotPromotedError.exit_code
    assert "password and one-time code" in listed


@pytest.mark.parametrize(
    "arguments",
    [
        ("--password", "--signature", "x"),
        ("--token", "t"),
        ("--signature", "x", "--signature-class", "webauthn"),
        ("--password",),
    ],
    ids=" ".join,
)
def test_half_a_way_or_two_ways_at_once_are_refused(
    site: RunningSite, sealift: Run, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    ended = sealift("approve", "anything", "--as", "eva", *arguments)

    assert (ended.code, "fix:" in ended.err) == (2, True), ended.err
