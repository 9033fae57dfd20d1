"""What the chart's pods run besides the services themselves: ``python -I -m appliance.actions.kubernetes.pod WHAT``.

`prove` before anything starts, `key` for the pod's own ledger, and what the kubelet asks again and again.
"""

import http.client
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from appliance import config as configuration
from appliance.audit.client import SocketLedger
from appliance.audit.rights import GATEWAY
from appliance.config import Config
from appliance.errors import EngineUnavailableError, StoreWriteError
from appliance.keys.files import create_missing
from appliance.promote.standing import require_promoted
from appliance.registry.carriers import carrier
from appliance.serve.client import EngineClient
from appliance.serve.instance import Instance
from appliance.store.content import ContentStore
from media.errors import SealiftError, UsageError

TLS: Final = Path("/tls")
USER: Final = 65532
"""Who all pods run as, and their group."""
_SECONDS: Final = 5.0
_FOLDERS: Final = ("ledger", "spool")


def prove(config: Config, instance: str, links: Path) -> int:
    """Hash every file of a version that two people approved, and link them below `links` by the names engines want.

    Returns:
        How many files were proven.

    Raises:
        UnknownVersionError, EngineLoadError: No stored release brings it, or the name is none of an instance.
        NotPromotedError: It is not what production serves by the whole chain of approvals.
        StoreDamagedError: A file is not what was signed.
        StoreWriteError: The links could not be made.
    """
    stored, descriptor, _ = carrier(ContentStore(config.at.store), Instance.parse(instance).digest_prefix)
    require_promoted(
        config.at, descriptor.model_digest, approvals=config.policy.approvals, counting=config.policy.classes
    )
    for file in descriptor.files:
        place = stored.verify(file.path)
        link = links / Path(file.path).name
        try:
            link.unlink(missing_ok=True)  # a pod that starts anew on its node proves again, and has its folder still
            link.symlink_to(place)
        except OSError as error:
            raise StoreWriteError(
                what="the version's files could not be linked", why=error.strerror or "", fix="give the pod an emptyDir"
            ) from error
    return len(descriptor.files)


def prepare(folder: Path) -> list[str]:
    """Make what a pod's own ledger needs: its folders, and keys that no other pod has.

    Returns:
        The names of the keys that were made now.

    Raises:
        KeyMissingError: A key could not be written.
        StoreWriteError: A folder could not be made.
    """
    try:
        for name in _FOLDERS:
            (folder / name).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreWriteError(
            what="the ledger's volume cannot be written", why=error.strerror or "", fix="see the claim's rights"
        ) from error
    return create_missing(folder / "keys")


def ask_ledger(config: Config) -> int:
    """Return the ledger's size.

    Raises:
        LedgerUnavailableError: It does not answer.
    """
    ledger = SocketLedger(config.at.socket(GATEWAY), timeout_seconds=_SECONDS)
    try:
        return ledger.head().size
    finally:
        ledger.close()


def ask_engine(config: Config, instance: str) -> None:
    """Ask the engine of an instance whether it can answer: a socket may be one that a crash left behind.

    Raises:
        EngineLoadError: The name is none of an instance.
        EngineUnavailableError: It does not say that it is ready.
    """
    Instance.parse(instance)
    path = config.at.socket(f"engine-{instance}")
    with EngineClient(path, connect_seconds=_SECONDS, read_seconds=_SECONDS) as engine:
        if not engine.health():
            raise _unwell("engine", "it does not say that it is")


def ask_gateway(path: str, port: int, *, tls: Path = TLS) -> int:
    """Return the gateway's status for a path, asked with the pod's own certificate over the loopback.

    Raises:
        EngineUnavailableError: It does not answer, answers with an error, or is somebody else.
    """
    try:
        context = ssl.create_default_context(cafile=str(tls / "ca.crt"))
        # Whose certificate it is was settled when the secret was mounted; pods have no names of their own in it.
        context.check_hostname = False
        context.load_cert_chain(tls / "tls.crt", tls / "tls.key")
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=_SECONDS, context=context)
        try:
            connection.request("GET", path)
            status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise _unwell("gateway", type(error).__name__) from error
    if status != http.client.OK:
        raise _unwell("gateway", f"status {status}")
    return status


def main(arguments: Sequence[str]) -> int:
    """Do what is asked; return the exit code of its outcome."""
    try:
        said = _answered(list(arguments))
    except SealiftError as error:
        sys.stderr.write(f"{error.code}: {error.what} ({error.why}) {error.fix}\n")
        return error.exit_code
    sys.stdout.write(f"{said}\n")
    return 0


def _answered(arguments: list[str]) -> str:
    try:
        return _do(arguments)
    except PermissionError as error:
        raise UsageError(
            what="the pod may not read what it is given",
            why="a claim keeps the owners that its files had on the box",
            fix=f"give the claim's folders to the pods' user: chown -R {USER}:{USER}",
        ) from error


def _do(arguments: list[str]) -> str:
    match arguments:
        case ["prove", instance, links]:
            return f"{prove(_config(), instance, Path(links))} files proven, approvals verified"
        case ["key", folder]:
            return f"keys made: {', '.join(prepare(Path(folder))) or 'none, they are there'}"
        case ["ask-ledger"]:
            return f"{ask_ledger(_config())} records"
        case ["ask-engine", instance]:
            ask_engine(_config(), instance)
            return "ready"
        case ["ask-gateway", path, port] if port.isdecimal():
            return f"status {ask_gateway(path, int(port))}"
    raise UsageError(
        what="this is not something a pod asks",
        why="expected prove INSTANCE FOLDER, key FOLDER, ask-ledger, ask-engine INSTANCE, or ask-gateway PATH PORT",
        fix="use the chart as `sealift export kubernetes` wrote it",
    )


def _config() -> Config:
    return configuration.load(configuration.DEFAULT_PATH)


def _unwell(who: str, why: str) -> EngineUnavailableError:
    return EngineUnavailableError(what=f"the {who} is not ready", why=why, fix="see the pod's log")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
