"""Model files of a Hugging Face hub: one revision by its 40 hexadecimal digits, every file by its own digest.

The library `huggingface_hub` knows the hub's addresses and asks it for a file's facts; it is the extra `bundler-hub`,
imported only here. The bytes come by our own download, because the library starts anew where it was cut off. A token,
which gated models need, comes from a credential file or the environment, goes to the hub's own origin and nowhere
else: no recipe, cache, record or message holds it. The recipe cannot choose the hub, or it could collect tokens.
"""

import importlib
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

from bundler.cache import Cache
from bundler.download import Line, Wanted, download
from bundler.errors import SourceError
from bundler.process import Progress
from bundler.recipe_sources import HubFiles

CREDENTIAL: Final = "hub-token"
TOKEN_FILE: Final = "SEALIFT_HUB_TOKEN_FILE"  # noqa: S105 - a variable's name
_TOKENS: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_TOKEN: Final = re.compile(r"[\x21-\x7e]{8,200}")
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
# Read by the library when it is first imported; whoever set them otherwise is left alone.
_QUIET: Final = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_HUB_DISABLE_XET": "1"}


def obtain(source: HubFiles, *, cache: Cache, progress: Progress, line: Line | None = None) -> dict[str, Path]:
    """Return the files of a source by their names on the medium, from the cache or the hub.

    Raises:
        SourceError: The library is not installed, the hub did not give a file, or it is not the pinned one.
    """
    files: dict[str, Path] = {}
    for path, sha256 in source.files.items():
        name = PurePosixPath(path).name
        found = cache.find(sha256)
        if found is None:
            progress(f"downloading {name} of {source.repo}")
            found = _download(source, path, sha256, cache=cache, line=line or Line(), environment=os.environ)
        files[name] = found
    return files


def token(environment: Mapping[str, str]) -> str:
    """Return the token of the person who builds; empty where there is none.

    Raises:
        SourceError: A token file cannot be read, is open to others, or holds no token.
    """
    named = environment.get(TOKEN_FILE, "")
    credentials = environment.get("CREDENTIALS_DIRECTORY", "")
    file = Path(named) if named else Path(credentials) / CREDENTIAL
    if named or (credentials and file.is_file()):
        text = _token_of(file)
    else:
        text = next((environment[name].strip() for name in _TOKENS if environment.get(name)), "")
    if text and not _TOKEN.fullmatch(text):
        raise SourceError(what="the hub's token is not one", why="it is not one printable word", fix="check it")
    return text


def endpoint(environment: Mapping[str, str], *, with_token: bool) -> str | None:
    """Return the hub that HF_ENDPOINT names, or nothing for the library's own.

    Raises:
        SourceError: It is no plain URL, or a token would go over a network unencrypted.
    """
    given = environment.get("HF_ENDPOINT", "").rstrip("/")
    if not given:
        return None
    parts = urlsplit(given)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or parts.query:
        raise SourceError(what="HF_ENDPOINT is no URL of a hub", why="", fix="give https://HOST without a user")
    if with_token and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise SourceError(
            what="HF_ENDPOINT is not encrypted", why="everyone on the way would read the token", fix="give https://HOST"
        )
    return given


def _download(
    source: HubFiles, path: str, sha256: str, *, cache: Cache, line: Line, environment: Mapping[str, str]
) -> Path:
    library = _library()
    secret = token(environment)
    hub = endpoint(environment, with_token=bool(secret))
    try:
        url: str = library.hf_hub_url(source.repo, path, revision=source.revision, endpoint=hub)
        facts = library.get_hf_file_metadata(url, token=secret or False, endpoint=hub)
        headers: dict[str, str] = library.utils.build_hf_headers(token=secret or False)
    except Exception as error:  # noqa: BLE001 - the library's errors and those of its HTTP client have no one root
        # Nothing of their text is passed on, since it can hold URLs that are keys for a while.
        raise _failed(source, path, error, had_token=bool(secret)) from None
    _require_fitting(source, path, commit=facts.commit_hash, size=facts.size)
    secrets = {name: value for name, value in headers.items() if name.lower() == "authorization"}
    name = PurePosixPath(path).name
    wanted = Wanted(name=name, urls=(url,), sha256=sha256, max_bytes=source.max_bytes, secrets=secrets)
    return download(wanted, cache=cache, line=line)


def _library() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise SourceError(
            what="huggingface_hub is not installed",
            why="a model of the recipe comes from a hub",
            fix="pip install 'sealift[bundler-hub]', or use a source of kind http or file",
        ) from error


def _token_of(file: Path) -> str:
    try:
        if file.stat().st_mode & 0o077:
            raise SourceError(
                what="the file with the hub's token is open to others",
                why="only its owner may read it",
                fix="chmod 600",
            )
        return file.read_bytes()[:1000].decode("ascii", errors="replace").strip()
    except OSError as error:
        raise SourceError(
            what="the file with the hub's token cannot be read", why=error.strerror or "", fix=f"check {TOKEN_FILE}"
        ) from error


def _require_fitting(source: HubFiles, path: str, *, commit: str | None, size: int | None) -> None:
    if commit != source.revision:
        raise SourceError(
            what=f"{path} of {source.repo} is not of the pinned revision",
            why=f"the hub answers for {str(commit)[:12]}",
            fix="pin the revision by its 40 digits",
        )
    if size is None or size > source.max_bytes:
        raise SourceError(
            what=f"{path} is larger than max_bytes, {source.max_bytes}",
            why=f"the hub announces {'nothing' if size is None else size}",
            fix="raise models.source.max_bytes, if the file is the right one",
        )


def _failed(source: HubFiles, path: str, error: Exception, *, had_token: bool) -> SourceError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    is_closed = status in {401, 403} or type(error).__name__ == "GatedRepoError"
    fix = "run the build again; or name the file by a source of kind http"
    if is_closed:
        fix = "accept the model's terms on the hub" if had_token else f"set HF_TOKEN or {TOKEN_FILE}"
    return SourceError(
        what=f"{path} of {source.repo} could not be had from the hub",
        why=f"{type(error).__name__}{f', status {status}' if status else ''}",
        fix=fix,
    )
