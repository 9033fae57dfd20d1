"""What the site file changes about units: keys on a token, a database on a server, cards; otherwise nothing."""

from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.config import Config, KeysSection
from appliance.errors import ConfigError, InstallError, PreflightError
from appliance.install import dropins, hostfiles, keysettings
from appliance.install.answers import Answers, from_values
from appliance.install.playbook import as_data
from appliance.install.sitefile import render
from appliance.install.unit_files import credential_lines

UNITS = hostfiles.folder("systemd")
TOKEN = 'provider = "token"\nmodule = "/usr/lib/hsm.so"\ntoken = "ward 7"\n'
SERVER = '[database]\nkind = "postgresql"\nserver = "db.h"\naddress = "10.0.0.8"\n'


def site(keys: str = "", rest: str = "") -> Config:
    return configuration.parse(f'site = "s"\n{rest}\n[keys]\n{keys}'.encode())


def texts(config: Config, name: str) -> dict[str, str]:
    return {each.unit: each.text for each in dropins.drop_ins(config, UNITS) if each.name == name}


def test_a_site_with_files_changes_nothing_about_its_units() -> None:
    assert dropins.drop_ins(site(), UNITS) == ()
    assert dropins.drop_ins(site('module = "/usr/lib/hsm.so"'), UNITS) == ()


def test_with_a_token_no_unit_loads_a_key_file_and_three_get_the_pin() -> None:
    found = texts(site(TOKEN), dropins.TOKEN)
    loading = {unit for unit, lines in credential_lines(UNITS).items() if any(map(keysettings.is_key, lines))}

    assert set(found) == loading
    assert {unit for unit, text in found.items() if "token-pin" in text} == set(keysettings.USERS)
    for text in found.values():
        lines = text.splitlines()
        assert lines[1:3] == ["[Service]", "LoadCredential="]
        assert not [line for line in lines if line.endswith(".v1")]
    assert "LoadCredential=passwords:/var/lib/sealift/promoter/passwords.json" in found["sealift-backup.service"]
    assert "Private" not in "".join(found.values())


def test_what_the_module_must_reach_is_opened_for_those_three_alone() -> None:
    reach = 'device = "/dev/tpmrm0"\nfolder = "/var/lib/hsm"\ngroup = "tss"\naddress = "tcp 10.0.0.9 1792"\n'
    config = site(TOKEN + reach)
    found = texts(config, dropins.TOKEN)

    for unit in keysettings.USERS:
        lines = set(found[unit].splitlines())
        assert {"DeviceAllow=/dev/tpmrm0 rw", "BindPaths=-/dev/tpmrm0", "ReadWritePaths=/var/lib/hsm"} <= lines
        assert {"SupplementaryGroups=tss", "PrivateNetwork=no", "IPAddressAllow=10.0.0.9"} <= lines
    assert "IPAddressAllow=10.0.0.9" in found[dropins.INSTALL]
    # It makes and destroys keys of years on the token, and reads the PIN as root's commands do.
    assert "DeviceAllow=/dev/tpmrm0 rw" in found[dropins.RETENTION]
    assert "LoadCredential" not in found[dropins.RETENTION]
    assert "DeviceAllow" not in found["sealift-backup.service"]
    assert "tcp 10.0.0.9 1792" in config.destinations


def test_whoever_gets_an_address_gets_the_network_that_leads_there() -> None:
    config = site(f'{TOKEN}address = "tcp 10.0.0.9 1792"\n', rest=SERVER)

    for each in dropins.drop_ins(config, UNITS):
        lines = each.text.splitlines()
        if any(line.startswith("IPAddressAllow=") for line in lines):
            assert {"PrivateNetwork=no", "RestrictAddressFamilies=AF_INET AF_INET6"} <= set(lines), each.unit


def test_a_database_on_a_server_gives_each_unit_its_role_its_authority_and_one_address(tmp_path: Path) -> None:
    config = site(rest=SERVER + f'[places]\nroot = "{tmp_path}"')
    found = texts(config, dropins.DATABASE)

    for unit, role in dropins.ROLES.items():
        assert f"LoadCredential=database-{role}:/etc/sealift/database/database-{role}\n" in found[unit]
        assert "LoadCredential=server-authority.pem:/etc/sealift/database/server-authority.pem\n" in found[unit]
        assert found[unit].count("database-") == 2
        assert "IPAddressAllow=10.0.0.8\n" in found[unit]
    with pytest.raises(PreflightError) as caught:
        dropins.require_secrets(config)
    assert "database-ledger" in caught.value.why
    assert str(tmp_path) not in caught.value.why
    config.at.database_secrets.mkdir(parents=True)
    for name in ("server-authority.pem", "database-ledger", "database-state", "database-reader"):
        (config.at.database_secrets / name).write_text("x")
    dropins.require_secrets(config)
    asked = site(rest=SERVER + f'client = true\n[places]\nroot = "{tmp_path}"')
    loaded = texts(asked, dropins.DATABASE)["sealift-admin.service"]
    assert "LoadCredential=database-state.pem:/etc/sealift/database/database-state.pem\n" in loaded
    with pytest.raises(PreflightError) as caught:
        dropins.require_secrets(asked)
    assert "database-ledger.pem, database-reader.pem, database-state.pem" in caught.value.why
    assert dropins.drop_ins(site(rest='[database]\nkind = "postgresql"\nsocket = "/run/postgresql"'), UNITS) == ()


def test_a_node_has_all_its_keys_committed_to_before_its_ledger_starts_and_a_single_one_has_not() -> None:
    (found,) = texts(site(rest=f'{SERVER}node = "a"\n'), dropins.NODE).items()

    assert found[0] == "sealift-ledger.service"
    assert "ExecStartPre=-+/opt/sealift/current/server/bin/python -I -m appliance.keys.commitments" in found[1]
    assert not texts(site(rest=SERVER), dropins.NODE)


def test_a_witness_and_a_box_of_two_speak_with_the_boxes_that_they_name_and_no_other() -> None:
    witness = site(rest='[standby]\nlisten = "10.9.0.3"\nboxes = ["10.9.0.1", "10.9.0.2"]\n')
    one = site(rest='[standby]\nlisten = "10.9.0.1"\npeer_address = "10.9.0.2"\nwitness_address = "10.9.0.3"\n')

    def allowed(config: Config) -> dict[str, list[str]]:
        found = texts(config, dropins.STANDBY)
        return {unit: [line for line in text.splitlines() if line.startswith("IP")] for unit, text in found.items()}

    assert allowed(witness) == {
        "sealift-standby.service": ["IPAddressAllow=10.9.0.1", "IPAddressAllow=10.9.0.2"],
    }
    assert allowed(one) == {
        "sealift-standby.service": ["IPAddressAllow=10.9.0.2", "IPAddressAllow=10.9.0.3"],
        "sealift-standby-sync.service": ["IPAddressAllow=10.9.0.2"],
    }
    assert not allowed(site(rest='[standby]\nlisten = "10.9.0.3"\n'))


def test_a_lease_that_comes_or_goes_is_a_change_of_the_host_so_that_gateways_start_anew() -> None:
    named = '[standby]\nlisten = "10.9.0.1"\npeer_address = "10.9.0.2"\nlease = '
    without, leased = (set(texts(site(rest=named + word), dropins.STANDBY)) for word in ("false\n", "true\n"))

    assert leased - without == {f"sealift-gateway{kind}.service" for kind in ("", "@", "-test")}
    assert not without - leased


def test_units_reach_a_server_that_is_named_before_the_records_move_there(tmp_path: Path) -> None:
    before = site(rest=SERVER.replace('"postgresql"', '"sqlite"') + f'[places]\nroot = "{tmp_path}"')
    after = site(rest=SERVER + f'[places]\nroot = "{tmp_path}"')

    assert dropins.drop_ins(before, UNITS) == dropins.drop_ins(after, UNITS) != ()
    assert before.destinations == after.destinations == ("tcp 10.0.0.8 5432",)
    with pytest.raises(PreflightError):
        dropins.require_secrets(before)


@pytest.mark.parametrize(
    "keys",
    [
        'provider = "token"',
        TOKEN.replace("/usr/lib/hsm.so", "hsm.so"),
        TOKEN + 'device = "/etc/shadow"',
        TOKEN + 'folder = "/var/lib/a b"',
        TOKEN + 'folder = "/var/lib/../../etc"',
        TOKEN + 'folder = "/var/lib/%h"',
        TOKEN + 'group = "tss\\nUser=root"',
        TOKEN + 'address = "10.0.0.9"',
        TOKEN + 'variables = ["LD_PRELOAD=/x.so"]',
        TOKEN + 'variables = ["PYTHONPATH=/x"]',
        TOKEN + 'variables = ["HSM_PIN=271828"]',
        TOKEN + 'pin = "271828"',
        TOKEN.replace("ward 7", "a label that is longer than a token's"),
    ],
)
def test_what_is_no_token_or_would_be_another_line_of_a_unit_is_refused(keys: str) -> None:
    with pytest.raises(ConfigError) as caught:
        site(keys)

    assert "271828" not in f"{caught.value.what}{caught.value.why}"


def test_the_token_of_an_answers_file_stands_in_the_site_file_and_stays_where_none_is_answered() -> None:
    said = {"provider": "token", "module": "/usr/lib/hsm.so", "token": "ward 7"}
    answers: dict[str, object] = {
        "format": 1,
        "site": {"hostname": "llm.h", "name": "s"},
        "network": {"addresses": ["10.0.0.5"]},
        "time": {"confirmed_by": "Ada L"},
        "people": {"names": ["Ada L", "Bo N"]},
    }

    made = from_values({**answers, "keys": said}).config(None)
    again = from_values(answers).config(made)

    assert isinstance(Answers.model_fields["keys"].default, KeysSection)
    assert made.keys == again.keys == KeysSection.model_validate(said)
    assert configuration.parse(render(made).encode()).keys == made.keys


def test_what_a_drop_in_says_is_data_to_the_playbook() -> None:
    made = dropins.drop_ins(site(TOKEN.replace("ward 7", "{{ lookup('pipe', 'id') }}"[:30])), UNITS)

    assert as_data({"sealift_drop_ins": [each.to_json() for each in made]}).startswith("!unsafe ")
    assert "lookup" not in "".join(each.text for each in made)


def test_engines_of_a_stage_see_the_cards_that_are_theirs_in_the_order_of_the_bus() -> None:
    card = "GPU-0a1b2c3d-0000-1111-2222-333344445555"
    found = texts(site(rest=f'[engines.production]\ngpus = [0, 2]\n[engines.test]\ngpus = ["{card}"]'), dropins.GPUS)

    assert {unit: text.splitlines()[1:] for unit, text in found.items()} == {
        f"sealift-engine-{stage}@.service": [
            "[Service]",
            "Environment=CUDA_DEVICE_ORDER=PCI_BUS_ID",
            f"Environment=CUDA_VISIBLE_DEVICES={cards}",
            *more,
        ]
        for stage, cards, more in (
            # Which knows no other names of cards, and would count a driver for processors among them.
            (
                "production",
                "0,2",
                ["Environment=GGML_VK_VISIBLE_DEVICES=0,2", "Environment=VK_LOADER_DRIVERS_DISABLE=*lvp*"],
            ),
            ("test", card, []),
        )
    }
    assert set(texts(site(rest="[engines.test]\ngpus = [1]"), dropins.GPUS)) == {"sealift-engine-test@.service"}


@pytest.mark.parametrize(
    "cards",
    ["[0, 0]", "[-1]", "[64]", '["0"]', '["GPU-1"]', '["all"]', "[0.5]", "[true]", '"0,1"', '["0\\nUser=root"]'],
)
def test_what_names_no_card_or_one_twice_is_refused(cards: str) -> None:
    with pytest.raises(ConfigError, match=r"engines\.production\.gpus"):
        site(rest=f"[engines.production]\ngpus = {cards}")


def test_engines_of_both_stages_get_the_additions_that_their_environments_need_and_no_other() -> None:
    engines = {"sealift-engine-production@.service", "sealift-engine-test@.service"}

    for needed in ({"vllm"}, {"gpu"}, {"vllm", "gpu"}):
        found = dropins.drop_ins(site(), UNITS, needed=needed)
        assert {(each.unit, each.name) for each in found} == {(u, dropins.ENGINES[n]) for u in engines for n in needed}
        for each in found:
            (addition,) = (addition for addition, name in dropins.ENGINES.items() if name == each.name)
            assert each.text == (UNITS / f"variants/{addition}.conf").read_text()


def test_a_release_without_an_addition_that_is_needed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="no addition to engines' units for vllm"):
        dropins.drop_ins(site(), tmp_path, needed={"vllm"})


def test_what_reaches_a_database_is_told_without_the_releases_units() -> None:
    config = site(rest=f"{SERVER}[engines.test]\ngpus = [0]")

    assert {each.name for each in dropins.of_database(config)} == {dropins.DATABASE}
    assert dropins.of_database(config) == dropins.of_database(site(rest=SERVER))


def test_a_stage_that_is_given_cards_may_open_them_and_the_other_may_not() -> None:
    found = texts(site(rest="[engines.test]\ngpus = [2]"), dropins.ENGINES["gpu"])

    assert list(found) == ["sealift-engine-test@.service"]


@pytest.mark.parametrize("playbook", ["roles/units_ahead/tasks/main.yml", "uninstall.yml"])
def test_whatever_a_site_file_once_asked_for_is_found_again_to_be_removed(playbook: str) -> None:
    told = (hostfiles.folder("ansible") / playbook).read_text()

    assert [name for name in dropins.NAMES if name not in told] == []
