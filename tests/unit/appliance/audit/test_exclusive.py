from pathlib import Path

import pytest

from appliance.audit.exclusive import file_system_of, require_local, take
from appliance.errors import LedgerUnavailableError
from tests.support.mounts import LOCAL, NOT_LOCAL

MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:20 / /proc rw - proc proc rw
23 21 0:40 / /srv/share rw - nfs4 server:/export rw
24 21 0:41 / /srv/a\\040b rw - xfs /dev/sdb1 rw
25 21 0:42 / /srv/ssh rw - fuse.sshfs me@host: rw
26 21 0:43 / /srv/twice rw - cifs //host/share rw
27 26 0:44 / /srv/twice rw - btrfs /dev/sdc rw
broken line
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/", "ext4"),
        ("/srv/share/ledger", "nfs4"),
        ("/srv/shared", "ext4"),
        ("/srv/a b/ledger", "xfs"),
        ("/srv/ssh", "fuse.sshfs"),
        ("/srv/twice/x", "btrfs"),
    ],
)
def test_the_innermost_and_latest_mount_says_the_type(folder: str, kind: str) -> None:
    assert file_system_of(Path(folder), MOUNTS) == kind


@pytest.mark.parametrize("kind", NOT_LOCAL)
def test_a_remote_or_user_space_file_system_is_refused(tmp_path: Path, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 0:1 / / rw - {kind} source rw\n")

    with pytest.raises(LedgerUnavailableError) as caught:
        require_local(tmp_path, mounts)

    assert kind in caught.value.why


@pytest.mark.parametrize("kind", LOCAL)
def test_the_disk_of_this_machine_is_local(tmp_path: Path, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 0:1 / / rw - {kind} /dev/sda1 rw\n")

    require_local(tmp_path, mounts)


def test_a_second_writer_is_kept_out_until_the_first_lets_go(tmp_path: Path) -> None:
    with take(tmp_path), pytest.raises(LedgerUnavailableError):
        take(tmp_path, wait_seconds=0.1)

    take(tmp_path).close()


def test_readers_share_and_keep_writers_out(tmp_path: Path) -> None:
    take(tmp_path).close()

    with take(tmp_path, shared=True), take(tmp_path, shared=True), pytest.raises(LedgerUnavailableError):
        take(tmp_path)


def test_a_reader_makes_no_lock_file(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailableError):
        take(tmp_path, shared=True)

    assert list(tmp_path.iterdir()) == []
