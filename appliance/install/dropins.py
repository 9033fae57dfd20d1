"""What a site changes about static units, as drop-ins: keys on a token, a database on a server, nodes, cards, engines.

The playbook writes them as they are made here and removes those that are no longer wanted; the units stay as the
release brought them. They come after `50-sealift-keys.conf`, which `sealift box-keys` writes where keys are files.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.config import Config, KeysSection, StandbySection
from appliance.errors import InstallError, PreflightError
from appliance.install import additions, keysettings
from appliance.install.unit_files import credential_lines
from appliance.postgres.connecting import AUTHORITY, Role, client_name

TOKEN: Final = "60-sealift-token.conf"  # noqa: S105 - the name of a file
STANDBY: Final = "60-sealift-standby.conf"
ENGINES: Final[Mapping[str, str]] = {additions.VLLM: "55-sealift-vllm.conf", additions.GPU: "56-sealift-gpu.conf"}
"""The name that each addition to the engines' units has there."""
ENGINE_UNITS: Final[Mapping[str, str]] = {stage: f"sealift-engine-{stage}@.service" for stage in ("production", "test")}
DATABASE: Final = "70-sealift-database.conf"
NODE: Final = "75-sealift-node.conf"
GPUS: Final = "65-sealift-gpus.conf"
COLLECTOR: Final = "80-sealift-collector.conf"
GATEWAYS: Final = ("sealift-gateway.service", "sealift-gateway@.service", "sealift-gateway-test.service")
NAMES: Final = (*ENGINES.values(), STANDBY, TOKEN, GPUS, DATABASE, NODE, COLLECTOR)
INSTALL: Final = "sealift-install@.service"
RETENTION: Final = "sealift-retention.service"
ROLES: Final[Mapping[str, Role]] = {
    "sealift-admin.service": "state",
    "sealift-canary.service": "state",
    "sealift-gateway.service": "reader",
    "sealift-gateway@.service": "reader",
    "sealift-gateway-test.service": "reader",
    "sealift-ledger.service": "ledger",
    "sealift-metrics.service": "reader",
    "sealift-switch@.service": "state",
    "sealift-validate@.service": "state",
}
_DATABASE_FOLDER: Final = "/etc/sealift/database"
_PYTHON: Final = "/opt/sealift/current/server/bin/python"
_CLIENT: Final = "collector-client.pem"
_NETWORK: Final = ("PrivateNetwork=no", "RestrictAddressFamilies=AF_INET AF_INET6")


@dataclass(frozen=True, slots=True, kw_only=True)
class DropIn:
    """One file in a unit's folder of drop-ins."""

    unit: str
    name: str
    text: str

    def to_json(self) -> dict[str, str]:
        """Return the fields, as the playbook takes them."""
        return {"unit": self.unit, "name": self.name, "text": self.text}


def drop_ins(config: Config, units: Path, *, needed: Collection[str] = ()) -> tuple[DropIn, ...]:
    """Return every drop-in that the site file and the engines ask for.

    Args:
        config: The site file.
        units: The folder with the release's units.
        needed: The additions that engines need; see `additions`.

    Raises:
        InstallError: The release lacks an addition that is needed.
    """
    return (
        *_engines(config, units / "variants", needed),
        *_standby(config.standby),
        *_token(config.keys, credential_lines(units)),
        *_gpus(config),
        *_database(config),
        *_node(config),
        *_collector(config),
    )


def of_database(config: Config) -> tuple[DropIn, ...]:
    """Return what lets units reach a database server."""
    return tuple(_database(config))


def require_secrets(config: Config) -> None:
    """Pass only where the files are there that these drop-ins hand to units.

    Raises:
        PreflightError: One is not, and the units would not start.
    """
    if not _is_remote(config):
        return
    folder = config.at.database_secrets
    needed = (AUTHORITY, *sorted({name for role in ROLES.values() for name in _secrets(config, role)}))
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise PreflightError(
            what="the units could not reach the database server",
            why=f"{', '.join(missing)} is not in {_DATABASE_FOLDER}",
            fix="put it there, 0400: docs/operator/postgresql.md",
        )


def _standby(section: StandbySection) -> Iterator[DropIn]:
    named = dict.fromkeys((section.peer_address, section.witness_address, *section.boxes))
    voters = [f"IPAddressAllow={address}" for address in named if address]
    if voters:
        yield _made("sealift-standby.service", STANDBY, "the boxes of this site that grant the lease or ask it", voters)
    if section.peer_address:
        allowed = [f"IPAddressAllow={section.peer_address}"]
        yield _made("sealift-standby-sync.service", STANDBY, "the other box of this site", allowed)
    if section.lease:
        # It adds nothing: that it comes or goes makes an install start the gateways anew, which read it then. One
        # that ran on as before would answer without the lease, beside the other box.
        for unit in GATEWAYS:
            yield _made(unit, STANDBY, "it answers only while this box holds the lease", [])


def _token(chosen: KeysSection, loaded: Mapping[str, Sequence[str]]) -> Iterator[DropIn]:
    if chosen.provider == "files":
        return
    for unit, lines in loaded.items():
        if not any(keysettings.is_key(line) for line in lines):
            continue
        told = [f"LoadCredential={line}" for line in keysettings.credentials(chosen, unit, lines)]
        reach = _reach(chosen) if unit in keysettings.USERS else []
        yield _made(unit, TOKEN, "the keys of this box are on a token", ["LoadCredential=", *told, *reach])
    if reach := _reach(chosen):  # as root it reads the PIN itself, where root's commands do
        yield _made(RETENTION, TOKEN, "keys of years are made and destroyed on the token", reach)
    if chosen.address:
        yield _made(INSTALL, TOKEN, "an install makes keys that are missing", [*_NETWORK, _allowed(chosen.address)])


def _reach(chosen: KeysSection) -> list[str]:
    lines = []
    if chosen.group:
        lines.append(f"SupplementaryGroups={chosen.group}")
    if chosen.device:
        # The unit's own /dev and DevicePolicy=closed stay: all other devices remain out of sight and shut.
        lines += [f"BindPaths=-{chosen.device}", f"DeviceAllow={chosen.device} rw"]
    if chosen.folder:
        lines.append(f"ReadWritePaths={chosen.folder}")
    if chosen.address:
        lines += [*_NETWORK, _allowed(chosen.address)]
    return lines


def _cards(config: Config) -> Mapping[str, Sequence[int | str]]:
    return {"production": config.engines.production.gpus, "test": config.engines.test.gpus}


def _engines(config: Config, folder: Path, needed: Collection[str]) -> Iterator[DropIn]:
    for stage, cards in _cards(config).items():
        for addition, name in ENGINES.items():
            # Whoever names cards has an engine that computes on them, whatever its environment is made of.
            if addition in needed or (addition == additions.GPU and cards):
                yield DropIn(unit=ENGINE_UNITS[stage], name=name, text=_text(folder, addition))


def _text(folder: Path, addition: str) -> str:
    try:
        return (folder / f"{addition}.conf").read_text("utf-8")
    except OSError as error:
        raise InstallError(
            what=f"the release has no addition to engines' units for {addition}",
            why=error.strerror or type(error).__name__,
            fix="ask the sender for a release that brings it",
        ) from error


def _gpus(config: Config) -> Iterator[DropIn]:
    for stage, cards in _cards(config).items():
        if cards:
            # By the bus, as nvidia-smi counts them: by itself CUDA puts the fastest first.
            visible = ",".join(map(str, cards))
            lines = ["Environment=CUDA_DEVICE_ORDER=PCI_BUS_ID", f"Environment=CUDA_VISIBLE_DEVICES={visible}"]
            if all(isinstance(card, int) for card in cards):  # Vulkan's library of llama.cpp knows numbers alone
                lines.append(f"Environment=GGML_VK_VISIBLE_DEVICES={visible}")
                # By number it would take Mesa's driver for processors, too.
                lines.append("Environment=VK_LOADER_DRIVERS_DISABLE=*lvp*")
            yield _made(ENGINE_UNITS[stage], GPUS, "these cards are this stage's", lines)


def _database(config: Config) -> Iterator[DropIn]:
    if not _is_remote(config):
        return
    allowed = f"IPAddressAllow={config.database.address}"
    for unit, role in ROLES.items():
        loaded = [f"LoadCredential={name}:{_DATABASE_FOLDER}/{name}" for name in (AUTHORITY, *_secrets(config, role))]
        yield _made(unit, DATABASE, "ledger and state are on a server", [*loaded, *_NETWORK, allowed])
    yield _made(INSTALL, DATABASE, "an install writes the state", [*_NETWORK, allowed])


def _secrets(config: Config, role: Role) -> tuple[str, ...]:
    return (f"database-{role}", *((client_name(role),) if config.database.client else ()))


def _node(config: Config) -> Iterator[DropIn]:
    if config.database.node:
        # As root: the ledger sees two of the keys, and compares what is told of all of them with the other nodes'. A
        # release from before this lacks the program, and starts without.
        line = f"ExecStartPre=-+{_PYTHON} -I -m appliance.keys.commitments --config /etc/sealift/sealift.toml"
        yield _made("sealift-ledger.service", NODE, "other nodes must have the same keys", [line])


def _collector(config: Config) -> Iterator[DropIn]:
    if config.siem.address:
        lines = [f"IPAddressAllow={config.siem.address}"]
        if config.siem.client:
            lines.append(f"LoadCredential={_CLIENT}:/etc/sealift/{_CLIENT}")
        yield _made("sealift-siem.service", COLLECTOR, "records go to the site's collector", lines)


def _is_remote(config: Config) -> bool:
    # A server that is named can be reached while the records are in files still: they move there later.
    return bool(config.database.address)


def _allowed(destination: str) -> str:
    return f"IPAddressAllow={destination.split()[1]}"


def _made(unit: str, name: str, why: str, lines: Sequence[str]) -> DropIn:
    text = "\n".join([f"# Written by the install from the site file: {why}.", "[Service]", *lines])
    return DropIn(unit=unit, name=name, text=f"{text}\n")
