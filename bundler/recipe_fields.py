"""The kinds of values that a recipe holds, and the base of its sections: strict, frozen, no unknown keys."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from media import canonical

_FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        message = "give the time zone, e.g. 2026-11-20T08:00:00Z"
        raise ValueError(message)
    return moment.astimezone(UTC).replace(microsecond=0)


def _decimal_text(value: Any) -> Any:
    """Turn a TOML number into the text that canonical JSON carries."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return format(Decimal(str(value)), "f")


def _relative(text: str) -> str:
    if text.startswith("/") or ".." in text.split("/") or "\0" in text or "\\" in text:
        message = "give a path below the recipe's folder"
        raise ValueError(message)
    return text


def _plain_url(text: str) -> str:
    """Pass a URL that can be shown, logged and signed: no user, no password, no query."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        message = "give an http or https URL"
        raise ValueError(message)
    if parts.username is not None or parts.password is not None or "?" in text or "#" in text:
        message = "a URL of a recipe holds no user, password, query or fragment; it is shown and signed"
        raise ValueError(message)
    return text


def _file_url(text: str) -> str:
    if not re.fullmatch(_FILE_NAME, PurePosixPath(urlsplit(text).path).name) or text.endswith("/"):
        message = "the URL's last part is not a plain file name"
        raise ValueError(message)
    return text


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Site = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x20-\x7e]+$")]
Moment = Annotated[datetime, AfterValidator(_utc)]
Number = Annotated[str, BeforeValidator(_decimal_text), Field(pattern=f"^{canonical.DECIMAL.pattern}$")]
RelativePath = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_relative)]
FileName = Annotated[str, Field(pattern=_FILE_NAME)]
Url = Annotated[str, Field(max_length=1000, pattern=r"^[\x21-\x7e]+$"), AfterValidator(_plain_url)]
FileUrl = Annotated[Url, AfterValidator(_file_url)]
Many = Field(strict=False)  # TOML has lists, frozen models have tuples


class Section(BaseModel):
    """One table of a recipe."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", populate_by_name=True)
