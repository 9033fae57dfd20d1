"""PKCS#11 with SoftHSM2: a real module, wrong PINs, a token that is taken out, keys that could leave."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bundler.errors import SigningError
from bundler.pkcs11 import TokenPlace, open_token
from bundler.privatekeys import PrivateKeys, place_of
from media import keys
from tests.support.softhsm import MODULE, PIN, Token, soft_token

pytestmark = pytest.mark.interop

ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Answers:
    """A person who types."""

    pin: str = PIN
    asked: list[str] = field(default_factory=list)

    def ask(self, what: str) -> str:
        self.asked.append(what)
        return self.pin


@pytest.fixture
def token(tmp_path: Path) -> Iterator[Token]:
    with soft_token(tmp_path / "hsm", "alice") as made:
        yield made


@pytest.mark.parametrize(
    ("curve", "scheme"), [("secp384r1", "ecdsa-sha2-nistp384"), ("prime256v1", "ecdsa-sha2-nistp256")]
)
def test_a_key_on_a_token_signs_what_a_receiver_verifies(token: Token, curve: str, scheme: str) -> None:
    address = token.make_key("release", curve=curve)

    with open_token(TokenPlace.from_uri(address), Answers()) as signer:
        key, _ = keys.load_key(signer.public_key.keyid, signer.public_key.to_dict())
        for data in (b"", b"data", bytes(100_000)):
            keys.verify(key, signer.sign(data), data, "a test")
    assert key.scheme == scheme


def test_two_keys_of_one_token_ask_once_and_are_logged_out_together(token: Token) -> None:
    person = Answers()
    places = tuple(place_of(token.make_key(name, number=number)) for number, name in enumerate(("root", "release"), 1))

    for _ in range(2):
        with PrivateKeys(places=places, secrets=person).opened() as opened:
            assert len(opened) == 2
            assert all(signer.sign(b"data") for signer in opened.values())

    assert person.asked == ["PIN of the token alice"] * 2


def test_a_wrong_pin_is_tried_once_and_named_without_the_pin(token: Token) -> None:
    address = token.make_key("release")

    with pytest.raises(SigningError) as refused, open_token(TokenPlace.from_uri(address), Answers(pin="000000")):
        pass

    assert refused.value.why == "the PIN is wrong"
    assert "000000" not in str(refused.value.to_json())
    with open_token(TokenPlace.from_uri(address), Answers()) as signer:
        signer.sign(b"data")


def test_a_token_that_is_taken_out_between_two_commands_is_missed(token: Token) -> None:
    address = token.make_key("release")
    with open_token(TokenPlace.from_uri(address), Answers()) as signer:
        signer.sign(b"data")
    token.take_out()

    with (
        pytest.raises(SigningError, match="the token alice is not there"),
        open_token(TokenPlace.from_uri(address), Answers()),
    ):
        pass


def test_a_token_that_is_taken_out_before_signing_is_an_error_of_ours(token: Token) -> None:
    address = token.make_key("release")

    with open_token(TokenPlace.from_uri(address), Answers()) as signer:
        token.take_out()
        signer._session.closeSession()  # what a reader does to its sessions when the card leaves it
        with pytest.raises(SigningError, match="the token alice did not sign"):
            signer.sign(b"data")


def test_a_key_that_was_made_outside_or_may_leave_is_refused(token: Token, tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    pem, public = tmp_path / "k.der", tmp_path / "p.der"
    pem.write_bytes(private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    imported = token.put_key("imported", pem, public)
    extractable = token.make_key("extractable", number=5, options=("--extractable",))

    for address in (imported, extractable):
        with (
            pytest.raises(SigningError, match="may not be used") as refused,
            open_token(TokenPlace.from_uri(address), Answers()),
        ):
            pass
        assert "leave the token" in refused.value.why


def test_other_curves_other_names_and_other_modules_are_refused(token: Token, tmp_path: Path) -> None:
    token.make_key("big", curve="secp521r1")
    token.make_key("twice", number=2)
    token.make_key("twice", number=3)
    wrong = tmp_path / "module.so"
    wrong.write_bytes(b"no library")
    cases = {
        token.address("big"): "may not be used",
        token.address("twice"): "exactly one",
        token.address("absent"): "exactly one",
        token.address("big").replace("token=alice", "token=other"): "the token other is not there",
        token.address("big").replace(MODULE, str(wrong)): "module cannot be loaded",
    }

    for address, said in cases.items():
        with pytest.raises(SigningError, match=said), open_token(TokenPlace.from_uri(address), Answers()):
            pass


def test_the_pin_is_in_no_argument_environment_or_output(token: Token, tmp_path: Path) -> None:
    address = token.make_key("release")
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "bundler.cli.main", "--json", "key", "show", address, "--secret-fd", str(reading)]
    start = "import sys; from bundler.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", start, *command[3:]]
    process = subprocess.Popen(
        command, cwd=ROOT, pass_fds=[reading], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    )
    # The program waits for its line: what anybody sees of it now is what it was given.
    arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        stream.write(f"{PIN}\n")
    out, err = process.communicate(timeout=60)

    assert process.returncode == 0, err
    assert b"ecdsa-sha2-nistp384" in out
    assert all(PIN.encode() not in each for each in (arguments, environment, out, err))
