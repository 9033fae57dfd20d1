"""A record that was checked and waits to be appended."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from appliance.audit.leaf import Via, encode_body, require_kind
from appliance.state.shapes import require_shape

TERM_FIELD: Final = "request_id"


class Entry(NamedTuple):
    """A record that was checked and waits to be appended."""

    kind: str
    body: bytes
    term: str
    via: Via
    retry: str = ""

    @classmethod
    def of(cls, kind: str, body: Mapping[str, Any], *, via: Via, key: str = "") -> "Entry":
        """Check a record and encode its body.

        Raises:
            LedgerRefusedError: The kind is none, or the body has a wrong shape.
        """
        require_kind(kind)
        encoded = encode_body(kind, body)
        require_shape(kind, body)
        term = body.get(TERM_FIELD)
        retry = f"{via.door}/{key}" if key else ""
        return cls(kind, encoded, term if isinstance(term, str) else "", via, retry)
