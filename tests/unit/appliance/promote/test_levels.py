"""A level that is not recommended never reaches production, whatever its gates said and whoever would approve."""

from pathlib import Path

import pytest

from appliance.errors import GateFailedError
from appliance.promote.levels import NOT_FOR_PRODUCTION, require_level_for_production
from appliance.promote.policy import packaged
from appliance.promote.validated import Validated
from bundler.quantlevels import LEVELS, refusal
from tests.support.ledger import DIGEST_A
from tests.support.promotion import digest, open_site
from tests.support.signatories import signatories


def test_the_levels_are_those_that_the_build_side_does_not_recommend() -> None:
    assert set(NOT_FOR_PRODUCTION) == {name for name in LEVELS if refusal(name)}


@pytest.mark.parametrize("named", ["Q2_K", "q4_0", "Q3-K-S", "GGUF Q4_0", "Q4_0 (requantized)"])
def test_they_are_refused_however_they_are_written(named: str) -> None:
    with pytest.raises(GateFailedError, match="its level is Q"):
        require_level_for_production({"quantization": named}, DIGEST_A)


@pytest.mark.parametrize("named", ["Q4_K_M", "Q3_K_M", "Q4_1", "Q2_K_XL", "Q8_0", "BF16", "AWQ", "none", ""])
def test_others_are_not(named: str) -> None:
    require_level_for_production({"quantization": named}, DIGEST_A)


def test_the_promoter_itself_makes_no_statement_for_one_to_sign(tmp_path: Path) -> None:
    site, version = open_site(tmp_path, enrolled=2), digest("A")
    with pytest.raises(GateFailedError, match="Q4_0"):
        site.validate(version, level="Q4_0")
    claimed = Validated(
        model_digest=version,
        weights_digest=digest("weights" + version),
        evidence_digest=digest("evidence" + version + "1"),
        policy_digest=packaged().digest,
    )

    with pytest.raises(GateFailedError, match="Q4_0"):
        site.client.request(claimed, meaning="serve it", requested_by=signatories()[0].id)

    assert site.client.pending() == ()
    assert site.ledger.find(kind="promotion.requested", field="model_digest", value=version, limit=1) == []
