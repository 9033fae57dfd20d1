"""By which name and address security keys are asked."""

import pytest

from appliance.config import Config, ServiceSection
from appliance.promote.relyingparty import RelyingParty
from appliance.sections import WebauthnSection


@pytest.mark.parametrize(
    ("hostname", "rp_id", "name"),
    [
        ("llm.hospital.example", "", "llm.hospital.example"),
        ("LLM.hospital.example", "", "llm.hospital.example"),
        ("llm.hospital.example", "Hospital.example", "hospital.example"),
    ],
)
def test_the_page_asks_at_its_own_address_and_browsers_write_it_small(hostname: str, rp_id: str, name: str) -> None:
    service = ServiceSection(hostname=hostname, tls=True)

    party = RelyingParty.of(Config(site="s", service=service, webauthn=WebauthnSection(rp_id=rp_id)))

    assert party == RelyingParty(id=name, origin="https://llm.hospital.example:8443")
