"""Sampled answers for people: kept on the box by the gates, shown without saying whose they are, judged by name.

A judgement is a record of the ledger with the person, the sheet's digest and counts; prompts and answers are in the
registry's folder only. The next run of the gates takes it into account, so that evidence and signatures cover it.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from appliance.actions.gating.bench import Bench, Judged
from appliance.audit.facts import EVERY, Ledger
from appliance.config import Places
from appliance.errors import StoreDamagedError, StoreWriteError, UnknownVersionError
from appliance.promote import sheet as sheets
from appliance.promote.folder import PromoterFolder
from appliance.promote.sheet import JUDGED, Answer, Judgement, Sheet
from appliance.registry import catalog
from appliance.registry.catalog import Version
from media import canonical, durable
from media.errors import MalformedError

_GATE: Final = "human-review"
_MODE: Final = 0o640
COUNTS: Final = tuple(Judgement.__dataclass_fields__)
"""What a judgement counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxReviews:
    """What the gate of human review works with; see `gating.bench.Reviews`."""

    places: Places
    ledger: Ledger

    def keep(self, bench: Bench) -> str:
        """Keep this run's sample and its sheet."""
        own = sheets.sampled(bench.notes.answered, bench.policy.review.entries)
        if not own:
            return ""
        digest = bench.descriptor.model_digest
        _write(_answers_place(self.places, digest), _answers_bytes(own))
        known = next((one for one in (bench.production, bench.full_precision) if one is not None), None)
        others = {} if known is None else _answers(self.places, known.model_digest)
        made = Sheet(
            model_digest=digest,
            other="" if known is None or not others else known.model_digest,
            entries=sheets.paired(own, others),
        )
        place = _sheet_place(self.places, made.sha256)
        if not place.exists():  # its secret stays, so that a form that is with somebody still counts
            document = {"secret": secrets.token_hex(16), "sheet": made.to_bytes().decode()}
            _write(place, canonical.dumps(document))
        return made.sha256

    def judged(self, sheet: str) -> Sequence[Judged]:
        """Return the newest judgement of each person."""
        newest: dict[str, Judged] = {}
        for leaf in self.ledger.find(kind=JUDGED, field="sheet", value=sheet, limit=EVERY):
            person = str(leaf.body.get("person"))
            counts = {name: int(leaf.body.get(name, 0)) for name in COUNTS}
            newest.setdefault(person, Judged(sheet=sheet, person=person, **counts))
        return tuple(newest.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSheet:
    """A kept sheet with its secret."""

    version: Version
    sheet: Sheet
    secret: str

    def form(self) -> dict[str, Any]:
        """Return the form to be filled in."""
        return self.sheet.form(self.secret)


def open_sheet(places: Places, state: Engine, which: str) -> OpenSheet:
    """Return the sheet of a version's newest validation.

    Raises:
        UnknownVersionError: No such version, or none of its validations left a sheet.
        StoreDamagedError: The sheet is gone, or not what its digest says.
    """
    with state.connect() as session:
        version = catalog.version(session, which)
        found = [one for one in catalog.judgements(session, version.model_digest) if one.gate == _GATE]
    digest = str(found[-1].figures.get("sheet", "")) if found else ""
    if not digest:
        raise UnknownVersionError(
            what=f"there are no answers of {version.name} {version.version} to judge",
            why="no validation came as far as the gate human-review, or no task has the model write an answer",
            fix=f"run `sealift validate {version.model_digest[:12]}`",
        )
    sheet, secret = kept(places, digest)
    return OpenSheet(version=version, sheet=sheet, secret=secret)


def kept(places: Places, digest: str) -> tuple[Sheet, str]:
    """Return a kept sheet and its secret, which says which side of a pair is which.

    Raises:
        StoreDamagedError: The sheet is gone, or not what its digest says.
    """
    try:
        found = _sheet_place(places, digest).read_bytes()
        document = canonical.mapping(canonical.loads(found, max_bytes=sheets.MAX_BYTES), "sheet")
    except OSError as error:
        raise _damaged(digest, error.strerror or "") from error
    content = str(document.get("sheet", "")).encode()
    if sha256(content).hexdigest() != digest:
        raise _damaged(digest, "its bytes have another digest")
    return Sheet.from_bytes(content), str(document.get("secret", ""))


def take(
    places: Places, ledger: Ledger, opened: OpenSheet, untrusted_form: bytes, *, person: str, dry_run: bool = False
) -> Judgement:
    """Record what an enrolled person's filled-in form says, and return it.

    Raises:
        MalformedError: The form is of another sheet, or not filled in.
        UnknownPersonError: Nobody of that id is enrolled.
        LedgerUnavailableError: It could not be recorded.
    """
    PromoterFolder(places.promoter).people().require_active(person)
    try:
        form = json.loads(untrusted_form)
    except (ValueError, RecursionError) as error:
        raise MalformedError(
            what="the form is not JSON", why="", fix="fill in what `sealift answers form` wrote"
        ) from error
    judgement = opened.sheet.judged(_without_notes(form), opened.secret)
    if not dry_run:
        ledger.append(
            JUDGED,
            {
                "model_digest": opened.version.model_digest,
                "sheet": opened.sheet.sha256,
                "person": person,
                "form_sha256": sha256(untrusted_form).hexdigest(),
                **asdict(judgement),
            },
        )
    return judgement


def _without_notes(untrusted: Any) -> Mapping[str, Any]:
    found = canonical.mapping(untrusted, "form")
    return {name: value for name, value in found.items() if name in {"format", "type", "sheet", "entries"}}


def _answers_bytes(answers: Sequence[Answer]) -> bytes:
    rows = [
        {"set_sha256": one.set_sha256, "item": one.item, "text": one.text.encode(errors="replace").decode()}
        for one in answers
    ]
    return canonical.dumps({"format": sheets.FORMAT, "answers": rows})


def _answers(places: Places, model_digest: str) -> dict[tuple[str, str], str]:
    try:
        content = _answers_place(places, model_digest).read_bytes()
        rows = canonical.mapping(canonical.loads(content, max_bytes=sheets.MAX_BYTES), "answers").get("answers", [])
    except (OSError, MalformedError):
        return {}
    return {(str(row["set_sha256"]), str(row["item"])): str(row["text"]) for row in rows}


def _answers_place(places: Places, model_digest: str) -> Path:
    return places.registry / "reviews" / f"answers-{canonical.sha256_hex(model_digest, 'model digest')}.json"


def _sheet_place(places: Places, digest: str) -> Path:
    return places.registry / "reviews" / f"sheet-{canonical.sha256_hex(digest, 'sheet digest')}.json"


def _write(place: Path, content: bytes) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o770)
        durable.replace(place, content, mode=_MODE)
    except OSError as error:
        raise StoreWriteError(
            what="sampled answers could not be kept", why=error.strerror or "", fix="check the disk"
        ) from error


def _damaged(digest: str, why: str) -> StoreDamagedError:
    return StoreDamagedError(
        what=f"the sheet {digest[:12]} cannot be read", why=why, fix="validate the version again; it is made anew"
    )
