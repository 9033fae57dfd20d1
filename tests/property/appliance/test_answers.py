"""Answers and site files: whatever is in a file, only our error comes out; what is written means the same."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import config as configuration
from appliance.config import Config
from appliance.errors import ConfigError
from appliance.install import answers, questions, sitefile

GOOD: dict[str, Any] = {
    "format": 1,
    "site": {"name": "s", "hostname": "llm.internal"},
    "network": {"addresses": ["10.0.0.5"]},
    "time": {"confirmed_by": "Gina Goods"},
    "people": {"names": ["Iris Mora", "Omar Haddad"]},
}
ATOMS = (
    st.none() | st.booleans() | st.integers(-3, 9) | st.text(max_size=12) | st.lists(st.text(max_size=9), max_size=3)
)
NAMES = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=2, max_size=40)
PLACES = [
    *("format", "profile", "site.hostname", "site.name", "site.environment", "site.colour"),
    *("network.addresses", "network.clients", "network.management", "tls.authority", "time.servers"),
    *("time.confirmed_by", "people.names", "backup.folder", "alerts.mail_relay", "alerts.mail_to", "alerts.mail_port"),
    *("backup.disk", "backup.erase", "monitoring.enabled", "install.serial", "capacity.seconds", "capacity.people"),
]


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_answers_or_our_error(untrusted: bytes) -> None:
    with pytest.raises(ConfigError):
        answers.parse(untrusted)


@given(st.sampled_from(PLACES), ATOMS)
def test_any_value_in_any_place_holds_or_is_refused_by_its_dotted_key(key: str, value: Any) -> None:
    values = {name: dict(part) if isinstance(part, dict) else part for name, part in GOOD.items()}
    questions.put(values, key, value)

    try:
        config = answers.from_values(values).config(None)
    except ConfigError as error:
        named = error.what.partition(":")[0]
        assert key.startswith(named) or named.startswith(key)
    else:
        assert configuration.parse(sitefile.render(config).encode()) == config


@given(NAMES, NAMES)
def test_kept_answers_are_read_back_as_they_were_typed(first: str, second: str) -> None:
    values = GOOD | {"people": {"names": [first, second]}}

    assert tomllib.loads(sitefile.toml(values)) == values


@given(st.text(max_size=30), st.integers(0, 65535))
def test_a_site_file_means_what_was_written(profile: str, port: int) -> None:
    config = Config.model_validate({"site": "s", "profile": profile, "service": {"gateway_port": port}})

    assert configuration.parse(sitefile.render(config).encode()) == config


def test_the_first_missing_key_is_named_and_the_others_after_it() -> None:
    with pytest.raises(ConfigError) as refused:
        answers.parse(b'format = 1\n[site]\nhostname = "a"\n')

    assert refused.value.what == "network: it must be given"
    assert "time, people" in refused.value.why


def test_another_format_is_named_before_anything_else() -> None:
    with pytest.raises(ConfigError, match="format: this program reads format 1"):
        answers.parse(b'format = 2\nsurprise = "x"\n')


def test_one_person_under_two_spellings_is_not_two() -> None:
    with pytest.raises(ConfigError, match=r"people\.names: two different people are needed"):
        answers.from_values(GOOD | {"people": {"names": ["Iris Mora", " iris mora"]}})


@pytest.mark.parametrize(
    "name", ["/dev/sdb", "sdb", "sdb1", "nvme0n1", "/dev/nvme0n1p2", "sr0", "/dev/mapper/x", "a\nb"]
)
def test_a_disk_is_never_named_as_the_kernel_names_it(name: str) -> None:
    backup = {"folder": "/media/b", "disk": name, "erase": True}

    with pytest.raises(ConfigError, match=r"backup\.disk: .*(serial number|by-id)"):
        answers.from_values(GOOD | {"backup": backup})


@pytest.mark.parametrize("name", ["X1", "usb-Maker_Disk_X1-0:0", "/dev/disk/by-id/usb-Maker_Disk_X1-0:0", "WD 12"])
def test_a_disk_is_named_by_what_stays_and_the_site_file_does_not_name_it(name: str) -> None:
    given = answers.from_values(GOOD | {"backup": {"folder": "/media/b", "disk": name}})

    assert given.backup.disk == name.removeprefix("/dev/disk/by-id/")
    assert "X1" not in sitefile.render(given.config(None))


def test_a_file_that_names_a_disk_allows_that_it_is_erased_and_says_where_it_goes() -> None:
    text = sitefile.toml(GOOD) + '[backup]\n{}disk = "X1"\n{}'
    folder, erase = 'folder = "/media/b"\n', "erase = true\n"

    with pytest.raises(ConfigError, match=r"backup\.erase: a disk is named, and nothing allows"):
        answers.parse(text.format(folder, "").encode())
    with pytest.raises(ConfigError, match=r"backup\.disk: a disk needs backup\.folder"):
        answers.parse(text.format("", erase).encode())
    assert answers.parse(text.format(folder, erase).encode()).backup.disk == "X1"


RELAY = {"mail_relay": "10.0.0.25", "mail_port": 465, "mail_to": ["duty@h.internal"]}
REFUSED: list[tuple[str, Any, dict[str, Any]]] = [
    ("network.clients", [], {}),  # the rules would let nobody in
    ("network.management", [], {}),
    ("network.addresses", [], {}),
    *(
        ("network.addresses", ["10.0.0.5", text], {})
        for text in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255")  # noqa: S104 - refused
    ),
    *(("network.addresses", [text], {}) for text in ("::", "::1", "ff02::1", "::ffff:10.0.0.5", "fe80::1%eth0")),
    ("people.names.1", "Iris  mora", {}),
    ("people.names.1", "Iris\u200b Mora", {}),
    ("people.names.1", "\u202eBen Young", {}),
    *(("time.servers", [text], {}) for text in ("0.0.0.0", "224.0.0.1", "ff02::1")),  # noqa: S104 - refused
    *(("alerts.mail_relay", text, {"alerts": RELAY}) for text in ("0.0.0.0", "255.255.255.255")),  # noqa: S104
    ("alerts.mail_server", "", {"alerts": RELAY}),
]


@pytest.mark.parametrize(("key", "value", "given"), REFUSED)
def test_a_file_of_answers_accepts_what_the_questions_accept(key: str, value: Any, given: dict[str, Any]) -> None:
    values = {name: dict(part) if isinstance(part, dict) else part for name, part in (GOOD | given).items()}
    questions.put(values, key, value)
    (prompt,) = (one for each in questions.QUESTIONS for one in each.prompts if one.key == key)

    assert questions.fault_of(values, prompt)
    with pytest.raises(ConfigError) as refused:
        answers.from_values(values)

    assert refused.value.what.startswith(key.removesuffix(".1"))


def test_a_relay_that_speaks_tls_from_the_first_byte_is_taken_with_its_name() -> None:
    given = answers.from_values(GOOD | {"alerts": RELAY | {"mail_server": "mail.h.internal"}})

    assert given.config(None).alerts.mail_server == "mail.h.internal"
    assert answers.from_values(GOOD | {"alerts": {"mail_port": 465}}).alerts.mail_port == 465


def test_who_may_administer_is_who_may_use_where_that_is_left_out() -> None:
    assert answers.from_values(GOOD).config(None).network.management == Config(site="s").network.clients


def test_what_is_left_out_is_its_default_and_what_nobody_is_asked_for_stays() -> None:
    there = Config.model_validate(
        {
            "site": "s",
            "environment": "demo",
            "profile": "other",
            "network": {"addresses": ["10.0.0.9"], "egress": ["tcp 10.0.0.7 443"]},
            "tls": {"authority": "facility", "clients": "optional"},
            "time": {"servers": ["10.0.0.8"]},
            "backup": {"folder": "/media/b", "keep": 30},
            "alerts": {"syslog": "tcp 10.0.0.6 6514"},
            "monitoring": {"enabled": True},
            "limits": {"queue_length": 7},
            "keys": {"provider": "token", "module": "/usr/lib/p11.so", "token": "box"},
        }
    )

    found = answers.from_values(GOOD).config(there)

    assert (found.profile, found.tls.authority, found.time.servers) == ("single-cpu", "own", [])
    assert (found.backup.folder, found.alerts.syslog) == ("", "")
    assert (found.network.egress, found.tls.clients, found.backup.keep) == (["tcp 10.0.0.7 443"], "optional", 30)
    assert (found.environment, found.monitoring, found.limits, found.keys) == (
        *(there.environment, there.monitoring, there.limits, there.keys),
    )
