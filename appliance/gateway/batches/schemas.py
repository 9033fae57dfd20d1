"""JSON Schema of files and batches, for the API's description, from what their routes and readers hold them to."""

from typing import Any, Final

from appliance.gateway.batches.lines import ENDPOINTS
from appliance.gateway.batches.pages import MOST_BATCHES, MOST_FILES, ORDERS
from appliance.gateway.schemas import COUNT, TEXT, Schema, as_object, closed

PURPOSE: Final = "batch"
WINDOWS: Final = {f"{hours}h": hours for hours in range(1, 25)}
"""How long a batch may take, as it is asked for, and in hours."""
MOST_METADATA: Final = 16
MOST_METADATA_CHARACTERS: Final = 512
_HEX: Final = "[0-9a-f]{32}$"
FILE_ID: Final[Schema] = {**TEXT, "pattern": f"^file-{_HEX}"}
BATCH_ID: Final[Schema] = {**TEXT, "pattern": f"^batch_{_HEX}"}
_MAYBE_TEXT: Final[Schema] = {"type": ["string", "null"]}
_MAYBE_COUNT: Final[Schema] = {"type": ["integer", "null"], "minimum": 0}
_MOMENTS: Final = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
_STATUS: Final = ("validating", *_MOMENTS)


def upload() -> Schema:
    """Return the parts of a file that is handed in."""
    return closed({"purpose": {"const": PURPOSE}, "file": {**TEXT, "format": "binary"}}, ["purpose", "file"])


def file() -> Schema:
    """Return what a file looks like."""
    return as_object(
        {
            "id": FILE_ID,
            "object": {"const": "file"},
            "bytes": COUNT,
            "created_at": COUNT,
            "expires_at": COUNT,
            "filename": TEXT,
            "purpose": {"enum": [PURPOSE, "batch_output"]},
            "status": {"const": "processed"},
        }
    )


def deleted() -> Schema:
    """Return what is said of a file that was deleted."""
    return as_object({"id": FILE_ID, "object": {"const": "file"}, "deleted": {"const": True}})


def work() -> Schema:
    """Return what a request for a batch may hold."""
    word: Schema = {**TEXT, "maxLength": MOST_METADATA_CHARACTERS}
    metadata: Schema = {
        "type": ["object", "null"],
        "maxProperties": MOST_METADATA,
        "propertyNames": {"maxLength": MOST_METADATA_CHARACTERS},
        "additionalProperties": word,
    }
    return closed(
        {
            "input_file_id": FILE_ID,
            "endpoint": {"enum": list(ENDPOINTS)},
            "completion_window": {"enum": list(WINDOWS)},
            "metadata": metadata,
        },
        ["input_file_id", "endpoint", "completion_window"],
    )


def batch() -> Schema:
    """Return what a batch looks like."""
    counts = as_object({"total": COUNT, "completed": COUNT, "failed": COUNT})
    moments: dict[str, Any] = {f"{one}_at": _MAYBE_COUNT for one in _MOMENTS}
    return as_object(
        {
            "id": BATCH_ID,
            "object": {"const": "batch"},
            "endpoint": {"enum": list(ENDPOINTS)},
            "errors": {"type": ["object", "null"]},
            "input_file_id": FILE_ID,
            "completion_window": TEXT,
            "status": {"enum": list(_STATUS)},
            "output_file_id": _MAYBE_TEXT,
            "error_file_id": _MAYBE_TEXT,
            "created_at": COUNT,
            "expires_at": COUNT,
            **moments,
            "request_counts": counts,
            "metadata": {"type": ["object", "null"]},
        }
    )


def listed(one: Schema) -> Schema:
    """Return what a page of a list of these looks like."""
    ends = {"first_id": _MAYBE_TEXT, "last_id": _MAYBE_TEXT, "has_more": {"type": "boolean"}}
    return as_object({"object": {"const": "list"}, "data": {"type": "array", "items": one}, **ends})


def query_of_files() -> dict[str, Schema]:
    """Return the parameters of the list of files."""
    return {"purpose": TEXT, "order": {"enum": list(ORDERS)}, **_page(MOST_FILES, FILE_ID)}


def query_of_batches() -> dict[str, Schema]:
    """Return the parameters of the list of batches."""
    return _page(MOST_BATCHES, BATCH_ID)


def _page(most: int, identity: Schema) -> dict[str, Schema]:
    after = {**TEXT, "pattern": f"^({identity['pattern'].strip('^$')})?$"}  # an empty one asks for the first page
    return {"limit": {"type": "integer", "minimum": 1, "maximum": most}, "after": after}
