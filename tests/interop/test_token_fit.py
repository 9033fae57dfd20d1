"""Tokens that cannot keep the box's keys are refused before one is made: a TPM through tpm2-pkcs11, and SoftHSM2 less a
mechanism. What the TPM lacks is what docs/operator/keys.md says it lacks.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import PyKCS11
import pytest

from appliance import config as configuration
from appliance.actions import tokenpin
from appliance.config import Config
from appliance.errors import KeyMissingError
from appliance.keys.opening import open_keys
from appliance.keys.provider import PURPOSES
from appliance.keys.token import TokenKeys
from appliance.keys.tokenmaking import NEEDED
from tests.support.softhsm import MODULE, PIN, Token, soft_token
from tests.support.softtpm import TPM_MODULE, tpm_token, tpm_tool
from tests.support.versions import short_folder

pytestmark = pytest.mark.interop

LABEL = "ward-7"
TPM_LACKS = ["CKM_EC_EDWARDS_KEY_PAIR_GEN", "CKM_EDDSA", "CKM_GENERIC_SECRET_KEY_GEN", "CKM_AES_GCM"]


@pytest.fixture
def tpm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    if shutil.which("swtpm") is None or not Path(TPM_MODULE).exists():
        pytest.skip("this machine has no swtpm, or no libtpm2-pkcs11-1")
    with short_folder() as folder, tpm_token(folder / "tpm", LABEL, monkeypatch):
        yield folder / "tpm"


@pytest.fixture
def token(tmp_path: Path) -> Iterator[Token]:
    with soft_token(tmp_path / "hsm", LABEL) as made:
        yield made


@pytest.fixture
def pin(tmp_path: Path) -> Path:
    file = tmp_path / "pin"
    file.write_text(PIN)
    return file


@pytest.fixture
def keys(token: Token, pin: Path) -> Iterator[TokenKeys]:
    made = TokenKeys(MODULE, token.label, pin)
    yield made
    made.close()  # a session that stays would spoil the next test: the module is one for the whole process


def site(root: Path, module: str) -> Config:
    text = (
        f'site = "s"\nenvironment = "demo"\nprofile = "cpu"\n[places]\nroot = "{root}"\n'
        f'[keys]\nprovider = "token"\nmodule = "{module}"\ntoken = "{LABEL}"\n'
    )
    return configuration.parse(text.encode())


def disable(token: Token, mechanism: str) -> None:
    with (token.folder / "softhsm2.conf").open("a") as settings:
        settings.write(f"slots.mechanisms = -nothing,{mechanism}\n")  # SoftHSM2 2.6 passes over the first after a minus


def objects_of_tpm() -> str:
    return tpm_tool("--token-label", LABEL, "--login", "--pin", PIN, "--list-objects")


def test_a_pin_of_a_tpm_is_not_kept_and_what_the_tpm_lacks_is_named(tpm: Path, tmp_path: Path) -> None:
    config = site(tmp_path, TPM_MODULE)

    with pytest.raises(KeyMissingError) as refused:
        tokenpin.place(config, PIN)

    assert refused.value.what == "the token ward-7 cannot keep this box's keys, so none was made on it"
    assert [name for name in NEEDED if f"{name} (" in refused.value.why] == TPM_LACKS
    assert "What a token must offer" in refused.value.fix
    assert not list(config.at.key_files.iterdir())
    assert objects_of_tpm() == ""


def test_an_install_makes_nothing_on_a_tpm_whose_pin_was_placed_by_hand(tpm: Path, tmp_path: Path) -> None:
    config = site(tmp_path, TPM_MODULE)
    config.at.key_files.mkdir(parents=True)
    (config.at.key_files / "token-pin").write_text(PIN)
    with closing(open_keys(config, environ={})) as keys:
        with pytest.raises(KeyMissingError, match="cannot keep this box's keys"):
            keys.create_missing()
        with pytest.raises(KeyMissingError, match="cannot keep this box's keys"):
            keys.create("ledger-checkpoint")

    assert objects_of_tpm() == ""


def test_a_wrong_pin_of_a_tpm_is_said_as_such(tpm: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyMissingError) as refused:
        tokenpin.place(site(tmp_path, TPM_MODULE), "999999")
    assert "CKR_PIN_INCORRECT" in refused.value.why


def test_a_tpm_remembers_the_ledgers_head_no_better_than_the_disk_does(tpm: Path, pin: Path, tmp_path: Path) -> None:
    with closing(TokenKeys(TPM_MODULE, LABEL, pin)) as keys:
        keys.remember(b"yesterday")
        keys.close()
        shutil.copytree(tpm / "store", tmp_path / "yesterday")
        keys.remember(b"today")
        assert keys.recall() == (b"today",)
        keys.close()
        shutil.rmtree(tpm / "store")
        shutil.copytree(tmp_path / "yesterday", tpm / "store")

        assert keys.recall() == (b"yesterday",)


@pytest.mark.parametrize("mechanism", NEEDED)
def test_a_token_that_lacks_one_mechanism_gets_no_key(keys: TokenKeys, token: Token, mechanism: str) -> None:
    disable(token, mechanism)

    with pytest.raises(KeyMissingError) as refused:
        keys.create_missing()

    assert refused.value.why == f"it lacks {mechanism} ({NEEDED[mechanism]})"
    assert keys.names() == ()


def test_a_token_that_holds_every_key_is_taken_though_it_lists_less(
    keys: TokenKeys, token: Token, tmp_path: Path
) -> None:
    keys.create_missing()
    keys.close()
    disable(token, "CKM_AES_KEY_GEN")

    assert tokenpin.place(site(tmp_path, MODULE), PIN) == tuple(PURPOSES)


@pytest.mark.parametrize(("failing", "last"), [("generateKeyPair", 1), *(("generateKey", last) for last in (1, 2, 5))])
def test_keys_that_were_made_before_a_token_refused_one_are_off_it_again(
    keys: TokenKeys, monkeypatch: pytest.MonkeyPatch, failing: str, last: int
) -> None:
    real, calls = getattr(PyKCS11.Session, failing), []

    def make(session: Any, *given: Any, **named: Any) -> Any:
        calls.append(given)
        if len(calls) == last:
            # As tpm2-pkcs11 answers, which lists the making of AES keys all the same.
            raise PyKCS11.PyKCS11Error(PyKCS11.CKR_FUNCTION_NOT_SUPPORTED)
        return real(session, *given, **named)

    monkeypatch.setattr(PyKCS11.Session, failing, make)
    with pytest.raises(KeyMissingError) as refused:
        keys.create_missing()

    assert "CKR_FUNCTION_NOT_SUPPORTED" in refused.value.why
    assert refused.value.what.startswith("the key ")
    assert keys.names() == ()


def test_a_key_that_could_leave_the_token_is_taken_off_it_as_soon_as_it_was_made(
    keys: TokenKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PyKCS11.Session.generateKey

    def make(session: Any, template: Any, **named: Any) -> Any:
        loose = {PyKCS11.CKA_EXTRACTABLE: True}
        return real(session, [(kind, loose.get(kind, value)) for kind, value in template], **named)

    with monkeypatch.context() as changed:
        changed.setattr(PyKCS11.Session, "generateKey", make)
        with pytest.raises(KeyMissingError, match="ledger-mldsa") as refused:
            keys.create_missing()

    assert "can leave the token" in refused.value.why
    keys.close()
    assert keys.names() == ()
    assert keys.create_missing() == list(PURPOSES)
