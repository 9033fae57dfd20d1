"""What a token must list before a key is made on it."""

import re
from pathlib import Path

import pytest

from appliance.errors import KeyMissingError
from appliance.keys.tokenmaking import NEEDED, require_mechanisms

TOLD = Path(__file__).resolve().parents[4] / "docs/operator/keys.md"


def test_a_token_that_lists_all_that_is_needed_and_more_is_taken() -> None:
    require_mechanisms("ward-7", [*NEEDED, "CKM_AES_CBC"])


@pytest.mark.parametrize("lacking", NEEDED)
def test_the_mechanism_that_a_token_lacks_is_named_with_what_it_is_for(lacking: str) -> None:
    with pytest.raises(KeyMissingError) as refused:
        require_mechanisms("ward-7", set(NEEDED) - {lacking})

    assert refused.value.what == "the token ward-7 cannot keep this box's keys, so none was made on it"
    assert refused.value.why == f"it lacks {lacking} ({NEEDED[lacking]})"


def test_every_mechanism_that_a_token_lacks_is_named_at_once() -> None:
    with pytest.raises(KeyMissingError) as refused:
        require_mechanisms("ward-7", [])

    assert [name for name in NEEDED if f"{name} (" not in refused.value.why] == []
    assert "\n" not in refused.value.what + refused.value.why + refused.value.fix


def test_the_manual_lists_every_mechanism_in_the_same_order() -> None:
    _, _, after = TOLD.read_text().partition("### What a token must offer")

    assert re.findall(r"^\| `(CKM_\w+)` \|", after.partition("### A TPM")[0], re.MULTILINE) == list(NEEDED)
