"""/v1/files and /v1/batches in OpenAI's shape: reading and status codes; each key sees its own and nothing else."""

import io
from collections.abc import Mapping
from itertools import chain
from typing import Any, Final

from flask import Blueprint, Response, g, jsonify, request
from werkzeug.datastructures import FileStorage
from werkzeug.formparser import FormDataParser

from appliance.config import LimitsSection
from appliance.gateway.access import keyed
from appliance.gateway.arrival import said_of
from appliance.gateway.batches import lines
from appliance.gateway.batches.kept import MOST_BYTES, Batch, File, Kept
from appliance.gateway.batches.pages import MOST_BATCHES, MOST_FILES, page, read_query
from appliance.gateway.batches.schemas import MOST_METADATA, MOST_METADATA_CHARACTERS, PURPOSE, WINDOWS
from appliance.gateway.batches.store import BatchStore
from appliance.gateway.body import body_of, read_object
from appliance.gateway.problems import Problem, invalid, unknown_parameter

_MOST_FILES: Final = 100
_MOST_RUNNING: Final = 10
_ASKED: Final = frozenset({"input_file_id", "endpoint", "completion_window", "metadata"})

_FILES_ON_A_PAGE: Final = {"usual": MOST_FILES, "most": MOST_FILES}  # both as OpenAI has it
_BATCHES_ON_A_PAGE: Final = {"usual": 20, "most": MOST_BATCHES}


def make_blueprint(store: BatchStore, limits: LimitsSection) -> Blueprint:
    """Return the routes."""
    blueprint = Blueprint("batches", __name__)
    _files(blueprint, store, limits)
    _batches(blueprint, store)
    return blueprint


def _files(blueprint: Blueprint, store: BatchStore, limits: LimitsSection) -> None:
    @blueprint.post("/v1/files")
    @keyed
    def upload() -> Response:
        name, content = _uploaded()
        parts = lines.pieces(content)
        if len(parts) > lines.MOST_LINES:
            raise invalid("file", f"At most {lines.MOST_LINES} lines.", code="too_many_lines")
        days = limits.batch_days
        kept = store.add_file(g.key.key_id, purpose=PURPOSE, name=name, parts=parts, days=days, may=_require_room)
        return jsonify(kept.to_json())

    @blueprint.get("/v1/files")
    @keyed
    def files() -> Response:
        asked = read_query(request.args, {"purpose", "order", "limit", "after"})
        kept = store.files(g.key.key_id)
        if "purpose" in asked:
            kept = [one for one in kept if one.purpose == asked["purpose"]]
        return jsonify(page([one.to_json() for one in kept], asked, **_FILES_ON_A_PAGE))

    @blueprint.get("/v1/files/<file_id>")
    @keyed
    def file(file_id: str) -> Response:
        return jsonify(_file(store, file_id).to_json())

    @blueprint.get("/v1/files/<file_id>/content")
    @keyed
    def content(file_id: str) -> Response:
        found = _file(store, file_id)
        told = lines.joined(store.pieces(found.id))
        first = next(told)  # what cannot be read at all is a refusal
        return Response(chain((first,), told), mimetype="application/jsonl")

    @blueprint.delete("/v1/files/<file_id>")
    @keyed
    def delete(file_id: str) -> Response:
        found = _file(store, file_id)
        if not store.delete_file(found.id):
            raise Problem(409, "file_in_use", "A batch that runs reads this file; cancel it first.")
        return jsonify(id=found.id, object="file", deleted=True)


def _batches(blueprint: Blueprint, store: BatchStore) -> None:
    @blueprint.post("/v1/batches")
    @keyed
    def create() -> Response:
        asked = read_object(body_of(request))
        endpoint, hours, metadata = _read(asked)
        source = _file(store, str(asked.get("input_file_id")), param="input_file_id")
        if source.purpose != PURPOSE:
            raise invalid("input_file_id", "A file with the purpose batch.")
        _require_place(store.kept(g.key.key_id))
        parts = store.parts(source.id)
        faults = lines.faults_of(parts, endpoint=endpoint)
        batch = store.add_batch(
            certificate=g.certificate.serial,
            endpoint=endpoint,
            source=source,
            hours=hours,
            faults=[{"code": one.code, "line": one.line, "message": one.message, "param": None} for one in faults],
            metadata=metadata,
            said=said_of(request.environ),
            may=_require_place,
        )
        if batch is None:
            raise _no_file("input_file_id")
        return jsonify(batch.to_json())

    @blueprint.get("/v1/batches")
    @keyed
    def batches() -> Response:
        asked = read_query(request.args, {"limit", "after"})
        kept = store.batches(key_id=g.key.key_id)
        return jsonify(page([one.to_json() for one in kept], asked, **_BATCHES_ON_A_PAGE))

    @blueprint.get("/v1/batches/<batch_id>")
    @keyed
    def batch(batch_id: str) -> Response:
        return jsonify(_batch(store, batch_id).to_json())

    @blueprint.post("/v1/batches/<batch_id>/cancel")
    @keyed
    def cancel(batch_id: str) -> Response:
        found = _batch(store, batch_id)
        if found.status != "cancelling" and not store.move(
            found.id, "cancelling", only_from=("validating", "in_progress")
        ):
            raise Problem(409, "batch_ended", "The batch has ended.")
        return jsonify(_batch(store, batch_id).to_json())


def _require_place(kept: Kept) -> None:
    if kept.running >= _MOST_RUNNING:
        raise Problem(429, "too_many_batches", f"A key runs at most {_MOST_RUNNING} batches.")
    _require_room(kept)


def _require_room(kept: Kept) -> None:
    if kept.files >= _MOST_FILES or kept.bytes >= MOST_BYTES:
        raise Problem(
            429,
            "too_many_files",
            f"A key keeps at most {_MOST_FILES} files, {MOST_BYTES >> 20} MiB with what its batches have; delete some.",
        )


def _file(store: BatchStore, file_id: str, *, param: str | None = None) -> File:
    found = store.file_of(g.key.key_id, file_id)
    if found is None:
        raise _no_file(param)
    return found


def _no_file(param: str | None) -> Problem:
    return Problem(404, "file_not_found", "This key has no such file.", param=param)


def _batch(store: BatchStore, batch_id: str) -> Batch:
    found = store.batch_of(g.key.key_id, batch_id)
    if found is None:
        raise Problem(404, "batch_not_found", "This key has no such batch.")
    return found


def _uploaded() -> tuple[str, bytes]:
    """Return name and content of a file that is handed in; it never touches a disk unencrypted."""
    content = body_of(request)
    options: Mapping[str, str] = request.mimetype_params
    if request.mimetype != "multipart/form-data" or not options.get("boundary"):
        raise Problem(400, "invalid_multipart", "Send multipart/form-data with purpose and file.")
    parser = FormDataParser(stream_factory=lambda *_, **__: io.BytesIO(), silent=False, max_form_parts=16)
    try:
        _, form, handed = parser.parse(io.BytesIO(content), request.mimetype, len(content), dict(options))
    except ValueError:
        raise Problem(400, "invalid_multipart", "The parts of the body cannot be read.") from None
    if form.getlist("purpose") != [PURPOSE]:
        raise invalid("purpose", "Files are for batches: purpose is batch, once.")
    for name in (*form, *handed):
        if name not in {"purpose", "file"}:
            raise unknown_parameter(name)
    found: list[FileStorage] = handed.getlist("file")
    if len(found) + len(form.getlist("file")) > 1 or "purpose" in handed:
        raise invalid("file", "One file, and beside it purpose alone.")
    if not found:
        raise invalid("file", "One file.", code="missing_required_parameter")
    return (found[0].filename or "batch.jsonl")[:255], found[0].stream.read()


def _read(asked: Mapping[str, Any]) -> tuple[str, int, dict[str, str] | None]:
    for name in asked:
        if name not in _ASKED:
            raise unknown_parameter(name)
    if not isinstance(asked.get("input_file_id"), str):
        raise invalid("input_file_id", "The id of a file.", code="missing_required_parameter")
    endpoint, window, metadata = asked.get("endpoint"), asked.get("completion_window"), asked.get("metadata")
    if endpoint not in lines.ENDPOINTS:
        raise invalid("endpoint", f"One of {', '.join(lines.ENDPOINTS)}.")
    hours = WINDOWS.get(window) if isinstance(window, str) else None
    if hours is None:
        raise invalid("completion_window", f"Hours, 1h to {list(WINDOWS)[-1]}.")
    if metadata is None:
        return str(endpoint), hours, None
    if not isinstance(metadata, dict) or len(metadata) > MOST_METADATA:
        raise invalid("metadata", f"At most {MOST_METADATA} texts by name.")
    if not all(
        isinstance(one, str) and len(one) <= MOST_METADATA_CHARACTERS for pair in metadata.items() for one in pair
    ):
        raise invalid("metadata", f"Texts of at most {MOST_METADATA_CHARACTERS} characters.")
    return str(endpoint), hours, dict(metadata)
