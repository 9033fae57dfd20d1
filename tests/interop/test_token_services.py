"""The services of a box with their keys on a token: the real units' ledger and gateway over SoftHSM2, PIN and all.

Scenario: a site file chooses the token, a person places the PIN, the keys are made on it, and the units run as
`run-units` runs them, which takes credentials from the unit files as systemd does. An answer is served and recorded,
and the PIN is found nowhere but in the credential.
"""

import json
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance import config as configuration
from appliance import wire
from appliance.actions import boxkeys, tokenpin
from appliance.actions.backups import contents, doomed, erasures, making, restoring
from appliance.actions.backups.restoring import Decisions
from appliance.actions.boxkeys import Keyring
from appliance.actions.doctor_services import keys as doctor
from appliance.actions.standby import pepper
from appliance.audit import cosigning, epochs, note, succession
from appliance.audit.client import OfflineLedger
from appliance.audit.facts import Ledger
from appliance.audit.opening import open_log
from appliance.audit.socket_ledger import SocketLedger
from appliance.audit.verify import verify
from appliance.config import Config, KeysSection, PlacesSection
from appliance.errors import ConflictError, KeyMissingError, LedgerDamagedError
from appliance.install import hostfiles
from appliance.install.run_units import RunningUnits, unit_files
from appliance.install.supervisor import UnitFacts, UnitState
from appliance.keys.opening import PIN as PIN_FILE
from appliance.keys.opening import memory_of, open_keys
from appliance.keys.provider import PURPOSES
from appliance.promote.passwords import PASSWORDS
from appliance.standby.pairing import Paired
from appliance.state.database import open_state
from appliance.verify import trust
from appliance.verify.trust import TrustRecord
from media.clock import SystemClock
from media.errors import SealiftError, UsageError
from tests.support.backups import recipient, with_backups
from tests.support.engine import MODEL_DIGEST, fake_engine
from tests.support.gateway import DEPARTMENT, MODEL, key_text
from tests.support.ledger import approval, bodies, ledger_site, tell_all
from tests.support.softhsm import MODULE, PIN, Token, soft_token
from tests.support.versions import short_folder

pytestmark = pytest.mark.interop

LEDGER, GATEWAY = "sealift-ledger.service", "sealift-gateway.service"
PEER = wire.Peer(door="units", pid=0, uid=0, gid=0)


@dataclass(slots=True)
class Box:
    """A site on a token, its running units, and who asks it."""

    config: Config
    units: RunningUnits
    url: str
    key: str

    def ledger(self, door: str) -> SocketLedger:
        return SocketLedger(self.config.at.socket(door))

    def happen(self, kind: str, body: dict[str, Any]) -> None:
        promoter, actions = self.ledger("ledger-promoter"), self.ledger("ledger-actions")
        state = open_state(self.config.at)
        (promoter if kind.startswith("promotion.") else actions).append(kind, body)
        tell_all(state, actions)
        state.dispose()
        promoter.close()
        actions.close()

    def ask(self) -> int:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        asked = urllib.request.Request(  # noqa: S310 - our own loopback
            f"{self.url}/v1/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310
                answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


class Units:
    """The units as `box-keys` sees them."""

    def __init__(self, units: RunningUnits) -> None:
        self._units = units

    def units(self) -> tuple[UnitFacts, ...]:
        found = self._units.control(PEER, {"do": "list"})["units"]
        return tuple(UnitFacts(name=each["unit"], state=UnitState(each["state"])) for each in found)

    def start(self, unit: str) -> None:
        self._units.start(unit)

    def stop(self, unit: str) -> None:
        self._units.stop(unit)

    def rest(self, unit: str) -> None:
        self._units.rest(unit)

    def kill(self, unit: str) -> None:
        raise AssertionError(unit)

    def state(self, unit: str) -> UnitState:
        return next((one.state for one in self.units() if one.name == unit), UnitState.INACTIVE)


@pytest.fixture
def token(tmp_path: Path) -> Iterator[Token]:
    with soft_token(tmp_path / "hsm", "ward-7") as made:
        yield made


@pytest.fixture
def config(token: Token) -> Iterator[Config]:
    with short_folder() as root:
        text = (
            f'site = "s"\nenvironment = "demo"\nprofile = "cpu"\n[places]\nroot = "{root}"\n'
            f'[keys]\nprovider = "token"\nmodule = "{MODULE}"\ntoken = "{token.label}"\n'
            f'variables = ["SOFTHSM2_CONF={token.folder}/softhsm2.conf"]\n'
            "[service]\nmetrics_port = 0\n"
        )
        made = configuration.parse(text.encode())
        for folder in (made.at.run, made.at.config_file.parent, made.at.state):
            folder.mkdir(parents=True)
        made.at.config_file.write_text(text)
        yield made


@pytest.fixture
def box(config: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    monkeypatch.delenv("SOFTHSM2_CONF")  # the site file says it, as on a box
    assert tokenpin.place(config, PIN) == ()
    assert open_keys(config, environ={}).create_missing() == list(PURPOSES)
    files = unit_files(config, config.at.config_file, hostfiles.folder("systemd"))
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        fake_engine(config.at.socket(f"engine-production-{MODEL_DIGEST[:12]}")),
    ):
        units = RunningUnits(config, files, {"gateway": listener})
        try:
            units.start_all([LEDGER, GATEWAY])
            made = Box(config, units, f"http://127.0.0.1:{listener.getsockname()[1]}", "")
            _furnish(made)
            yield made
        finally:
            units.stop_all()


def _furnish(box: Box) -> None:
    history = bodies(MODEL_DIGEST)
    box.happen("release.received", history["release.received"])
    runtime = {"n_ctx": 4096, "defaults": {"temperature": "0.25", "top_p": "0.9"}}
    descriptor = {"format": 1, "engine": "llama.cpp", "runtime": runtime}
    box.happen("model.registered", history["model.registered"] | {"name": MODEL, "descriptor": descriptor})
    box.happen("promotion.made", history["promotion.made"] | {"approvals": [approval("ada"), approval("bo")]})
    box.key = add_key(box, key_text())


def add_key(box: Box, text: str) -> str:
    keys = open_keys(box.config, environ={})
    secret, version = keys.hmac("api-key-pepper", text.encode()).hex(), keys.newest("api-key-pepper")
    keys.close()
    known = {"key_id": text.split("-")[1], "secret_hmac": secret, "department": DEPARTMENT, "tier": "standard"}
    box.happen("key.created", {**bodies()["key.created"], **known, "key_version": version})
    return text


def processes(units: RunningUnits) -> list[Path]:
    """Return /proc of every process of the units, workers included."""
    found = [int(units.control(PEER, {"do": "status", "unit": name})["pid"]) for name in (LEDGER, GATEWAY)]
    for pid in found:
        found += [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [Path(f"/proc/{pid}") for pid in found]


def test_an_answer_is_served_with_keys_that_never_leave_the_token(box: Box) -> None:
    assert box.ask() == 200

    ledger = box.ledger("ledger-gateway")
    vkey = ledger.vkey()
    signed = note.verify_checkpoint(ledger.checkpoint(), [vkey])
    outcome = ledger.find(kind="request.outcome", limit=1)[0].body
    ledger.close()
    keys = open_keys(box.config, environ={})
    assert vkey.public == keys.public("ledger-checkpoint")
    assert (outcome["outcome"], signed.size > 5) == ("ok", True)
    assert [path.name for path in box.config.at.key_files.iterdir()] == [PIN_FILE]
    keys.close()
    [finding] = [each for each in doctor(box.config) if each.name == "token"]
    assert finding.is_good


def test_the_pin_is_in_no_argument_environment_log_or_record(box: Box) -> None:
    box.ask()

    read = {
        (process, name): _bytes(process / name) for process in processes(box.units) for name in ("cmdline", "environ")
    }
    # One that ended meanwhile reads as nothing.
    assert len({process for (process, _), content in read.items() if content}) >= 3, "ledger, gateway's master, worker"
    assert [place for place, content in read.items() if PIN.encode() in content] == []
    logs = sorted((box.config.at.state / "logs").iterdir())
    assert {path.name for path in logs} == {"sealift-ledger.log", "sealift-gateway.log"}
    kept = [path for path in Path(box.config.places.root).rglob("*") if path.is_file() and PIN.encode() in _bytes(path)]
    assert {path.name for path in kept} == {PIN_FILE}
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_new_version_is_used_at_once_and_what_an_older_one_made_ends_with_it(box: Box) -> None:
    operator = box.ledger("ledger-actions")
    keyring = Keyring(box.config, operator, Units(box.units))

    done = keyring.rotate("api-key-pepper", reason="an operator left")
    before = box.ask()
    older, box.key = box.key, add_key(box, key_text("abcdefgh77"))
    after = box.ask()
    gone = keyring.destroy("api-key-pepper", reason="an operator left")
    still = box.ask()
    box.key = older
    ended = box.ask()

    [destroyed] = operator.find(kind=erasures.DESTROYED, limit=2)
    operator.close()
    assert (done.versions, done.restarted) == ((1, 2), (GATEWAY,))
    assert (before, after, still) == (200, 200, 200)
    assert (gone.versions, gone.gone) == ((2,), (1,))
    assert destroyed.body["digests"] == []
    assert ended != 200
    listed = {each.name: each.versions for each in boxkeys.listed(box.config)}
    assert listed["api-key-pepper"] == (2,)


def test_the_doctor_says_of_keys_that_are_gone_what_makes_them_and_that_is_true(box: Box) -> None:
    keys = open_keys(box.config, environ={})
    keys.remove("retention", 1)
    keys.close()
    box.config.at.current.mkdir(parents=True)

    [before] = [each for each in doctor(box.config) if each.name == "token"]
    operator = box.ledger("ledger-actions")
    done = boxkeys.complete(box.config, lambda: operator, drop_ins=None)
    operator.close()
    [after] = [each for each in doctor(box.config) if each.name == "token"]

    assert (before.is_good, after.is_good) == (False, True)
    assert "retention" in before.text
    assert "sealift box-keys complete" in before.fix
    assert done.made == ("retention",)


def test_a_wrong_pin_is_not_kept_and_units_say_what_they_lack(box: Box) -> None:
    with pytest.raises(KeyMissingError) as caught:
        tokenpin.place(box.config, "999999")
    assert "999999" not in f"{caught.value.what}{caught.value.why}"
    assert (box.config.at.key_files / PIN_FILE).read_text() == PIN
    with pytest.raises(UsageError):
        tokenpin.place(configuration.parse(b'site = "s"'), PIN)


def test_backups_hold_no_key_of_a_token_and_another_box_gets_none(box: Box, tmp_path: Path) -> None:
    (tmp_path / "passwords").write_bytes(b"{}")

    files = contents.gather(box.config, keys=box.config.at.key_files, passwords=tmp_path / "passwords")

    assert not [path for path in files if path.startswith("keys/")]
    # The standby refuses before it looks at anything; the first box has no need of what comes, nor has its token.
    standby, first = (cast("Paired", SimpleNamespace(is_first=is_first)) for is_first in (False, True))
    with pytest.raises(ConflictError):
        pepper.adopt(box.config, b"", standby, ledger=cast("Ledger", None))
    assert pepper.adopt(box.config, b"", first, ledger=cast("Ledger", None)) == pepper.KEPT


def test_a_backup_of_key_files_comes_back_onto_a_token_in_an_epoch_that_it_signs(token: Token, tmp_path: Path) -> None:
    clock, root = SystemClock(), b'{"signed":{}}'
    with recipient() as offline, ledger_site(tmp_path / "b") as lost:
        old = with_backups(lost.config, tmp_path / "disk", offline.certificate())
        for folder in (old.at.trust, old.at.pinned_trust, old.at.promoter):
            folder.mkdir(parents=True)
        (old.at.pinned_trust / trust.PINNED_ROOT).write_bytes(root)
        trust.save(old.at.trust, TrustRecord(root_chain=(root.decode(),), serial=7, payload_digest="a" * 64))
        (old.at.promoter / PASSWORDS).write_bytes(b'{"format":1,"passwords":{}}')
        with lost.running():
            made = making.make(old, clock=clock)
        chosen = KeysSection(provider="token", module=MODULE, token=token.label)
        places = PlacesSection(root=str(tmp_path / "f"))
        fresh = old.model_copy(update={"places": places, "keys": chosen})
        fresh.at.etc.mkdir(parents=True)
        fresh.at.state.mkdir(parents=True)
        tokenpin.place(fresh, PIN)
        keys = open_keys(fresh, environ={})
        said = Decisions(by=("Ann Old", "Ben Young"), reason="the box burnt")

        wrong = replace(said, printed="no checkpoint")
        with pytest.raises(SealiftError):
            restoring.restore(fresh, made.file, home=offline.home, decisions=wrong, clock=clock)
        after_failure = keys.versions("ledger-checkpoint")
        restoring.restore(fresh, made.file, home=offline.home, decisions=said, clock=clock)

    keys.close()
    epoch = epochs.epochs(OfflineLedger(fresh.at, clock=clock))[-1]
    assert after_failure == ()
    assert epoch.vkey.public == keys.public("ledger-checkpoint")
    assert [name for name in PURPOSES if not keys.versions(name)] == []
    assert [path.name for path in fresh.at.key_files.iterdir()] == [PIN_FILE]
    assert any("token" in text for text in epoch.facts["dropped"])
    keys.close()


def test_what_a_retired_box_destroys_is_gone_from_the_token(box: Box) -> None:
    keys = open_keys(box.config, environ={})

    found = dict(doomed.secrets_of(box.config, keys))
    for name, versions in found.items():
        for version in versions:
            keys.remove(name, int(str(version)))
    keys.close()
    again = open_keys(box.config, environ={})

    assert set(found) == set(PURPOSES) - set(doomed.LAST)
    assert [name for name in PURPOSES if again.versions(name)] == ["ledger-checkpoint", "ledger-mldsa"]
    doomed.destroy_last(box.config, again)
    assert list(box.config.at.key_files.iterdir()) == []
    again.close()
    with pytest.raises(KeyMissingError):
        doomed.secrets_of(box.config, again)  # without the PIN nobody can tell, and nothing is said to be gone


def test_a_disk_that_was_put_back_stops_at_what_the_token_remembers(box: Box, tmp_path: Path) -> None:
    ledger = box.config.at.ledger
    box.units.stop(LEDGER)
    shutil.copytree(ledger, tmp_path / "yesterday")
    box.units.start(LEDGER)
    assert box.ask() == 200
    box.units.stop(LEDGER)  # which signs, and lays the head onto the token
    shutil.rmtree(ledger)
    shutil.copytree(tmp_path / "yesterday", ledger)

    with pytest.raises(SealiftError):
        box.units.start(LEDGER)

    assert box.ask() == 503
    keys = open_keys(box.config, environ={})
    with (
        pytest.raises(LedgerDamagedError) as refused,
        open_log(box.config, keys=keys, clock=SystemClock(), memory=memory_of(keys)),
    ):
        pass
    keys.close()
    assert "the token remembers" in refused.value.why


def test_the_ledgers_key_is_renewed_on_the_token_and_the_older_one_may_go(box: Box) -> None:
    operator = box.ledger("ledger-actions")
    first, printed = operator.vkey(), operator.checkpoint()
    keyring = Keyring(box.config, operator, Units(box.units))

    done = keyring.rotate("ledger-checkpoint", reason="an operator left")
    before = box.ask()
    keyring.rotate("ledger-mldsa", reason="an operator left")
    gone = keyring.destroy("ledger-checkpoint", reason="an operator left")
    keyring.destroy("ledger-mldsa", reason="an operator left")
    after = box.ask()

    told = verify(operator, pinned=first, notes=[printed, operator.checkpoint()])
    (leaf,) = operator.find(kind=succession.ROTATED, limit=2)
    text = operator.checkpoint()
    second = operator.find(kind=cosigning.NAMED, limit=1)[0].body
    twice = operator.cosigned(note.Checkpoint.from_text(note.parts(text)[0]).size)
    operator.close()
    keys = open_keys(box.config, environ={})
    assert second["previous"]
    cosigning.MlDsaKey.from_text(str(second["vkey"])).require_cosigned(twice)
    assert not [each for each in told.remarks if "second signatures" in each]
    assert (done.versions, done.restarted[0]) == ((1, 2), LEDGER)
    assert (gone.versions, gone.gone) == ((2,), (1,))
    assert (before, after) == (200, 200)
    assert told.findings == ()
    new = note.VerifierKey.from_text(str(leaf.body["vkey"]))
    assert new.public == keys.public("ledger-checkpoint", version=2)
    assert note.verify_checkpoint(text, [new]).size > leaf.sequence
    keys.close()
