"""docs/api.md names every parameter, code, header and class that the code has."""

import re
from pathlib import Path

import appliance.gateway
from appliance.gateway.limits import TIERS
from appliance.gateway.parameters import _NEUTRAL, IGNORED
from appliance.phi.patterns import PhiClass
from tests.support.ledger import ROOT

PAGE = (ROOT / "docs/api.md").read_text()
NGINX = (ROOT / "ansible/roles/nginx/templates/nginx.conf.j2").read_text()
SOURCES = "\n".join(path.read_text() for path in sorted(Path(appliance.gateway.__path__[0]).rglob("*.py")))


def _named(between: str, until: str) -> set[str]:
    part = PAGE[PAGE.index(between) : PAGE.index(until, PAGE.index(between))]
    return set(re.findall(r"`([a-z_]+)`", part))


def test_the_parameters_without_effect_are_exactly_those_on_the_page() -> None:
    assert _named("Accepted and without effect", "and `name` in a message") == IGNORED
    assert _named("Taken only with the value", "\n\nThe header") - {"unsupported_parameter"} == set(_NEUTRAL)


def test_every_error_code_is_on_the_page_and_every_one_on_the_page_exists() -> None:
    codes = set(re.findall(r"Problem\(\s*(?:\d{3}|CALLER_LEFT),\s*\"([a-z_]+)\"", SOURCES))
    codes |= set(re.findall(r"code=\"([a-z_]+)\"", SOURCES))
    codes |= set(re.findall(r"\(\d{3}, \"([a-z_]+)\"", SOURCES))
    codes |= set(re.findall(r"\d{3}: \(\"([a-z_]+)\"", SOURCES))
    codes |= set(re.findall(r" ([a-z_]+);", NGINX.partition("map $status $own_code {")[2].partition("}")[0]))
    codes |= {"invalid_value", "http_error"}

    table = PAGE[PAGE.index("## Errors") : PAGE.index("## Patient identifiers")]
    rows = "".join(line.rpartition("|")[0].rpartition("|")[0] for line in table.splitlines() if line.startswith("| "))
    assert set(re.findall(r"`([a-z_]+)`", rows)) | {"http_error"} == codes


def test_every_header_of_ours_is_on_the_page() -> None:
    for header in set(re.findall(r"\"(x-[a-z-]+|retry-after(?:-ms)?|openai-processing-ms)\"", SOURCES)):
        assert header in {"x-content-type-options", "x-accel-buffering"} or f"`{header}`" in PAGE


def test_every_class_and_tier_is_on_the_page() -> None:
    assert all(one.name in PAGE for one in PhiClass)
    assert all(tier in PAGE for tier in TIERS)
