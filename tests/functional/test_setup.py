"""The guided install below a folder: real ledger and promoter, a real environment, asked and from a file."""

import atexit
import json
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from appliance import config as configuration
from appliance.actions import capacity as figures
from appliance.cli import capacity, people, setup
from appliance.errors import ConfigError, ConflictError
from appliance.install import answers, sitefile
from appliance.registry.descriptor import ModelDescriptor
from media import canonical
from media.digest import sha256_hex
from tests.support import setting_up
from tests.support.engine import tokens
from tests.support.installable import RELEASE_FACTS, small_release, store_release
from tests.support.medium import SimulatedMedium, make_medium
from tests.support.running_site import RunningSite, running_site
from tests.support.scripted_http import Reply
from tests.support.setting_up import ANSWERS, done
from tests.support.versions import short_folder, version_files

pytestmark = pytest.mark.slow  # whole commands and processes, seconds each

TYPED = [*setting_up.TYPED, *("/media/backup", "10.20.0.25", "", "none", "duty@clinic.internal")]  # backups, alerts


@cache
def medium() -> SimulatedMedium:
    folder = Path(tempfile.mkdtemp(prefix="slf", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make_medium(folder / "m", serial=1, files=version_files())


def release_files() -> dict[str, bytes]:
    """Return a release that can be installed and brings one version."""
    files, version = small_release(), version_files()
    facts = json.loads(files[RELEASE_FACTS]) | {"models": json.loads(version[RELEASE_FACTS])["models"]}
    name = next(name for name in version if name.endswith("descriptor.json"))
    # The engine runs in the environment that its version names, so the release has to bring that one.
    needs = sha256_hex(files["data/server/requirements-engine-llama-cpp.txt"])
    descriptor = canonical.dumps(json.loads(version[name]) | {"environment": needs})
    return {**files, **version, name: descriptor, RELEASE_FACTS: canonical.dumps(facts)}


@pytest.fixture
def site() -> Iterator[RunningSite]:
    with short_folder() as root, running_site(root, medium()) as running:
        files = release_files()
        store_release(running.config.at, files)
        descriptor = ModelDescriptor.from_bytes(next(files[name] for name in files if name.endswith("descriptor.json")))
        running.supervisor.know(descriptor, replies={"/sealift/v1/tokenize": count, "/v1/chat/completions": note})
        yield running


def count(body: Mapping[str, Any]) -> Reply:
    return Reply(body={"tokens": len(tokens(body["messages"][0]["content"]))})


def note(body: Mapping[str, Any]) -> Reply:
    words = min(20, body["max_tokens"])
    event = b'data: {"choices": [{"delta": {"content": "word "}}]}\n\n'
    usage = b'data: {"choices": [], "usage": {"completion_tokens": %d}}\n\ndata: [DONE]\n\n' % words
    return Reply(pieces=(*[event] * words, usage))


def typed(site: RunningSite, *words: str, lines: list[str] | None = None, as_json: bool = False) -> Result:
    commands = (setup, capacity, people)
    return setting_up.typed(site.config.at.config_file, commands, words, lines or [], as_json=as_json)


def answers_file(site: RunningSite, text: str = ANSWERS) -> str:
    path = site.root / "answers.toml"
    path.write_text(text)
    return str(path)


def test_a_machine_that_took_over_another_ones_ledger_is_measured_itself(
    site: RunningSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = answers_file(site)
    cores, memory = figures.machine()
    with monkeypatch.context() as before:
        before.setattr(figures, "machine", lambda: (cores + 24, 4 * memory))
        lost = done(typed(site, "setup", "--answers", name, as_json=True))

    own = done(typed(site, "setup", "--answers", name, as_json=True))

    assert lost["capacity"]["cores"] == cores + 24
    assert own["capacity"]["cores"] == cores


def test_answers_from_a_file_set_a_machine_up_and_the_second_time_change_nothing(site: RunningSite) -> None:
    name = answers_file(site)
    plan = done(typed(site, "setup", "--answers", name, "--dry-run", as_json=True))["plan"]
    assert '+hostname = "llm.clinic.internal"' in plan["site_file"]
    assert plan["install"]["changed"] is True
    assert not (site.config.at.state / "setup").exists()

    first = done(typed(site, "setup", "--answers", name, as_json=True))
    again = done(typed(site, "setup", "--answers", name, as_json=True))

    assert list(first["codes"]) == ["Iris Mora", "Omar Haddad"]
    assert first["capacity_missing"] == ""
    assert first["capacity"]["figures"]["notes_per_hour"] > 0
    assert first["capacity"]["stage"] == "test"
    assert {"B23", "B24"} == set(first["capacity"]["requirements"])
    assert again["capacity"]["at"] == first["capacity"]["at"]  # measured once
    assert "`sealift clock confirm --by 'Gina Goods'`" in plan["clock"]["missing"]
    assert "`sealift clock confirm --by 'Gina Goods'`" in first["clock_missing"]
    assert configuration.load(site.config.at.config_file).service.hostname == "llm.clinic.internal"
    kept = site.config.at.state / "setup/summary.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert not any(code in kept.read_text() for code in [*first["codes"].values(), *again["codes"].values()])
    picture = site.root / "capacity.svg"
    shown = typed(site, "capacity", "--last", "--plot", str(picture))
    assert "B24 acceptable: 7B Q4, 32 cores, 64 GiB, 5-10 tokens/s" in shown.stdout
    assert picture.read_text().startswith("<svg ")


def test_questions_lead_to_the_same_place_and_wrong_answers_are_asked_again(site: RunningSite) -> None:
    wrong = [*TYPED[:1], "ten twenty", *TYPED[1:6], "", *TYPED[6:8], "iris mora", *TYPED[8:]]

    result = typed(site, "setup", lines=[*wrong, "y"])

    assert result.exit_code == 0, (result.exception, result.output)
    assert "that does not hold" in result.stderr
    assert "an answer is needed" in result.stderr
    assert "two different people are needed" in result.stderr
    assert "Iris Mora" in result.stdout
    assert "notes per hour" in result.stdout
    assert "not confirmed" not in result.stdout  # who was asked compared the clock
    # A relay was typed, and below a folder nothing is sent to it: said before people agree, and at the end.
    assert "NO ALERTS" in result.stderr
    assert "not sent: mail to 1 by 10.20.0.25" in result.stdout
    assert "sealift backup recipient" in result.stdout
    found = configuration.load(site.config.at.config_file)
    assert found.network.management == ["10.20.9.0/24"]
    assert found.alerts.mail_to == ["duty@clinic.internal"]
    assert found.backup.folder == "/media/backup"
    assert "tcp 10.20.0.25 25" in found.destinations


def test_what_was_answered_before_is_the_default_of_the_next_time(site: RunningSite) -> None:
    left = typed(site, "setup", lines=[*TYPED, "n"])
    assert "nothing was changed" in left.stdout
    assert configuration.load(site.config.at.config_file) == site.config

    result = typed(site, "setup", "--dry-run", lines=[""] * len(TYPED))

    assert result.exit_code == 0, (result.exception, result.output)
    assert '+hostname = "llm.clinic.internal"' in result.stdout
    assert "/media/backup" in result.stdout


def test_who_administers_is_offered_as_who_was_said_to_use_it_until_somebody_chose(site: RunningSite) -> None:
    administers = TYPED.index("10.20.9.0/24")
    accepted = [*TYPED[:administers], "ten", "", *TYPED[administers + 1 :]]  # a wrong one is not offered again

    plan = done_typing(site, accepted)
    narrowed = ["" if line == "10.20.9.0/24" else line for line in [*TYPED[:2], "10.20.30.0/24", *TYPED[3:]]]
    again = done_typing(site, narrowed)
    done_typing(site, TYPED)
    chosen = done_typing(site, narrowed)

    assert "networks may administer it [10.20.0.0/16]" in plan
    assert "networks may administer it [10.20.30.0/24]" in again
    assert "networks may administer it [10.20.9.0/24]" in chosen


def done_typing(site: RunningSite, lines: list[str]) -> str:
    """Answer all questions, and let nothing be done; return what was said."""
    result = typed(site, "setup", lines=[*lines, "n"])
    assert result.exit_code == 0, (result.exception, result.output)
    assert "nothing was changed" in result.stdout
    return " ".join(result.stderr.split())


def test_a_relay_that_is_asked_for_by_port_and_name_and_taken_away_again(site: RunningSite) -> None:
    secured = [*TYPED[:-3], "twenty-five", "587", "relay.clinic.internal", TYPED[-1]]
    plan = typed(site, "setup", lines=[*secured, "n"])
    said = " ".join(plan.stderr.split())
    assert "that does not hold" in said
    assert "mail to 1 by 10.20.0.25, over TLS as relay.clinic.internal" in said
    assert "+mail_port = 587" in said

    result = typed(site, "setup", "--dry-run", lines=[*[""] * (len(TYPED) - 4), "none"])

    assert result.exit_code == 0, (result.exception, result.output)
    assert "relay.clinic" not in result.stdout
    assert "mail to" not in result.stdout


def test_a_wrong_file_names_the_dotted_key_and_changes_nothing(site: RunningSite) -> None:
    before = site.config.at.config_file.read_bytes()

    refused = typed(site, "setup", "--answers", answers_file(site, ANSWERS.replace("10.20.0.0/16", "10.20/99")))
    other = typed(site, "setup", "--answers", answers_file(site, ANSWERS.replace("[site]", '[site]\nname = "else"')))

    assert isinstance(refused.exception, ConfigError)
    assert refused.exception.what.startswith("network.clients.0: ")
    assert isinstance(other.exception, ConfigError)
    assert other.exception.what.startswith("site.name: ")
    assert site.config.at.config_file.read_bytes() == before


def test_with_people_enrolled_another_answer_is_a_host_change_for_two_people(
    site: RunningSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    sitefile.write(answers.parse(ANSWERS.encode()).config(site.config), site.config.at.config_file)
    name = answers_file(site)
    monkeypatch.setattr("appliance.actions.hostplan.waits_for_people", lambda *_, **__: True)

    same = typed(site, "setup", "--answers", name, "--dry-run")
    refused = typed(site, "setup", "--answers", answers_file(site, ANSWERS.replace("10.20.0.5", "10.20.0.6")))

    assert same.exit_code == 0
    assert isinstance(refused.exception, ConflictError)
