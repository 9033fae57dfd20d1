"""Keys of the box on a token: SoftHSM2 is a real PKCS#11 module, judged by pkcs11-tool and by plain cryptography."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance.errors import CiphertextError, KeyMissingError
from appliance.keys.provider import PURPOSES
from appliance.keys.token import TokenKeys
from tests.support.softhsm import MODULE, PIN, Token, soft_token

pytestmark = pytest.mark.interop

LAYING = f"""
import sys
from pathlib import Path
from appliance.keys.token import TokenKeys
keys = TokenKeys({MODULE!r}, sys.argv[1], Path(sys.argv[2]))
for number in range(10**6):
    keys.remember(b"head %d" % number)
    number or print("laid", flush=True)
"""


@pytest.fixture
def token(tmp_path: Path) -> Iterator[Token]:
    with soft_token(tmp_path / "hsm", "ward-7") as made:
        yield made


@pytest.fixture
def pin(tmp_path: Path) -> Path:
    file = tmp_path / "pin"
    file.write_text(f"{PIN}\n")
    return file


@pytest.fixture
def keys(token: Token, pin: Path) -> Iterator[TokenKeys]:
    made = TokenKeys(MODULE, token.label, pin)
    assert made.create_missing() == list(PURPOSES)
    yield made
    made.close()


def tool(token: Token, *arguments: str) -> str:
    command = ["pkcs11-tool", "--module", MODULE, "--token-label", token.label, "--login", "--pin", PIN, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_signatures_are_ed25519_as_others_know_it(keys: TokenKeys) -> None:
    public = Ed25519PublicKey.from_public_bytes(keys.public("ledger-checkpoint"))

    for data in (b"c", b"checkpoint", bytes(100_000)):
        public.verify(keys.sign("ledger-checkpoint", data), data)


def test_no_key_can_be_taken_out_of_the_token(keys: TokenKeys, token: Token) -> None:
    listed = tool(token, "--list-objects")

    assert listed.count("sealift/ledger-checkpoint.v1") == 2
    assert listed.count("never extractable, local") == len(PURPOSES)
    assert keys.create_missing() == []


def test_the_same_key_gives_the_same_digest_in_another_process_and_session(
    keys: TokenKeys, token: Token, pin: Path
) -> None:
    before = keys.hmac("identity-hmac", b"a person")
    secret = keys.get("session").bytes
    keys.close()

    again = TokenKeys(MODULE, token.label, pin)

    assert again.hmac("identity-hmac", b"a person") == before
    assert again.hmac("content-hmac", b"a person") != before
    assert (again.get("session").bytes, len(secret)) == (secret, 32)
    again.close()


def test_what_a_data_key_sealed_opens_and_every_changed_byte_is_noticed(keys: TokenKeys) -> None:
    sealed = keys.wrap("phi-map", b"123-45-6789", b"req_1")

    assert keys.unwrap("phi-map", sealed, b"req_1") == b"123-45-6789"
    assert sealed != keys.wrap("phi-map", b"123-45-6789", b"req_1")
    for place in range(0, len(sealed), 3):
        altered = bytearray(sealed)
        altered[place] ^= 1
        with pytest.raises((CiphertextError, KeyMissingError)):
            keys.unwrap("phi-map", bytes(altered), b"req_1")
    for length in range(0, len(sealed), 7):
        with pytest.raises(CiphertextError):
            keys.unwrap("phi-map", sealed[:length], b"req_1")
    with pytest.raises(CiphertextError):
        keys.unwrap("phi-map", sealed, b"req_2")


def test_a_new_version_makes_and_older_ones_still_open(keys: TokenKeys) -> None:
    sealed, digest = keys.wrap("phi-map", b"old", b""), keys.hmac("api-key-pepper", b"key")

    assert (keys.create("phi-map"), keys.create("api-key-pepper")) == (2, 2)

    assert keys.unwrap("phi-map", sealed, b"") == b"old"
    assert b"phi-map\x00\x00\x00\x02" in keys.wrap("phi-map", b"new", b"")
    assert keys.hmac("api-key-pepper", b"key", version=1) == digest
    assert keys.hmac("api-key-pepper", b"key") != digest


def test_what_a_destroyed_key_made_is_erased_with_it(keys: TokenKeys, token: Token) -> None:
    sealed = keys.wrap("phi-map", b"gone", b"")

    keys.destroy("phi-map")

    with pytest.raises(KeyMissingError):
        keys.unwrap("phi-map", sealed, b"")
    assert "sealift/phi-map" not in tool(token, "--list-objects")
    with pytest.raises(KeyMissingError):
        keys.destroy("phi-map")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda keys: keys.get("api-key-pepper"), "never leaves"),
        (lambda keys: keys.sign("phi-map", b""), "key to wrap"),
        (lambda keys: keys.hmac("session", b""), "key to secret"),
        (lambda keys: keys.wrap("session", b"", b""), "key to secret"),
        (lambda keys: keys.hmac("nonsense", b""), "no key has this name"),
        (lambda keys: keys.hmac("content-hmac", b"", version=9), "version 9 is not"),
    ],
)
def test_a_key_does_one_thing_and_stays_where_it_is(keys: TokenKeys, call: object, says: str) -> None:
    with pytest.raises(KeyMissingError) as caught:
        call(keys)  # type: ignore[operator] # one of the calls above
    assert says in caught.value.why


def test_a_wrong_pin_or_token_is_said_without_the_pin(token: Token, pin: Path) -> None:
    pin.write_text("999999")
    with pytest.raises(KeyMissingError) as wrong:
        TokenKeys(MODULE, token.label, pin).versions("session")
    with pytest.raises(KeyMissingError, match="cannot be used"):
        TokenKeys(MODULE, "another", pin).versions("session")
    with pytest.raises(KeyMissingError):
        TokenKeys("/nowhere/lib.so", token.label, pin).versions("session")
    pin.unlink()
    with pytest.raises(KeyMissingError, match="cannot be used"):
        TokenKeys(MODULE, token.label, pin).versions("session")

    assert "999999" not in str(wrong.value) + wrong.value.why + wrong.value.fix


def test_a_wrong_pin_is_tried_once_and_another_one_is_taken(
    keys: TokenKeys, token: Token, pin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import PyKCS11

    keys.close()
    tried: list[str] = []
    login = PyKCS11.Session.login

    def counted(session: Any, typed: str) -> Any:
        tried.append(typed)
        return login(session, typed)

    monkeypatch.setattr(PyKCS11.Session, "login", counted)
    pin.write_text("wrong-pin")
    again = TokenKeys(MODULE, token.label, pin)

    for _ in range(4):  # a token of hardware locks itself after three
        with pytest.raises(KeyMissingError) as refused:
            again.hmac("identity-hmac", b"a person")
        assert "CKR_PIN_INCORRECT" in refused.value.why
        assert "sealift box-keys pin" in refused.value.fix
    assert tried == ["wrong-pin"]

    pin.write_text(PIN)
    assert again.hmac("identity-hmac", b"a person")
    again.close()


def test_a_key_that_was_made_outside_is_refused(keys: TokenKeys, token: Token, tmp_path: Path, pin: Path) -> None:
    keys.destroy("content-hmac")
    keys.close()
    (tmp_path / "secret").write_bytes(os.urandom(32))
    put = ("--write-object", str(tmp_path / "secret"), "--type", "secrkey", "--key-type", "AES:32")
    tool(token, *put, "--label", "sealift/content-hmac.v1")

    with pytest.raises(KeyMissingError) as caught:
        TokenKeys(MODULE, token.label, pin).versions("content-hmac")
    assert "made outside" in caught.value.why


def test_many_threads_share_one_session(keys: TokenKeys) -> None:
    def work(number: int) -> bool:
        data = b"%d" % number
        return keys.unwrap("phi-map", keys.wrap("phi-map", data, data), data) == data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))


def test_another_process_may_lay_heads_onto_the_token_while_keys_are_made_used_and_destroyed(
    keys: TokenKeys, token: Token, pin: Path
) -> None:
    laying = subprocess.Popen([sys.executable, "-c", LAYING, token.label, str(pin)], stdout=subprocess.PIPE)
    assert laying.stdout is not None
    try:
        assert laying.stdout.readline() == b"laid\n"
        for _ in range(40):
            made = keys.create("api-key-pepper")
            assert keys.versions("api-key-pepper") == (1, made)
            assert keys.recall() != ()
            keys.remove("api-key-pepper", made)
            assert laying.poll() is None
    finally:
        laying.kill()
        laying.communicate()


def test_a_forked_child_logs_in_for_itself(keys: TokenKeys) -> None:
    before = keys.hmac("identity-hmac", b"a person")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, keys.hmac("identity-hmac", b"a person"))
        os._exit(0)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert os.read(reader, 64) == before
    assert keys.hmac("identity-hmac", b"a person") == before
    os.close(reader)
    os.close(writer)
