"""A new version of a key on SoftHSM2, whose objects are files: the services that use keys see it, or it is not made.

Root makes keys and services are other users, let in by a group. Each is a process of its own here, with that user's
rights; SoftHSM2 leaves out, without a word, what its user may not read.
"""

import ctypes
import grp
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.actions.boxkeys import ROTATED, Keyring
from appliance.audit.memory import MemoryLedger
from appliance.config import Config, KeysSection, PlacesSection
from appliance.errors import KeyMissingError
from appliance.keys.opening import PIN as PIN_FILE
from appliance.keys.opening import open_keys
from appliance.keys.token import TokenKeys
from appliance.keys.tokenfolder import closed_to, hand_on
from tests.support.softhsm import MODULE, PIN, Token, soft_token
from tests.support.supervisor import FakeSupervisor

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(os.geteuid() != 0, reason="it becomes other users"),
]

GROUP = "daemon"
NAME = "identity-hmac"
_NOBODY = 65534
_CAPABILITIES_3 = 0x20080522


@pytest.fixture
def token() -> Iterator[Token]:
    folder = Path(tempfile.mkdtemp(prefix="sl-hsm-"))
    folder.chmod(0o755)  # other users go through it
    try:
        with soft_token(folder / "hsm", "ward-7") as made:
            (made.folder / "pin").write_text(PIN)
            (made.folder / "pin").chmod(0o644)
            yield made
    finally:
        shutil.rmtree(folder)


def keys_of(token: Token, *, group: str = GROUP) -> TokenKeys:
    shared = (token.folder / "tokens", group) if group else None
    return TokenKeys(MODULE, token.label, token.folder / "pin", shared=shared)


def as_other(use: Callable[[], str], *, uid: int = _NOBODY, groups: tuple[str, ...] = (GROUP,)) -> str:
    """Return what a process of another user says, or of root without one capability, as in the nightly run's unit."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([grp.getgrnam(name).gr_gid for name in groups])
            if uid:
                os.setgid(uid)
                os.setuid(uid)
            else:
                header, none = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)()
                assert ctypes.CDLL(None).capset(header, none) == 0
            os.umask(0o077)
            os.write(write, use().encode())
        except KeyMissingError as error:
            os.write(write, f"{error.what}: {error.why}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def seen(token: Token) -> str:
    """Return the versions that a service sees, and what it makes by the newest."""

    def use() -> str:
        keys = keys_of(token, group="")
        return f"{keys.versions(NAME)} {keys.newest(NAME)} {keys.hmac(NAME, b'x').hex()}"

    return as_other(use)


def made(token: Token) -> None:
    keys = keys_of(token)
    keys.create_missing()
    keys.close()


def test_a_service_goes_on_with_the_version_before_where_the_new_ones_file_is_roots_alone(token: Token) -> None:
    """What SoftHSM2 does: the reason for all this."""
    made(token)
    keys = keys_of(token, group="")
    keys.create(NAME)
    keys.close()

    assert seen(token).startswith("(1,) 1 ")


def test_services_see_what_root_makes_and_use_it(token: Token) -> None:
    made(token)
    first = seen(token)
    keys = keys_of(token)
    keys.create(NAME)
    expected = keys.hmac(NAME, b"x").hex()
    keys.close()

    assert first.startswith("(1,) 1 ")
    assert seen(token) == f"(1, 2) 2 {expected}"


def test_the_nightly_run_which_may_change_no_groups_makes_versions_that_services_see(token: Token) -> None:
    made(token)  # as root at the console, which has what comes later given to the group
    folders = [path for path in (token.folder / "tokens").rglob("*") if path.is_dir()]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o2770 for path in folders)

    assert as_other(lambda: str(keys_of(token).create(NAME)), uid=0) == "2"

    assert seen(token).startswith("(1, 2) 2 ")


def test_a_folder_of_a_release_of_before_is_no_reason_to_fail_at_night(token: Token) -> None:
    """Scenario: people opened it by `chgrp -R` and `chmod -R g+rwX`, as the handbook of then said."""
    made(token)
    tokens = token.folder / "tokens"
    for path in tokens.iterdir():
        path.chmod(0o770)

    assert hand_on(tokens, GROUP, token.label) == 1
    assert as_other(lambda: str(keys_of(token).create(NAME)), uid=0, groups=()) == "2"

    assert seen(token).startswith("(1, 2) 2 ")


def test_where_the_group_cannot_be_let_in_no_version_is_made(token: Token) -> None:
    made(token)
    for path in (token.folder / "tokens").iterdir():
        path.chmod(0o770)  # what is made there belongs to its maker's group

    said = as_other(lambda: str(keys_of(token).create(NAME)), uid=0, groups=())

    assert said.startswith(f"the key {NAME} would be root's alone, so it was not made: the group {GROUP}")
    assert seen(token).startswith("(1,) 1 ")
    keys = keys_of(token)
    assert keys.versions(NAME) == (1,)
    keys.close()


def test_the_token_of_another_program_in_the_same_folder_stays_its_own(token: Token) -> None:
    """Scenario: OpenDNSSEC keeps its keys on this machine, too; each token of SoftHSM2 is a sub-folder."""
    tokens = token.folder / "tokens"
    (own,) = tokens.iterdir()
    init = ["softhsm2-util", "--init-token", "--free", "--label", "dnssec", "--pin", PIN, "--so-pin", "31415926"]
    subprocess.run(init, check=True, capture_output=True)
    before = {path: path.stat()[:6] for path in tokens.rglob("*") if own not in (path, path.parent)}

    made(token)

    assert len(before) >= 4
    assert {path: path.stat()[:6] for path in before} == before
    assert seen(token).startswith("(1,) 1 ")
    assert closed_to(tokens, GROUP, token.label) == ()
    keys = keys_of(token, group="")
    keys.create(NAME)
    keys.close()
    assert {path.parent for path in closed_to(tokens, GROUP, token.label)} == {own}


def test_a_renewal_that_services_could_not_use_is_not_recorded(token: Token, tmp_path: Path) -> None:
    made(token)
    chosen = KeysSection(
        provider="token", module=MODULE, token=token.label, folder=str(token.folder / "tokens"), group="sl-nobody-is"
    )
    config = Config(site="s", environment="demo", places=PlacesSection(root=str(tmp_path)), keys=chosen)
    config.at.key_files.mkdir(parents=True)
    (config.at.key_files / PIN_FILE).write_text(PIN)
    ledger = MemoryLedger()

    with pytest.raises(KeyMissingError, match="would be root's alone"):
        Keyring(config, ledger, FakeSupervisor()).rotate(NAME, reason="a year is over")

    assert ledger.find(kind=ROTATED, limit=1) == []
    keys = open_keys(config, environ={})
    assert keys.versions(NAME) == (1,)
    keys.close()
