"""What a site lets in by USB, on a whole computer: drivers are Linux's own, devices are QEMU's or the kernel's gadgets.

A driver that has a device is the proof that it works, and a device without one that it does nothing.
"""

from collections.abc import Iterator

import pytest

from tests.hardware.computer import USB, Computer

pytestmark = pytest.mark.hardware

# A stick that also types, made by the kernel's own USB device side on a bus of its own.
_GADGET = """
set -e
modprobe dummy_hcd
modprobe libcomposite
mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
cd /sys/kernel/config/usb_gadget
mkdir both && cd both
echo 0x1d6b > idVendor
echo 0x0104 > idProduct
mkdir -p strings/0x409 configs/c.1 functions/mass_storage.0 functions/hid.0
echo both > strings/0x409/serialnumber
truncate -s 8M /root/cells
echo 1 > functions/mass_storage.0/lun.0/removable
echo /root/cells > functions/mass_storage.0/lun.0/file
echo 1 > functions/hid.0/protocol
echo 1 > functions/hid.0/subclass
echo 8 > functions/hid.0/report_length
keys='\\x05\\x01\\x09\\x06\\xa1\\x01\\x05\\x07\\x19\\xe0\\x29\\xe7'
keys="$keys\\x15\\x00\\x25\\x01\\x75\\x01\\x95\\x08\\x81\\x02\\xc0"
printf "$keys" > functions/hid.0/report_desc
ln -s functions/mass_storage.0 functions/hid.0 configs/c.1
ls /sys/class/udc > UDC
"""


def interfaces(computer: Computer, product: str) -> dict[str, tuple[str, str]]:
    """Return whether it is let in, and its driver, for the class of each interface of a device; waits for it."""
    script = f"""
device=$(dirname $(grep -l '{product}' /sys/bus/usb/devices/*/product | head -n 1)) || exit 1
udevadm settle --timeout=30
ls -d $device/*:* > /dev/null || exit 1
for each in $device/*:*; do
  echo $(cat $each/bInterfaceClass) $(cat $each/authorized) $(basename "$(readlink $each/driver || echo none)")
done"""
    rows = [line.split() for line in computer.until(script).splitlines()]
    return {usb_class: (authorized, driver) for usb_class, authorized, driver in rows}


@pytest.fixture
def allowed(computer: Computer) -> Iterator[None]:
    """Put the site's own word back afterwards."""
    yield
    say(computer, USB)


def say(computer: Computer, text: str) -> None:
    """Let the site allow something else, as the install does it: the file, and the rules read anew."""
    computer.shell(
        f"printf '{text}' > /etc/sealift/usb.env; udevadm control --reload; "
        "udevadm trigger --settle --subsystem-match=usb --sysname-match='usb[0-9]*'"
    )


def test_what_was_plugged_in_before_the_boot_works_only_where_the_site_allows_it(computer: Computer) -> None:
    """The first programs of a boot know no rule of ours: what they let in is sent away again."""
    adapter = interfaces(computer, "RNDIS/QEMU USB Network Device")

    assert set(adapter.values()) == {("0", "none")}
    assert computer.shell("ls /sys/class/net").stdout.split() == ["lo"]
    assert set(interfaces(computer, "QEMU USB SERIAL").values()) == {("0", "none")}
    assert computer.shell("ls /dev/ttyUSB*").returncode != 0


def test_a_card_reader_works_and_a_keyboard_does_not_where_the_site_says_so(computer: Computer) -> None:
    computer.plug("usb-ccid", "reader")
    computer.plug("usb-kbd", "keys")

    assert interfaces(computer, "QEMU USB CCID")["0b"][0] == "1"
    assert interfaces(computer, "QEMU USB Keyboard") == {"03": ("0", "none")}
    assert "QEMU USB Keyboard" not in computer.shell("cat /proc/bus/input/devices").stdout
    computer.pull("keys")
    computer.pull("reader")


def test_a_stick_that_also_types_stores_and_does_not_type(computer: Computer, allowed: None) -> None:
    say(computer, "SEALIFT_USB=:storage:input:\n")
    made = computer.shell(_GADGET)
    assert made.returncode == 0, made.stdout

    script = """for each in /sys/bus/usb/devices/*:*; do
  grep -qx both $each/../serial || continue
  echo $(cat $each/bInterfaceClass $each/authorized) $(basename "$(readlink $each/driver || echo none)")
done | grep ."""
    computer.until(f"({script}) | grep usb-storage")

    assert sorted(computer.shell(script).stdout.splitlines()) == ["03 0 none", "08 1 usb-storage"]
    computer.shell("echo '' > /sys/kernel/config/usb_gadget/both/UDC")


def test_a_keyboard_works_where_input_is_allowed_and_everything_where_any_is(computer: Computer, allowed: None) -> None:
    say(computer, "SEALIFT_USB=:storage:input:\n")
    computer.plug("usb-kbd", "keys")
    assert interfaces(computer, "QEMU USB Keyboard") == {"03": ("1", "usbhid")}
    computer.pull("keys")

    say(computer, "SEALIFT_USB=:any:\n")
    computer.ask("chardev-add", id="wire", backend={"type": "null", "data": {}})
    computer.plug("usb-serial", "second", chardev="wire", always_plugged=True)

    computer.until("ls /dev/ttyUSB*")
    computer.pull("second")
