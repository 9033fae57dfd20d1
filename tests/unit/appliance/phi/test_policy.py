"""The three modes of a key, and what a failing detector means."""

from pathlib import Path

import pytest

from appliance.errors import CiphertextError, PhiBlockedError, PhiUnavailableError
from appliance.keys.files import FileKeys, create_missing
from appliance.phi.detect import Finding, PatternDetector
from appliance.phi.policy import PhiMode, protect
from appliance.phi.tokens import TokenMap
from appliance.phi.vault import SealedTokens

TEXT = "SSN 123-45-6789"


class _BrokenDetector:
    def find(self, text: str) -> list[Finding]:
        raise ValueError(text)


def test_tokenise_replaces_and_counts() -> None:
    masked = protect([TEXT], mode=PhiMode.TOKENISE, detector=PatternDetector())

    assert masked.texts == ("SSN [SSN_1]",)
    assert masked.counts == {"ssn": 1}


def test_pass_counts_and_replaces_nothing() -> None:
    masked = protect([TEXT, "[SSN_1]"], mode=PhiMode.PASS, detector=PatternDetector())

    assert masked.texts == (TEXT, "[SSN_1]")
    assert masked.counts == {"ssn": 1}
    assert masked.tokens == TokenMap()


def test_block_refuses_and_names_classes_only() -> None:
    with pytest.raises(PhiBlockedError) as caught:
        protect([TEXT], mode=PhiMode.BLOCK, detector=PatternDetector())

    assert caught.value.why == "ssn=1"
    assert "6789" not in str(caught.value.to_json())


def test_block_lets_text_without_identifiers_through() -> None:
    assert protect(["fine"], mode=PhiMode.BLOCK, detector=PatternDetector()).texts == ("fine",)


@pytest.mark.parametrize("mode", list(PhiMode))
def test_a_detector_that_fails_means_refusal_in_every_mode_and_its_text_is_dropped(mode: PhiMode) -> None:
    with pytest.raises(PhiUnavailableError) as caught:
        protect([TEXT], mode=mode, detector=_BrokenDetector())

    assert "6789" not in str(caught.value.to_json())
    assert caught.value.__suppress_context__


def test_tokens_are_kept_encrypted_and_open_for_their_request_only(tmp_path: Path) -> None:
    create_missing(tmp_path / "keys")
    keys = FileKeys(tmp_path / "keys")
    masked = protect([TEXT], mode=PhiMode.TOKENISE, detector=PatternDetector())

    sealed = SealedTokens(masked.tokens, keys=keys, request_id="req_a")

    assert sealed.open().restore("[SSN_1]") == "123-45-6789"
    assert b"6789" not in sealed._sealed
    sealed._request_id = b"req_b"
    with pytest.raises(CiphertextError):
        sealed.open()


def test_no_tokens_need_no_key(tmp_path: Path) -> None:
    assert SealedTokens(TokenMap(), keys=FileKeys(tmp_path), request_id="req_a").open() == TokenMap()
