"""What the playbook promises, read from its files; and that Ansible itself accepts it, where it is installed."""

import ast
import configparser
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.sources import last_version

yaml = pytest.importorskip("yaml")

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"
ROLES = sorted(path for path in (ANSIBLE / "roles").iterdir())
TASK_WORDS = {
    *["name", "register", "when", "loop", "notify", "vars", "environment", "changed_when", "failed_when", "check_mode"],
    *["block", "no_log", "loop_control"],
}
FREE_COMMANDS = {"ansible.builtin.command", "ansible.builtin.shell", "ansible.builtin.raw", "ansible.builtin.script"}
WRITERS = {"ansible.builtin.copy", "ansible.builtin.file", "ansible.builtin.template"}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def flat(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        yield task
        yield from flat(task.get("block", []))


def tasks() -> list[tuple[str, dict[str, Any]]]:
    files = [path for role in ROLES for kind in ("tasks", "handlers") for path in sorted((role / kind).glob("*.yml"))]
    return [(path.relative_to(ANSIBLE).as_posix(), task) for path in files for task in flat(load(path))]


def module(task: dict[str, Any]) -> str:
    names = [key for key in task if key not in TASK_WORDS]
    return names[0] if names else "block"


@pytest.mark.parametrize("book", ["site.yml", "uninstall.yml"])
def test_every_play_stops_at_the_first_failure(book: str) -> None:
    plays = load(ANSIBLE / book)

    assert plays
    for play in plays:
        assert play["any_errors_fatal"] is True
        assert play["max_fail_percentage"] == 0
        assert play["connection"] == "local"
        assert play["gather_facts"] is False


def test_what_was_written_is_taken_up_although_a_later_task_failed() -> None:
    settings = configparser.ConfigParser()
    settings.read(ANSIBLE / "ansible.cfg")

    assert settings.getboolean("defaults", "force_handlers")


def test_every_role_is_used_once_and_every_used_role_exists() -> None:
    used = [entry["role"] for play in load(ANSIBLE / "site.yml") for entry in play["roles"]]

    assert sorted(used) == [role.name for role in ROLES]


def test_only_builtin_modules_are_used_by_their_full_names() -> None:
    odd = [(where, module(task)) for where, task in tasks() if module(task) != "block"]

    assert [one for one in odd if not one[1].startswith("ansible.builtin.")] == []


def test_every_task_has_a_name_and_exactly_one_module() -> None:
    for where, task in tasks():
        assert task.get("name"), where
        assert len([key for key in task if key not in TASK_WORDS]) == (0 if "block" in task else 1), (where, task)


def test_a_plan_does_not_depend_on_which_services_run_when_it_is_made() -> None:
    states = [
        task[module(task)].get("state")
        for where, task in tasks()
        if module(task) == "ansible.builtin.systemd_service" and "/tasks/" in where
    ]

    assert states.count("{{ omit if ansible_check_mode else 'started' }}") >= 5
    assert set(states) <= {"{{ omit if ansible_check_mode else 'started' }}", None}


def test_what_a_handler_tells_in_a_plan_does_not_depend_on_systemd() -> None:
    """Scenario: what people approved comes out differently, since systemd was busy and did not answer a handler."""
    handlers = [
        task
        for where, task in tasks()
        if module(task) == "ansible.builtin.systemd_service" and "/handlers/" in where
        if task.get("when") != "not ansible_check_mode"
    ]

    assert len(handlers) >= 6
    for handler in handlers:
        asked = re.fullmatch(r"\{\{ omit if ansible_check_mode else '[a-z]+' \}\}", handler[module(handler)]["state"])
        assert (bool(asked), handler["changed_when"]) == (True, True), handler["name"]


def test_new_packages_start_anew_what_maps_their_libraries() -> None:
    """Scenario: libssl3 comes by a security update, and nginx goes on with the one of before."""
    told = {task["notify"] for _, task in tasks() if task.get("when") == "packages_changed | default(false)"}
    own = [(where, task) for where, task in tasks() if where == "roles/packages/tasks/main.yml"]
    (known,) = (task for _, task in own if module(task) == "ansible.builtin.set_fact")
    brought = {
        task["register"] for _, task in own if module(task) in FREE_COMMANDS and task.get("changed_when") is not False
    }

    assert told == {"Restart Sealift", "Restart monitoring", "Restart nginx"}
    assert len(brought) == 4
    assert set(re.findall(r"packages_\w+", known["ansible.builtin.set_fact"]["packages_changed"])) == brought | {
        "packages_due"
    }


def test_what_is_done_in_turns_has_an_order_so_that_a_plan_is_the_same_in_the_next_process() -> None:
    """Scenario: these filters return what a set has, in an order that no two processes share."""
    of_sets = re.compile(r"\| (difference|intersect|symmetric_difference|union)\(")
    for file, task in tasks():
        for expression in re.findall(r"\{\{.*?\}\}", yaml.safe_dump(task, width=10_000)):
            for found in of_sets.finditer(expression):
                assert "| sort" in expression[found.end() :], (file, task["name"], expression)


def test_roles_ask_for_nothing_without_a_default_that_the_last_version_does_not_give() -> None:
    """Scenario: an upgrade runs the new release's playbook by the code of the version before it."""
    with tarfile.open(last_version()) as archive:
        source = archive.extractfile("appliance/install/playbook.py")
        assert source is not None
        (given,) = (
            ast.literal_eval(line.value)
            for line in ast.parse(source.read()).body
            if isinstance(line, ast.AnnAssign) and ast.unparse(line.target) == "VARIABLES" and line.value is not None
        )

    assert len(given) > 20
    for role in ROLES:
        options = load(role / "meta/argument_specs.yml")["argument_specs"]["main"].get("options", {})
        new = {name: option for name, option in options.items() if name not in given}
        defaults = load(role / "defaults/main.yml") if new else {}
        assert {name: option["default"] for name, option in new.items()} == {name: defaults[name] for name in new}
        assert not any(option.get("required") for option in new.values())


def test_every_command_says_when_it_changed_something_and_uses_no_shell() -> None:
    for where, task in tasks():
        if module(task) in FREE_COMMANDS:
            assert module(task) == "ansible.builtin.command", where
            assert "changed_when" in task, (where, task["name"])
            assert set(task["ansible.builtin.command"]) == {"argv"}, (where, task["name"])


def test_every_template_is_validated_or_is_no_ones_configuration() -> None:
    unchecked = {
        task["ansible.builtin.template"]["src"]
        for _, task in tasks()
        if "ansible.builtin.template" in task and "validate" not in task["ansible.builtin.template"]
    }

    # Its units and the program that tries drop-ins come after it; tests/host/test_others_unit_gates.py judges it whole.
    assert unchecked == {"release.conf.j2", "loopback.conf.j2"}


def test_every_drop_in_of_a_unit_is_tried_beside_its_unit_where_that_can_be() -> None:
    written = [
        (task["name"], task[module(task)])
        for _, task in tasks()
        if module(task) in {"ansible.builtin.copy", "ansible.builtin.template"}
        if re.search(r"/etc/systemd/system/.*[.]d/", task[module(task)]["dest"])
    ]
    tried = [fields["validate"] for _, fields in written if "validate" in fields]

    assert [name for name, fields in written if "validate" not in fields] == ["Keep them on loopback"]
    assert len(tried) == 3
    command = "{{ sealift_python }} -I -m appliance.install.dropintried --units {{ sealift_source }}/systemd "
    assert all(one.startswith(command) and one.endswith(" %s") for one in tried)


def test_what_takes_rights_to_validate_is_handed_to_a_unit_that_has_them() -> None:
    from appliance.install import tried

    validators = [task[module(task)]["validate"] for _, task in tasks() if "validate" in (task.get(module(task)) or {})]
    ours = [one for one in validators if "appliance.install.tried" in one]

    # What checks a file without a right or a network runs where the file is written.
    bare = {one.split()[0] for one in validators if "appliance.install." not in one}
    assert bare == {"promtool", "amtool", "sh"}
    assert sorted(ours) == sorted(
        f"{{{{ sealift_python }}}} -I -m appliance.install.tried {one} %s" for one in tried.KINDS
    )


def test_what_is_tried_comes_after_the_units_that_try_it() -> None:
    (play,) = load(ANSIBLE / "site.yml")
    order = [entry["role"] for entry in play["roles"]]

    assert max(order.index(one) for one in ("accounts", "packages", "units", "tls")) < order.index("nginx")
    assert order.index("units") < order.index("firewall")
    # Drop-ins are tried by the release's own server environment.
    assert order.index("environments") < min(order.index(one) for one in ("units_ahead", "nginx", "firewall"))


def test_every_written_file_states_owner_and_mode() -> None:
    for where, task in tasks():
        if module(task) in WRITERS:
            fields = task[module(task)]
            is_link = fields.get("state") == "link"
            assert {"owner", "group"} <= set(fields), (where, task["name"])
            assert is_link or re.fullmatch(r"0[0-7]{3}", fields["mode"]), (where, task["name"])


def test_every_variable_a_role_uses_is_declared_with_its_type() -> None:
    declared: set[str] = set()
    for role in ROLES:
        options = load(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
        assert all({"type", "required", "description"} <= set(option) for option in options.values())
        text = "".join(
            path.read_text() for path in role.rglob("*") if path.is_file() and not {"meta", "files"} & {*path.parts}
        )
        assert set(re.findall(r"\bsealift_[a-z_]+", text)) == set(options), role.name
        declared |= set(options)

    from appliance.install import playbook

    assert declared == set(playbook.VARIABLES)


def test_nothing_is_fetched() -> None:
    text = "".join(path.read_text() for path in ANSIBLE.rglob("*") if path.is_file())

    assert not re.search(r"https?://(?!gateway|admin|unix:|127\.0\.0\.1:|\{\{ sealift_hostname \}\}:9090)", text)
    assert "get_url" not in text


def test_the_journal_has_limits_and_keeps_ninety_days() -> None:
    settings = configparser.ConfigParser()
    settings.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    settings.read(ANSIBLE / "roles/hardening/files/journald.conf")

    journal = dict(settings["Journal"])
    assert journal["Storage"] == "persistent"
    assert journal["MaxRetentionSec"] == "90day"
    assert (journal["SystemMaxUse"], journal["SystemKeepFree"]) == ("1G", "2G")


def test_the_packet_filter_drops_what_nobody_named() -> None:
    rules = (ANSIBLE / "roles/firewall/templates/nftables.conf.j2").read_text()

    for hook in ("input", "forward", "output"):
        assert re.search(rf"hook {hook} priority filter; policy drop;", rules)
        chain = [line.strip() for line in rules.split(f"chain {hook}")[1].split("    }")[0].splitlines()]
        assert chain[-1].endswith("_refused drop")
        assert not [line for line in chain if "accept" in line and line.endswith("drop")]
        if hook != "forward":
            # What belongs to a connection is judged before anything is dropped (X15).
            assert [line.split(" accept")[0] for line in chain if line.endswith("accept")][:2] == [
                f'{"iif" if hook == "input" else "oif"} "lo"',
                "ct state established,related",
            ]


def test_the_web_server_offers_only_current_tls_and_does_not_buffer_answers() -> None:
    text = (ANSIBLE / "roles/nginx/templates/nginx.conf.j2").read_text()

    assert re.findall(r"ssl_protocols ([^;]+);", text) == ["TLSv1.2 TLSv1.3"]
    assert "proxy_buffering off;" in text
    assert "proxy_cache off;" in text
    assert all(f"proxy_set_header {name} $remote_addr;" in text for name in ("X-Forwarded-For", "X-Real-IP"))
    assert "access_log off;" in text
    assert set(re.findall(r"listen (?:\[::\]:)?([0-9]+) ([^;]+);", text)) == {
        ("443", "ssl http2"),
        ("8443", "ssl http2"),
        ("9090", "ssl http2"),
    }


def test_there_is_no_python_package_in_the_folder() -> None:
    assert not list(ANSIBLE.rglob("__init__.py"))
