"""The rules of media and of USB, evaluated by udev itself on devices made of files; and what they must never do."""

import re
from pathlib import Path

import pytest

from appliance.install.supervisor import require_unit_name
from tests.support.udev import AVAILABLE, Event, FakeMachine
from tests.support.unit_files import SYSTEMD

RULES = SYSTEMD / "udev/70-sealift-media.rules"
STICK = "pci0000:00/usb1/1-1"
SITE = ":storage:input:smartcard:"
needs_udev = pytest.mark.skipif(not AVAILABLE, reason="no udevadm, or not root")


class Machine(FakeMachine):
    def __init__(self, root: Path, *, allowed: str | None = SITE) -> None:
        super().__init__(root)
        policy = root / "usb.env"
        if allowed is not None:
            policy.write_text(f"SEALIFT_USB={allowed}\n")
        self.rules("60-blkid.rules", 'SUBSYSTEM=="block", ENV{ID_FS_USAGE}="filesystem"\n')
        self.rules(RULES.name, RULES.read_text().replace("/etc/sealift/usb.env", str(policy)))

    def device(self, interfaces: str, path: str = STICK) -> None:
        self.add(path, subsystem="usb", uevent={"DEVTYPE": "usb_device"}, attributes={})
        self.remember(f"+usb:{Path(path).name}", {"ID_USB_INTERFACES": interfaces})

    def interface(self, usb_class: str, number: int = 0, path: str = STICK) -> tuple[str, Event]:
        """Let an interface of a device appear; returns what its `authorized` is then, and the event."""
        where = f"{path}/{Path(path).name}:1.{number}"
        attributes = {"bInterfaceClass": usb_class, "authorized": "?"}
        folder = self.add(where, subsystem="usb", uevent={"DEVTYPE": "usb_interface"}, attributes=attributes)
        event = self.event(where)
        return (folder / "authorized").read_text().strip(), event

    def disk(self, below: str, name: str, kind: str = "partition") -> Event:
        path = f"{below}/block/{name}"
        self.add(path, subsystem="block", uevent={"DEVTYPE": kind, "DEVNAME": name}, attributes={})
        return self.event(path)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


@needs_udev
def test_udev_reads_every_rule_without_a_complaint_and_would_complain(machine: Machine) -> None:
    machine.device(":080650:")
    assert machine.interface("08")[1].complaints == ()

    machine.rules("71-bad.rules", 'SUBSYSTEMM=="usb", ENV{X}="1"\n')
    assert any("71-bad.rules:1" in line for line in machine.event(STICK).complaints)


@needs_udev
@pytest.mark.parametrize(
    ("usb_class", "interfaces", "expected"),
    [
        ("08", ":080650:", "1"),
        ("09", ":090000:", "1"),
        ("03", ":030101:", "1"),
        ("0b", ":0b0000:", "1"),
        ("02", ":020600:0a0000:", "0"),
        ("0a", ":020600:0a0000:", "0"),
        ("e0", ":e00103:", "0"),
        ("ff", ":ff0000:", "0"),
        ("0e", ":0e0100:", "0"),
        # A stick that also types: its storage works, its keyboard does not.
        ("08", ":080650:030101:", "1"),
        ("03", ":080650:030101:", "0"),
    ],
)
def test_an_interface_works_only_where_the_site_allows_its_class(
    machine: Machine, usb_class: str, interfaces: str, expected: str
) -> None:
    machine.device(interfaces)
    authorized, event = machine.interface(usb_class)

    assert authorized == expected
    assert event.properties["SEALIFT_USB_ALLOWED"] == expected
    probed = (machine.root / "sys/bus/usb/drivers_probe").read_text()
    assert probed == ("1-1:1.0" if expected == "1" else "")


@needs_udev
def test_a_site_that_allows_storage_alone_has_no_keyboards(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", allowed=":storage:")
    machine.device(":030101:")

    assert machine.interface("03")[0] == "0"


@needs_udev
def test_a_site_that_allows_nothing_has_nothing_but_hubs(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", allowed="::")
    attributes = {"interface_authorized_default": "1"}
    hub = machine.add("pci0000:00/usb1", subsystem="usb", uevent={"DEVTYPE": "usb_device"}, attributes=attributes)
    machine.event("pci0000:00/usb1")
    machine.device(":080650:")
    machine.device(":090000:", "pci0000:00/usb1/1-2")

    assert (hub / "interface_authorized_default").read_text().strip() == "0"
    assert machine.interface("08")[0] == "0"
    assert machine.interface("09", path="pci0000:00/usb1/1-2")[0] == "1"


@needs_udev
@pytest.mark.parametrize("allowed", [None, ":any:", ""])
def test_without_a_policy_usb_is_left_as_it_is(tmp_path: Path, allowed: str | None) -> None:
    machine = Machine(tmp_path / "machine", allowed=allowed)
    machine.device(":020600:")

    assert machine.interface("02")[0] == "?"


@needs_udev
def test_a_host_controller_takes_no_interface_into_use_by_itself(machine: Machine) -> None:
    attributes = {"interface_authorized_default": "1"}
    hub = machine.add("pci0000:00/usb1", subsystem="usb", uevent={"DEVTYPE": "usb_device"}, attributes=attributes)
    machine.event("pci0000:00/usb1")
    assert (hub / "interface_authorized_default").read_text().strip() == "0"

    machine.device(":080650:")
    assert not (machine.root / "sys/devices" / STICK / "interface_authorized_default").exists()


@needs_udev
def test_a_site_that_allows_any_again_has_its_controllers_as_they_were(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", allowed=":any:")
    attributes = {"interface_authorized_default": "0"}
    hub = machine.add("pci0000:00/usb1", subsystem="usb", uevent={"DEVTYPE": "usb_device"}, attributes=attributes)

    machine.event("pci0000:00/usb1", "change")

    assert (hub / "interface_authorized_default").read_text().strip() == "1"


@needs_udev
@pytest.mark.parametrize("action", ["remove", "unbind"])
def test_nothing_is_decided_about_what_goes(machine: Machine, action: str) -> None:
    """Else a driver that somebody took from a device would have it again."""
    machine.device(":080650:")
    attributes = {"bInterfaceClass": "08", "authorized": "?"}
    where = f"{STICK}/1-1:1.0"
    folder = machine.add(where, subsystem="usb", uevent={"DEVTYPE": "usb_interface"}, attributes=attributes)

    machine.event(where, action)

    assert (folder / "authorized").read_text().strip() == "?"


@needs_udev
@pytest.mark.parametrize("name", ["sdb", "sdb1", "sdc12"])
def test_a_stick_is_served_by_our_unit_and_left_alone_by_the_desktop(machine: Machine, name: str) -> None:
    machine.device(":080650:")
    machine.interface("08")
    properties = machine.disk(f"{STICK}/1-1:1.0/host0/target0:0:0/0:0:0:0", name).properties

    assert properties["SYSTEMD_WANTS"] == f"sealift-media@{name}.service"
    assert require_unit_name(properties["SYSTEMD_WANTS"])
    assert (properties["UDISKS_IGNORE"], properties["UDISKS_AUTO"]) == ("1", "0")
    assert ":systemd:" in properties["TAGS"]


@needs_udev
def test_a_disc_is_served_too_and_a_disk_of_the_machine_is_not(machine: Machine) -> None:
    assert "SYSTEMD_WANTS" in machine.disk("pci0000:00/ata2/host1/target1:0:0/1:0:0:0", "sr0", "disk").properties

    inside = machine.disk("pci0000:00/ata1/host0/target0:0:0/0:0:0:0", "sda1").properties
    nvme = machine.disk("pci0000:00/nvme/nvme0", "nvme0n1p1").properties
    for properties in (inside, nvme):
        assert "SYSTEMD_WANTS" not in properties
        assert "UDISKS_IGNORE" not in properties


def test_rules_run_no_program_mount_nothing_and_change_no_right() -> None:
    text = re.sub(r"(?m)^#.*$", "", RULES.read_text())

    assert not re.search(r"RUN|PROGRAM|IMPORT\{program\}|SYSTEMD_MOUNT|MODE|OWNER|GROUP|SYMLINK|OPTIONS", text)
    assert set(re.findall(r"sealift-[a-z]+@", text)) == {"sealift-media@"}
    assert (SYSTEMD / "sealift-media@.service").is_file()


def test_every_jump_has_its_place_further_down() -> None:
    lines = RULES.read_text().splitlines()
    places = {found[1]: number for number, line in enumerate(lines) if (found := re.match(r'LABEL="(\w+)"', line))}

    for number, line in enumerate(lines):
        for target in re.findall(r'GOTO="(\w+)"', line):
            assert places[target] > number, line
