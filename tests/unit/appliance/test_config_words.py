"""What a site file is refused with: every wrong key at once, in words of who wrote it and not of who checks it."""

import pytest

from appliance import config
from appliance.errors import ConfigError
from appliance.install import answers

FILE = b"""
site = "St. Mary"
environment = "production"
[service]
tls = "yes"
hostnam = "llm.st-mary.internal"
[limits]
max_tokens = "many"
"""


def test_every_wrong_key_is_named_at_once_the_first_with_what_is_expected() -> None:
    with pytest.raises(ConfigError) as refused:
        config.parse(FILE)

    assert refused.value.what.startswith("site: expected lower-case letters, digits and hyphens, e.g. st-mary")
    assert refused.value.why.endswith("also wrong: service.tls, service.hostnam, limits.max_tokens")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b'site = "s"\n[service]\ntls = "yes"\n', "service.tls: expected true or false, without quotes"),
        (b'site = "s"\n[servce]\n', "servce: there is no such key"),
        (b'site = "s"\n[limits]\nmax_tokens = "9"\n', "limits.max_tokens: expected a whole number, without quotes"),
        (b"site = 7\n", "site: expected a text, in quotes"),
        (b'site = "s"\n[alerts]\nmail_to = "a@b.c"\n', "alerts.mail_to: expected a list, in square brackets"),
        (
            b'site = "s"\n[network]\nclients = ["10.0.0.1/8"]\n',
            "network.clients.0: 10.0.0.1/8 is an address and not a network, e.g. 10.0.0.0/8",
        ),
        (
            b'site = "s"\n[limits]\nurgent_percent = 20\ninteractive_percent = 20\n',
            "limits: urgent_percent, interactive_percent and batch_percent are below 100 together: places stay unused",
        ),
        (b"", "site: it must be given"),
    ],
)
def test_a_wrong_value_is_answered_with_what_is_expected(text: bytes, what: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.parse(text)

    assert refused.value.what == what
    assert "also" not in refused.value.why


@pytest.mark.parametrize("name", ["LLM Hospital", "llm_1.internal", "llm..internal", "-llm", "l" * 64, "l.m." * 64])
def test_a_host_name_that_is_none_is_answered_with_one_that_is(name: str) -> None:
    told = answers.faults({"site": {"hostname": name}})

    assert told["site.hostname"].endswith("e.g. llm.hospital.internal")
    assert "site.hostname" not in answers.faults({"site": {"hostname": "llm.hospital.internal"}})
