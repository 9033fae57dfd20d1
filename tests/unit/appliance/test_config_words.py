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
HOST_NAME = (
    "service.hostname: expected a host name of letters, digits, dots and hyphens, in punycode (xn--) where it has"
    " others: llm.hospital.internal"
)


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
        (b'site = "s"\n[monitoring]\nretention_days = 999999\n', "monitoring.retention_days: at most 100000"),
        (b'site = "s"\n[backup]\nage_hours = 99999999999\n', "backup.age_hours: at most 2400000"),
        (b'site = "s"\n[policy]\napproval_hours = 99999999\n', "policy.approval_hours: at most 2400000"),
        (b'site = "s"\n[policy]\napproval_hours = 0\n', "policy.approval_hours: at least 1"),
        *(
            (
                f'site = "s"\n[service]\nhostname = "{name}"\n'.encode(),
                HOST_NAME,
            )
            for name in ("klinik-m\u00fcnchen.local", "llm hospital", "", "a;b", "a" * 254)
        ),
        (b"", "site: it must be given"),
    ],
)
def test_a_wrong_value_is_answered_with_what_is_expected(text: bytes, what: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.parse(text)

    assert refused.value.what == what
    assert "also" not in refused.value.why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *((f'"{name}" = "production"', f"'{name}' means something already") for name in ("production", "auto", "test")),
        *((f'{name} = "smollm2"', f"'{name}' means something already") for name in ("previous", "candidate")),
        ('"a b" = "production"', "'a b' is none: at most 100 letters, digits and ._:/@+-, the first a letter or digit"),
        ('"x:latest" = "production"', "is asked for without :latest"),
        ('notes = "small"\nsmall = "production"', "'small' is the name of a model that another alias means"),
        ('notes = "candidate"', "means 'candidate': expected production, or the name of a model"),
        ('notes = "small:1.0"', "means 'small:1.0': expected production"),
        ('wide = "production"\n[limits.models.wide]\nmax_tokens = 9', "'wide' is the name of a model in limits.models"),
        (
            'small = "production"\n[[router.rules]]\nname = "r"\nmodel = "small:1.0"',
            "'small' is the name of a model in router.rules",
        ),
        (
            'small = "production"\n[[cost.prices]]\nmodel = "small"\nprompt = 1.0\nanswer = 1.0',
            "'small' is the name of a model in cost.prices",
        ),
    ],
)
def test_an_alias_that_would_hide_a_name_or_means_none_is_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.parse(f'site = "s"\n[models.aliases]\n{text}\n'.encode())

    assert refused.value.what.startswith("models: the alias ")
    assert why in refused.value.what


def test_aliases_are_names_of_clients_for_what_serves() -> None:
    file = b'site = "s"\n[models.aliases]\n"gpt-4o-mini" = "production"\n"meta/llama:8b" = "smollm2"\n'

    assert config.parse(file).models.aliases == {"gpt-4o-mini": "production", "meta/llama:8b": "smollm2"}
    assert config.parse(b'site = "s"\n').models.aliases == {}


def test_what_changes_for_callers_is_told_where_a_model_has_the_name_of_an_alias() -> None:
    models = config.parse(b'site = "s"\n[models.aliases]\nnotes = "smollm2"\n').models

    assert "notes in models.aliases, where it means smollm2" in models.taken_by("notes")
    assert models.taken_by("smollm2") == models.taken_by("other") == ""


@pytest.mark.parametrize("name", ["LLM Hospital", "llm_1.internal", "llm..internal", "-llm", "l" * 64, "l.m." * 64])
def test_a_host_name_that_is_none_is_answered_with_one_that_is(name: str) -> None:
    told = answers.faults({"site": {"hostname": name}})

    assert told["site.hostname"].endswith("e.g. llm.hospital.internal")
    assert "site.hostname" not in answers.faults({"site": {"hostname": "llm.hospital.internal"}})


@pytest.mark.parametrize("name", ["LLM_1.Hospital.internal", "10.0.0.7", "fd00::7", "xn--mnchen-3ya.local", "a" * 253])
def test_a_host_name_that_a_box_may_bear_by_now_is_read(name: str) -> None:
    assert config.parse(f'site = "s"\n[service]\nhostname = "{name}"\n'.encode()).service.hostname == name
