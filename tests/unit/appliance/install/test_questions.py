"""What a guided install offers as the answer to each of its questions."""

import pytest

from appliance.config import Config
from appliance.install import questions
from appliance.install.questions import Prompt, get, put, starting_values
from appliance.sections import NetworkSection


def _prompt(key: str) -> Prompt:
    (found,) = (one for each in questions.QUESTIONS for one in each.prompts if one.key == key)
    return found


def _config(**network: list[str]) -> Config:
    return Config(site="s", network=NetworkSection.model_validate(network))


@pytest.mark.parametrize(
    ("known", "offered"),
    [
        ({}, "10.20.0.0/16"),
        ({"clients": ["10.0.0.0/8"]}, "10.20.0.0/16"),
        ({"clients": ["10.0.0.0/8"], "management": ["10.0.0.0/8"]}, "10.20.0.0/16"),
        ({"clients": ["10.0.0.0/8"], "management": ["10.99.0.0/24"]}, "10.99.0.0/24"),
    ],
)
def test_who_may_administer_the_box_is_offered_as_who_may_use_it_until_somebody_chose(
    known: dict[str, list[str]], offered: str
) -> None:
    values = starting_values(_config(**known), None)
    put(values, "network.clients", ["10.20.0.0/16"])

    assert _prompt("network.management").shown(values) == offered


def test_a_run_of_before_that_let_all_private_networks_administer_is_no_choice() -> None:
    private = NetworkSection().management
    earlier = {"network": {"clients": ["10.20.0.0/16"], "management": private}}

    values = starting_values(_config(), earlier)

    assert get(values, "network.clients") == ["10.20.0.0/16"]
    assert _prompt("network.management").shown(values) == "10.20.0.0/16"


def test_answers_of_another_form_are_asked_anew() -> None:
    assert get(starting_values(None, {"network": "none", "alerts": 5}), "network.management") is None
