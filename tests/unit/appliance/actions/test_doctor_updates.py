"""What the doctor says after an update: services that run with replaced files, and a boot that is due."""

from pathlib import Path

import pytest

from appliance.actions import doctor_updates
from appliance.actions.findings import Finding
from appliance.config import Config, PlacesSection

BOX = Config(site="s", environment="demo")
SSL = "7f00-7f01 r-xp 0000 fe:01 131 /usr/lib/x86_64-linux-gnu/libssl.so.3"
GONE = f"{SSL} (deleted)\n"


def process(folder: Path, number: int, group: str, maps: str) -> Path:
    made = folder / str(number)
    made.mkdir()
    (made / "cgroup").write_text(f"0::{group}\n")
    (made / "maps").write_text(maps)
    return made


def found(folder: Path) -> list[Finding]:
    return list(doctor_updates.services(BOX, folder))


def test_a_service_that_maps_a_replaced_library_is_named_with_the_library(tmp_path: Path) -> None:
    process(tmp_path, 7, "/system.slice/nginx.service", GONE + GONE.replace("libssl", "libcrypto"))
    process(tmp_path, 8, "/system.slice/nginx.service", GONE)
    process(tmp_path, 9, "/sealift.slice/sealift-gateway.service/worker", SSL + "\n")

    (said,) = found(tmp_path)

    assert (said.name, said.is_good) == ("replaced files", None)
    assert said.text == "nginx.service runs with libcrypto.so.3, libssl.so.3 of before"
    assert said.fix


@pytest.mark.parametrize("path", ["/usr/sbin/nginx", "/lib/ld.so", "/usr/lib64/a/b.so", "/bin/x", "/usr/libexec/x"])
def test_programs_and_libraries_of_every_folder_of_debians_count(tmp_path: Path, path: str) -> None:
    process(tmp_path, 1, "/init.scope", f"00-01 r-xp 0000 fe:01 131                {path} (deleted)\n")

    (said,) = found(tmp_path)

    assert said.text == f"init.scope runs with {path.rsplit('/', 1)[1]} of before"


@pytest.mark.parametrize(
    "path", ["/dev/zero", "/memfd:buffer", "/srv/usr/lib/x.so", "/etc/sealift/keys/phi.v1", "/SYSV0"]
)
def test_what_else_is_deleted_and_mapped_is_not_told(tmp_path: Path, path: str) -> None:
    process(tmp_path, 1, "/system.slice/a.service", f"00-01 r-xp 0000 fe:01 131 {path} (deleted)\n")

    (said,) = found(tmp_path)

    assert said.is_good is True
    assert path.rsplit("/", 1)[1] not in said.text


def test_people_s_sessions_are_not_named(tmp_path: Path) -> None:
    process(tmp_path, 1, "/user.slice/user-1000.slice/user@1000.service/app.slice/a.service", GONE)
    process(tmp_path, 2, "/user.slice/user-1000.slice/session-3.scope", GONE)

    (said,) = found(tmp_path)

    assert said.is_good is True


def test_many_files_of_one_service_are_counted(tmp_path: Path) -> None:
    process(tmp_path, 1, "/system.slice/a.service", "".join(GONE.replace("ssl", each) for each in "abcde"))

    (said,) = found(tmp_path)

    assert said.text == "a.service runs with liba.so.3, libb.so.3, libc.so.3 and 2 more of before"


def test_nothing_is_claimed_by_who_may_not_look_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shut = process(tmp_path, 1, "/system.slice/a.service", GONE)
    read = Path.read_text

    def refuse(path: Path, *words: str) -> str:
        if path.parent == shut:
            raise PermissionError
        return read(path, *words)

    monkeypatch.setattr(Path, "read_text", refuse)

    assert found(tmp_path) == []


def test_a_process_that_ended_meanwhile_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()

    (said,) = found(tmp_path)

    assert said.is_good is True


def test_what_others_rest_on_is_renewed_by_a_boot_and_what_is_sealifts_is_restarted(tmp_path: Path) -> None:
    """Scenario: a person restarts dbus.service as told, and nobody logs in any more."""
    units = [
        "dbus.service",
        "nginx.service",
        "systemd-logind.service",
        "getty@tty1.service",
        "sealift-gateway@2.service",
    ]
    for number, unit in enumerate([*units, "prometheus-node-exporter.service"]):
        process(tmp_path, number, f"/system.slice/{unit}", GONE)
    process(tmp_path, 99, "/init.scope", GONE)

    (said,) = found(tmp_path)

    restarted, boot = said.fix.split("; ")
    assert restarted == ("`systemctl restart nginx.service prometheus-node-exporter.service sealift-gateway@2.service`")
    assert boot.endswith("renews dbus.service, getty@tty1.service, init.scope, systemd-logind.service")


_VERSION = (
    "Linux version 6.1.0-28-amd64 (debian-kernel@lists.example) (gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld (GNU"
    " Binutils for Debian) 2.40) #1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)\n"
)
_STATUS = """Package: linux-image-6.1.0-9-amd64
Status: install ok installed
Version: 6.1.27-1

Package: linux-image-6.1.0-28-amd64
Status: install ok installed
Architecture: amd64
Version: 6.1.119-2
Description: Linux 6.1 for 64-bit PCs
 signed

Package: zlib1g
Status: install ok installed
Version: 1:1.2.13
"""


@pytest.mark.parametrize(
    ("version", "status", "is_due"),
    [
        (_VERSION, _STATUS, True),
        (_VERSION.replace("119-1", "119-2"), _STATUS, False),
        (_VERSION, _STATUS.replace("ok installed\nArch", "ok config-files\nArch"), False),
        (_VERSION, _STATUS.replace("6.1.0-28-amd64", "6.1.0-28-cloud-amd64"), False),
        (_VERSION, "", False),
        (_VERSION.replace(" Debian 6.1.119-1", ""), _STATUS, False),
        ("", _STATUS, False),
    ],
)
def test_a_kernel_that_was_replaced_under_its_own_name_is_told_where_debian_tells(
    tmp_path: Path, version: str, status: str, *, is_due: bool
) -> None:
    running = "6.1.0-28-amd64"
    (tmp_path / "version").write_text(version)
    (tmp_path / "status").write_text(status)

    said = due(tmp_path, running, running)

    assert said == ([f"Linux {running} of Debian 6.1.119-1 runs, 6.1.119-2 is installed"] if is_due else [])


def due(folder: Path, running: str, *installed: str, asked: bool = False) -> list[str]:
    (folder / "sys/kernel").mkdir(parents=True)
    (folder / "sys/kernel/osrelease").write_text(running + "\n")
    for name in installed:
        (folder / f"vmlinuz-{name}").touch()
    word = folder / "reboot-required"
    if asked:
        word.touch()
    where = {"processes": folder, "kernels": folder, "asked": word, "packages": folder / "status"}
    return [one.text for one in doctor_updates.boot(BOX, **where)]


def test_a_boot_is_due_where_a_newer_kernel_is_installed_than_runs(tmp_path: Path) -> None:
    said = due(tmp_path, "6.1.0-9-amd64", "6.1.0-9-amd64", "6.1.0-28-amd64")

    assert said == ["Linux 6.1.0-9-amd64 runs, 6.1.0-28-amd64 is installed"]


def test_none_is_due_where_the_newest_runs_or_there_is_none_as_in_a_container(tmp_path: Path) -> None:
    assert due(tmp_path, "6.1.0-28-amd64", "6.1.0-9-amd64", "6.1.0-28-amd64") == []
    for name in ("6.1.0-9-amd64", "6.1.0-28-amd64"):
        (tmp_path / f"vmlinuz-{name}").unlink()
    assert list(doctor_updates.boot(BOX, processes=tmp_path, kernels=tmp_path, asked=tmp_path / "none")) == []


def test_a_boot_is_due_where_a_package_asked_for_it(tmp_path: Path) -> None:
    assert due(tmp_path, "6.1.0-28-amd64", "6.1.0-28-amd64", asked=True) == ["a package asked for it"]


def test_below_a_folder_nothing_is_said_of_the_machine(tmp_path: Path) -> None:
    process(tmp_path, 7, "/system.slice/nginx.service", GONE)
    below = Config(site="s", environment="demo", places=PlacesSection(root=str(tmp_path)))

    assert list(doctor_updates.services(below, tmp_path)) == []
    assert list(doctor_updates.boot(below, processes=tmp_path, kernels=tmp_path, asked=tmp_path)) == []
