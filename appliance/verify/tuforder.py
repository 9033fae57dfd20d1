"""python-tuf's order, versions and thresholds for what hangs below one root, over files that were parsed before.

Rules:
 * A file is parsed once, strictly (`appliance.verify.metadata`); what python-tuf judges is what was read then, and the
   bytes that the signatures cover are encoded once.
 * Of python-tuf's client only this order is loaded: its package would bring a downloader with everything that speaks
   HTTP, which a box never calls and which takes 11 MiB.
 * Nothing of the targets stays in memory beside what the verifier makes of them: a release may have 100,000.
"""

import importlib.util
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import Signature  # type: ignore[attr-defined]  # re-exported without __all__
from tuf.api import exceptions
from tuf.api.metadata import (  # type: ignore[attr-defined]  # re-exported without __all__
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from media import canonical
from media.errors import MalformedError, ThresholdError, WrongVolumeError

_NEW: Final = "do not use this medium; ask the sender for a new one"
_KINDS: Final[Mapping[str, type[Signed]]] = {"timestamp": Timestamp, "snapshot": Snapshot, "targets": Targets}
_Loaded = TypeVar("_Loaded")


@contextmanager
def _unexecuted(package: str) -> Iterator[None]:
    """Let modules of a package be imported without the package's own code, which imports what is not wanted."""
    spec = None if package in sys.modules else importlib.util.find_spec(package)
    if spec is None:
        yield
        return
    sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[package]  # whoever wants the package itself gets it whole


with _unexecuted("tuf.ngclient"):
    from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
    from tuf.ngclient.config import EnvelopeType


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleFile:
    """One metadata file of the fixed shape; nothing in it is believed yet."""

    role: str
    raw: bytes
    signed: Mapping[str, Any]
    signatures: Mapping[str, Signature] = field(repr=False)

    @property
    def version(self) -> int:
        """The version that it claims."""
        return int(self.signed["version"])

    def covered(self) -> bytes:
        """Return what its signatures cover: the signed part in the canonical JSON of TUF.

        python-tuf's own encoder gives the same bytes, and takes twenty times their room on the way.
        """
        written = io.BytesIO()
        encode_canonical(dict(self.signed), lambda text: written.write(text.encode()))
        return written.getvalue()


def trusted_roots(first: RoleFile) -> TrustedMetadataSet:
    """Return python-tuf's set that begins with this root and will take those that follow it.

    Raises:
        MalformedError, ThresholdError: python-tuf refuses it.
    """
    return typed(lambda: TrustedMetadataSet(first.raw, EnvelopeType.METADATA), first)


class ReleaseOrder(TrustedMetadataSet):
    """Timestamp, snapshot and targets below a trusted root; it lives as long as one judgement.

    Args:
        root: The trusted root's bytes.
        files: Timestamp, snapshot and targets.

    Raises:
        MalformedError: python-tuf cannot read a file.
    """

    def __init__(self, root: bytes, files: Iterable[RoleFile]) -> None:
        super().__init__(root, EnvelopeType.METADATA)
        self._load_data = self._load_read  # type: ignore[assignment]  # for these three files only
        self._files = {file.role: file for file in files}
        self._read = {role: _as_tuf(file) for role, file in self._files.items()}
        self.covered = {role: file.covered() for role, file in self._files.items()}

    def update(self, file: RoleFile) -> None:
        """Take the next file in TUF's order.

        Raises:
            MalformedError, ThresholdError, WrongVolumeError: python-tuf refuses it.
        """
        steps: dict[str, Callable[[bytes], Signed]]
        steps = {"timestamp": self.update_timestamp, "snapshot": self.update_snapshot, "targets": self.update_targets}
        typed(lambda: steps[file.role](file.raw), file)

    def _load_read(
        self, role: type[Signed], _data: bytes, delegator: Root, role_name: str | None = None
    ) -> tuple[Signed, bytes, dict[str, Signature]]:
        """Do what python-tuf's own loader does, with what was read already."""
        name = role_name or role.type
        signatures, covered = dict(self._files[name].signatures), self.covered[name]
        delegator.verify_delegate(name, covered, signatures)
        return self._read[name], covered, signatures


def typed(step: Callable[[], _Loaded], file: RoleFile) -> _Loaded:
    """Run one step of python-tuf and turn its refusal into ours.

    Raises:
        MalformedError: It cannot read the file, or a root has another version than the one that belongs there.
        ThresholdError: Too few keys signed.
        WrongVolumeError: The file is of another release than the one before it.
    """
    try:
        return step()
    except exceptions.UnsignedMetadataError as error:
        raise ThresholdError(
            what=f"too few keys signed the {file.role} metadata",
            why="python-tuf counted fewer than the root demands",
            fix="ask the sender for a release that enough people signed",
        ) from error
    except exceptions.BadVersionNumberError as error:
        kind: type[MalformedError | WrongVolumeError] = MalformedError if file.role == "root" else WrongVolumeError
        raise kind(
            what=f"the {file.role} metadata has another version than the one that belongs here",
            why=f"version {file.version} does not follow from the file before it",
            fix=_NEW,
        ) from error
    except (exceptions.RepositoryError, ValueError, KeyError, TypeError) as error:
        raise MalformedError(
            what=f"the {file.role} metadata is refused by the TUF library", why=type(error).__name__, fix=_NEW
        ) from error


def _as_tuf(file: RoleFile) -> Signed:
    """Return what python-tuf makes of the signed part; it takes apart what it is given, hence the copies.

    It reads every target and keeps none: its order is about roles.
    """
    table = "targets" if file.role == "targets" else "meta"
    entries = canonical.mapping(file.signed[table], f"The {file.role} metadata")

    def read() -> Signed:
        try:
            for path, entry in entries.items() if table == "targets" else ():
                TargetFile.from_dict(dict(entry), path)
            kept = {} if table == "targets" else {path: dict(entry) for path, entry in entries.items()}
            return _KINDS[file.role].from_dict({**file.signed, table: kept})
        except Exception as error:  # any, as python-tuf's own reader of JSON takes it
            message = "python-tuf cannot read it"
            raise DeserializationError(message) from error

    return typed(read, file)
