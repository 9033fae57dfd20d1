"""The promoter's folder, read by engines and written by the promoter alone.

    people.json               everyone ever enrolled (format 1), no passwords
    promotions/NNNNNN.json    what happened to production, one file each
    requests/DIGEST.json      statements that wait for approvals
    codes.json passwords.json argon2 hashes; readable by the promoter only

Promises: a file is replaced whole or not at all (write, fsync, rename, fsync of the folder), and a promotion's file is
never written twice.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appliance.errors import ConflictError, NotPromotedError
from appliance.promote.history import Production, replay
from appliance.promote.people import SitePeople
from appliance.promote.record import MAX_BYTES, Promotion
from media import durable
from media.errors import SealiftError

_PUBLIC: Final = 0o644
_PRIVATE: Final = 0o600
_PEOPLE_BYTES = 8 * 1024 * 1024


class PromoterFolder:
    """Reads and writes the files below one folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder

    def people(self) -> SitePeople:
        """Return everyone ever enrolled.

        Raises:
            MalformedError: people.json is damaged.
            ConflictError: Two people in it share what only one may have.
        """
        untrusted = self._read("people.json", most=_PEOPLE_BYTES)
        return SitePeople() if untrusted is None else SitePeople.from_bytes(untrusted)

    def save_people(self, people: SitePeople) -> None:
        """Replace people.json."""
        self._write("people.json", people.to_bytes(), mode=_PUBLIC)

    def production(self) -> Production:
        """Return where production stands, by all files in order.

        Raises:
            NotPromotedError: A file is missing, malformed or does not follow from the ones before.
        """
        return replay(self._promotions())

    def save_promotion(self, promotion: Promotion) -> None:
        """Write one more promotion.

        Raises:
            ConflictError: A file of this number exists.
        """
        name = _name_of(promotion.number)
        if (self.path / name).exists():
            raise ConflictError(what=f"promotion {promotion.number} exists", why="numbers are used once", fix="restart")
        self._write(name, promotion.to_bytes(), mode=_PUBLIC)

    def request_names(self) -> list[str]:
        """Return the statement digests of all requests on file."""
        return sorted(path.stem for path in (self.path / "requests").glob("*.json"))

    def read_request(self, statement_sha256: str) -> bytes | None:
        """Return one request's file."""
        return self._read(f"requests/{statement_sha256}.json", most=MAX_BYTES)

    def save_request(self, statement_sha256: str, content: bytes) -> None:
        """Write or replace one request."""
        self._write(f"requests/{statement_sha256}.json", content, mode=_PUBLIC)

    def drop_request(self, statement_sha256: str) -> None:
        """Forget a request that was promoted or can be promoted no more; the ledger keeps it."""
        (self.path / f"requests/{statement_sha256}.json").unlink(missing_ok=True)

    def read_secret(self, name: str) -> bytes | None:
        """Return codes.json or passwords.json."""
        return self._read(name, most=MAX_BYTES)

    def save_secret(self, name: str, content: bytes) -> None:
        """Replace codes.json or passwords.json, readable by the promoter only."""
        self._write(name, content, mode=_PRIVATE)

    def _promotions(self) -> Iterator[Promotion]:
        names = sorted(path.name for path in (self.path / "promotions").glob("*.json"))
        for number, name in enumerate(names, start=1):
            if f"promotions/{name}" != _name_of(number):
                raise _unreadable(number, f"found {name[:40]} in its place")
            try:
                promotion = Promotion.from_bytes(self._read(f"promotions/{name}", most=MAX_BYTES) or b"")
            except SealiftError as error:
                raise _unreadable(number, f"{error.what}: {error.why}") from error
            if promotion.number != number:
                raise _unreadable(number, f"the file says it is number {promotion.number}")
            yield promotion

    def _read(self, name: str, *, most: int) -> bytes | None:
        try:
            fd = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            return file.read(most + 1)

    def _write(self, name: str, content: bytes, *, mode: int) -> None:
        path = self.path / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        durable.replace(path, content, mode=mode)


def _name_of(number: int) -> str:
    return f"promotions/{number:06d}.json"


def _unreadable(number: int, why: str) -> NotPromotedError:
    return NotPromotedError(
        what=f"promotion {number} on this machine cannot be trusted",
        why=why,
        fix="stop the engines and compare the promoter's folder with the ledger: `sealift history`",
    )
