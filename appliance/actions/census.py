"""The site's own list of names: read, recorded, replaced as a whole, taken away.

Promises: a list is taken whole or not at all; the ledger has a record of it, a count and a keyed digest and no name,
before the file changes. A file cut between the two is told by `standing`, and importing again ends it.
"""

import csv
import hashlib
import io
import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from appliance.actions.findings import Finding
from appliance.audit.facts import Appended, Ledger
from appliance.audit.leaf import Leaf
from appliance.config import Config
from appliance.errors import StoreWriteError
from appliance.install.supervisor import is_booted_box
from appliance.keys.provider import KeyProvider
from appliance.phi import censusfile
from appliance.phi.census import ways_of
from appliance.phi.detect import shadow_of
from media import durable
from media.clock import Clock, from_text
from media.errors import LimitExceededError, MalformedError, SealiftError, UsageError

IMPORTED: Final = "census.imported"
FORGOTTEN: Final = "census.forgotten"
MAX_BYTES: Final = 64 * 1024 * 1024
_MODE: Final = 0o640
_NAMED_LINES: Final = 20
_DELIMITERS: Final = (",", ";", "\t")
_NO_FILE: Final = "a list is on record, and there is none on the disk"
_NO_RECORD: Final = "there is a list on the disk, and none on record"
_WHY: Final = {
    _NO_FILE: "names of the list reach the engine where no pattern finds them",
    _NO_RECORD: "names are masked by a list of which nobody knows who brought it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names of a file, each once and in order.

    Attributes:
        names: What is kept.
        rows: How many rows of the file had one.
        unseen: How many of the names cannot be looked for, being one everyday word or alone in a script without case.
    """

    names: tuple[str, ...]
    rows: int
    unseen: int

    def to_json(self) -> dict[str, int]:
        """Return the counts; no name is among them."""
        return {"names": len(self.names), "rows": self.rows, "unseen": self.unseen}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the ledger says of the list, and whether the file is that one.

    Attributes:
        names: How many the list that was recorded last has; 0 for none.
        at: When that was, as the ledger says.
        person: Who did it.
        digest: Keyed, over the list.
        fault: Why the file is not what was recorded; empty where it is.
    """

    names: int
    at: str
    person: str
    digest: str
    fault: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {
            "names": self.names,
            "at": self.at or None,
            "by": self.person or None,
            "digest": self.digest or None,
            "fault": self.fault or None,
        }

    @property
    def fix(self) -> str:
        """What a person does, as root: what ends the fault, or where there is none what a list would be for."""
        if self.fault == _NO_RECORD:
            return "`sealift census forget`, or `sealift census import` with the list that is meant, as root"
        if self.fault:
            return "`sealift census import` with the list again, or `sealift census forget` if none is meant, as root"
        if self.names:
            return ""
        taken = "it was taken away; " if self.at else ""
        return f"{taken}`sealift census import`, as root, if names that stand alone are to be masked"

    def age_days(self, clock: Clock) -> int:
        """Return for how many days the list has been here."""
        return max(0, (clock.now() - from_text(self.at)).days) if self.at else 0


def parsed(untrusted: bytes, columns: Sequence[str] = ()) -> Names:
    """Read a list: one name a line, or the named columns of a CSV file with a head.

    Two columns are the family name and the given names, in this order.

    Raises:
        LimitExceededError: It is too large, or has too many names.
        MalformedError: Rows cannot be names; they are named by line, and nothing of them is said.
        UsageError: There is no such column, or no name at all.
    """
    if len(untrusted) > MAX_BYTES:
        raise LimitExceededError(what="the list is too large", why=f"the limit is {MAX_BYTES} bytes", fix="shorten it")
    try:
        text = untrusted.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _bad([untrusted.count(b"\n", 0, error.start) + 1], "it is not UTF-8") from None
    found: dict[str, None] = {}
    rows, bad = 0, []
    for line, value in _columns(text, columns) if columns else enumerate(text.splitlines(), 1):
        name = _name(value)
        if name is None:
            bad.append(line)
        elif name:
            rows += 1
            found[name] = None
    if bad:
        raise _bad(bad, f"no name, or more than {censusfile.MAX_NAME_CHARACTERS} characters")
    if not found:
        raise UsageError(
            what="the list has no name", why="an empty list finds nobody", fix="to have none: `sealift census forget`"
        )
    if len(found) > censusfile.MAX_NAMES or len(censusfile.plain_of(found)) > censusfile.MAX_BYTES:
        raise LimitExceededError(
            what="the list has too many names", why=f"the limit is {censusfile.MAX_NAMES}", fix="leave out who left"
        )
    unseen = sum(next(ways_of(name), None) is None for name in found)
    return Names(names=tuple(found), rows=rows, unseen=unseen)


def bring(config: Config, names: Names, *, ledger: Ledger, keys: KeyProvider, person: str) -> Appended:
    """Replace the list; return the record of it.

    Raises:
        KeyMissingError: A key cannot be used; nothing was done.
        LedgerUnavailableError: It could not be recorded; the list is as it was.
        StoreWriteError: It could not be written. If the record says otherwise, import it again.
    """
    plain = censusfile.plain_of(names.names)
    body = {"names": len(names.names), "digest": digest_of(plain, keys), "person": person}
    return lay_down(config, plain, ledger=ledger, keys=keys, kind=IMPORTED, body=body)


def lay_down(
    config: Config, plain: bytes, *, ledger: Ledger, keys: KeyProvider, kind: str, body: Mapping[str, Any]
) -> Appended:
    """Record what is done and write the list; raises as `bring`."""
    sealed = censusfile.sealed(plain, keys)
    _prepare(config)
    done = ledger.append(kind, body)
    try:
        durable.replace(config.at.census / censusfile.NAME, sealed, mode=_MODE)
    except OSError as error:
        raise _unwritten(error) from error
    return done


def forget(config: Config, *, ledger: Ledger, person: str, reason: str, kind: str = FORGOTTEN) -> bool:
    """Take the list away; return whether there was one.

    Args:
        config: The site file.
        ledger: Where that is recorded.
        person: Who does it.
        reason: Why.
        kind: Of the record.

    Raises:
        LedgerUnavailableError: It could not be recorded; the list is as it was.
        StoreWriteError: It could not be taken away.
    """
    file = config.at.census / censusfile.NAME
    last = on_record(ledger)
    try:
        is_there = file.is_symlink() or file.exists()
    except OSError as error:
        raise _unwritten(error) from error
    if not is_there and (last is None or last.kind == FORGOTTEN):
        return False
    ledger.append(kind, {"person": person, "reason": reason})
    try:
        if is_there:
            file.unlink()
            durable.sync_folder(file.parent)
    except OSError as error:
        raise _unwritten(error) from error
    return True


def standing(config: Config, ledger: Ledger, keys: KeyProvider | None) -> Standing:
    """Return what is known of the list; without keys it is not opened.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    last = on_record(ledger)
    is_one = last is not None and last.kind == IMPORTED
    body = last.body if last is not None else {}
    digest = str(body.get("digest", "")) if is_one else ""
    return Standing(
        names=int(body.get("names", 0)) if is_one else 0,
        at=last.time if last is not None else "",
        person=str(body.get("person", "")),
        digest=digest,
        # Who may not look cannot say that anything is wrong.
        fault=_fault(config, digest, keys) if _may_look(config) else "",
    )


def finding(config: Config, ledger: Ledger, clock: Clock) -> Finding:
    """Say whether there is a list, how old it is, and where disk and ledger disagree; nothing is opened.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    found = standing(config, ledger, None)
    text = f"{found.names} names, {found.age_days(clock)} days old" if found.names else "there is no list of names"
    return Finding(
        name="census",
        is_good=not found.fault if found.fault or found.names else None,
        text=found.fault or text,
        why=_WHY.get(found.fault, "a name of the list would reach the engine, or every request is refused"),
        fix=found.fix,
    )


def digest_of(plain: bytes, keys: KeyProvider, *, version: int | None = None) -> str:
    """Return the keyed digest of a list, after the version of the key that made it.

    Raises:
        KeyMissingError: The key cannot be used.
    """
    version = version or keys.newest("content-hmac")
    return f"v{version}:{keys.hmac('content-hmac', hashlib.sha256(plain).digest(), version=version).hex()}"


def key_version(digest: str) -> int:
    """Return the version of the key that made a digest.

    Raises:
        ValueError: It names none.
    """
    return int(digest.partition(":")[0].removeprefix("v"))


def has_digest(plain: bytes, digest: str, keys: KeyProvider) -> bool:
    """Tell whether a digest is this list's.

    Raises:
        KeyMissingError: The key that made it cannot be used.
        ValueError: It names no key's version.
    """
    return digest_of(plain, keys, version=key_version(digest)) == digest


def on_record(ledger: Ledger) -> Leaf | None:
    """Return the newest record of a list that came or went; None where there was none.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    found = [leaf for kind in (IMPORTED, FORGOTTEN) for leaf in ledger.find(kind, limit=1)]
    return max(found, key=lambda leaf: leaf.sequence, default=None)


def _may_look(config: Config) -> bool:
    return os.access(config.at.census, os.X_OK) or not config.at.census.exists()


def _fault(config: Config, digest: str, keys: KeyProvider | None) -> str:
    try:
        found = censusfile.read(config.at.census)
        if found is None or not digest:
            return (_NO_FILE if digest else "") if found is None else _NO_RECORD
        if keys is None:
            return ""
        plain = censusfile.opened(found[0], keys)
        # Versions of this key go after years; what they made can then not be compared.
        is_same = key_version(digest) not in keys.versions("content-hmac") or has_digest(plain, digest, keys)
    except SealiftError as error:
        return f"{error.what}: {error.why}"
    return "" if is_same else "the list on the disk is not the one that was recorded last"


def _name(untrusted: str) -> str | None:
    """Return a name as it is kept, nothing for an empty row; None where it is none."""
    name = " ".join(shadow_of(unicodedata.normalize("NFC", untrusted))[0].split())
    if not name or name == ",":
        return ""
    is_printed = all(one.isprintable() for one in name)
    return name if is_printed and len(name) <= censusfile.MAX_NAME_CHARACTERS and any(map(str.isalpha, name)) else None


def _columns(text: str, columns: Sequence[str]) -> Iterator[tuple[int, str]]:
    for delimiter in _DELIMITERS:
        named = _head(text, delimiter)
        if all(column in named for column in columns):
            places = [named.index(column) for column in columns]
            break
    else:
        raise UsageError(
            what="the file has no such column",
            why="the first line names them, apart by comma, semicolon or tabulator",
            fix="give --column as the first line spells it",
        )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for number, row in enumerate(reader):
            if number and row:
                parts = [row[place].strip() if place < len(row) else "" for place in places]
                yield reader.line_num, ", ".join(parts) if any(parts) else ""
    except csv.Error:
        raise _bad([reader.line_num], "it is not CSV") from None


def _head(text: str, delimiter: str) -> list[str]:
    """Return the names of the columns, read as the rows are, so that a name with a delimiter in it moves no column."""
    try:
        first = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []
    return [one.strip().strip('"').strip() for one in first]


def _prepare(config: Config) -> None:
    folder = config.at.census
    try:
        if not is_booted_box(config):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not folder.is_dir():
            # Made here, it would not belong to the gateway's group, and every request would be refused.
            raise StoreWriteError(
                what="the folder of the census list is not there",
                why="it is made when the box starts",
                fix="systemd-tmpfiles --create, then run it again",
            )
        # Whoever may not write here must not leave a record behind.
        probe = folder / f".{censusfile.NAME}.probe"
        probe.unlink(missing_ok=True)
        durable.write_new(probe, b"", mode=0o600)
        probe.unlink()
    except OSError as error:
        raise _unwritten(error) from error


def _bad(lines: Collection[int], why: str) -> MalformedError:
    shown = sorted(lines)[:_NAMED_LINES]
    more = f" and {len(lines) - len(shown)} more" if len(lines) > len(shown) else ""
    return MalformedError(
        what=f"the list cannot be taken: line {', '.join(map(str, shown))}{more}",
        why=why,
        fix="mend these lines; nothing was changed",
    )


def _unwritten(error: OSError) -> StoreWriteError:
    return StoreWriteError(
        what="the census list could not be written",
        why=error.strerror or "",
        fix="run it again as root, with room on the disk; `sealift census show` says how things stand",
    )
