"""A setup leaves nobody with alerts that no rule tells: it switches monitoring on, says why it cannot, or refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config
from appliance.errors import ConfigError, UnknownReleaseError
from appliance.install import answers, questions, watching
from appliance.install.playbook import WATCHERS
from appliance.install.watching import Watching
from tests.property.appliance.test_answers import GOOD
from tests.support.installable import places_below, small_release, store_release

RELAY = {"mail_relay": "10.0.0.25", "mail_to": ["duty@clinic.internal"]}
INDEX = "data/debs/Packages"


def carried() -> tuple[str, ...]:
    return ()


def lacking() -> tuple[str, ...]:
    return WATCHERS


def decided(
    *,
    enabled: bool | None = None,
    alerts: dict[str, Any] | None = None,
    look: Callable[[], tuple[str, ...]] = carried,
    is_asked: bool = False,
    base: Config | None = None,
) -> tuple[Config, Watching]:
    said = {} if enabled is None else {"monitoring": {"enabled": enabled}}
    given = answers.from_values(GOOD | said | ({"alerts": alerts} if alerts else {}))
    return watching.decided(given, given.config(base), is_asked=is_asked, look=look)


@pytest.mark.parametrize("is_asked", [True, False])
@pytest.mark.parametrize("enabled", [None, True])
def test_monitoring_is_on_where_the_release_carries_it(*, enabled: bool | None, is_asked: bool) -> None:
    config, told = decided(enabled=enabled, alerts=RELAY, is_asked=is_asked)

    assert config.monitoring.enabled
    assert (told.is_on, told.lines) == (
        True,
        ("alerts: the page, the console, mail to 1 by 10.0.0.25",),
    )


@pytest.mark.parametrize("is_asked", [True, False])
def test_answers_that_say_no_are_heard_and_what_is_lost_is_said(*, is_asked: bool) -> None:
    config, told = decided(enabled=False, alerts=RELAY, is_asked=is_asked)

    assert not config.monitoring.enabled
    assert told.lines[0].startswith("NO ALERTS")
    assert "not sent: mail to 1 by 10.0.0.25" in told.lines[0]
    assert "the answers say" in told.lines[1]


def test_who_is_asked_is_told_what_is_missing_why_and_what_helps() -> None:
    config, told = decided(alerts=RELAY, look=lacking, is_asked=True)

    assert not config.monitoring.enabled
    assert told.missing == WATCHERS
    assert told.lines[0].startswith("NO ALERTS: no rule runs")
    assert "the release does not carry prometheus, prometheus-alertmanager" in told.lines[1]
    assert "examples/monitored.toml" in told.lines[2]
    assert told.to_json()["missing"] == list(WATCHERS)


@pytest.mark.parametrize(
    ("alerts", "named"), [(RELAY, "alerts.mail_relay"), ({"syslog": "udp 10.0.0.6 514"}, "alerts.syslog")]
)
def test_a_file_that_names_whom_to_tell_is_refused_where_nobody_would_be_told(
    alerts: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        decided(alerts=alerts, look=lacking)

    assert refused.value.what.startswith(f"{named}: ")
    assert "prometheus" in refused.value.why
    assert "examples/monitored.toml" in refused.value.fix


def test_a_file_that_names_nobody_is_set_up_and_told() -> None:
    config, told = decided(look=lacking)

    assert (config.monitoring.enabled, told.is_on, told.missing) == (False, False, WATCHERS)


@pytest.mark.parametrize("is_asked", [True, False])
def test_monitoring_that_is_asked_for_and_cannot_be_had_is_refused(*, is_asked: bool) -> None:
    there = Config.model_validate({"site": "s", "monitoring": {"enabled": True}})

    for how in ({"enabled": True}, {"base": there}):
        with pytest.raises(ConfigError, match=r"monitoring\.enabled: this release cannot watch"):
            decided(look=lacking, is_asked=is_asked, **how)


def test_what_the_site_file_says_besides_stays() -> None:
    there = Config.model_validate({"site": "s", "monitoring": {"networks": ["10.0.3.0/24"], "retention_days": 30}})

    config, _ = decided(base=there)

    assert config.monitoring.model_dump() == {"enabled": True, "networks": ["10.0.3.0/24"], "retention_days": 30}


def test_below_a_folder_nothing_is_looked_for_and_nobody_is_told(tmp_path: Path) -> None:
    there = Config.model_validate({"site": "s", "places": {"root": str(tmp_path), "run": str(tmp_path / "run")}})

    config, told = decided(alerts=RELAY, look=lambda: pytest.fail("nothing is put in there"), base=there)

    assert (config.monitoring.enabled, told.is_on) == (False, False)
    assert "below a folder" in told.why


def test_an_answer_that_is_neither_yes_nor_no_is_refused_by_its_key() -> None:
    with pytest.raises(ConfigError, match=r"^monitoring\.enabled: "):
        answers.from_values(GOOD | {"monitoring": {"enabled": "yes"}})


def test_what_is_offered_to_people_says_nothing_of_monitoring_unless_they_did() -> None:
    base = Config(site="s")

    assert questions.get(questions.starting_values(base), "monitoring.enabled") is None
    kept = questions.starting_values(base, {"monitoring": {"enabled": False}})
    assert questions.get(kept, "monitoring.enabled") is False


def test_the_release_and_the_machine_together_have_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config.model_validate({"site": "s", "places": {"root": str(tmp_path), "run": str(tmp_path / "run")}})
    with pytest.raises(UnknownReleaseError):
        watching.missing(config, 0)
    index = "".join(f"Package: {name}\nVersion: 1\nFilename: ./{name}_1_amd64.deb\n\n" for name in WATCHERS[:2])
    store_release(places_below(tmp_path), small_release(), serial=1)
    store_release(places_below(tmp_path), small_release() | {INDEX: index.encode()}, serial=2)
    monkeypatch.setattr(watching, "installed", frozenset)

    assert watching.missing(config, 1) == WATCHERS
    assert watching.missing(config, 0) == WATCHERS[2:]  # the newest
    monkeypatch.setattr(watching, "installed", lambda: frozenset(WATCHERS[2:]))
    assert watching.missing(config, 2) == ()


def test_a_package_that_was_removed_is_not_installed(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(
        "Package: prometheus\nStatus: install ok installed\nDescription: x\n more: y\n\n"
        "Package: nginx-light\nStatus: deinstall ok config-files\n"
    )

    assert watching.installed(status) == {"prometheus"}
    assert watching.installed(tmp_path / "none") == frozenset()
