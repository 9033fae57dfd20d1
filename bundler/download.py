"""Downloads that survive a bad line: resumed where the file is provably the same one, bounded, and believed by digest.

A partial file is resumed only where the server named the file by a strong ETag and a length, both were written down
beside it, and the answer to the range request names the same again; anything else starts over. Redirects are few and
never leave https. URLs carry no credentials, and the query that a redirect may hold is shown and written nowhere.
Secret headers stay with the origin that they are for. Proxies are those of the environment.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import urljoin, urlsplit

import urllib3

from bundler.cache import Cache
from bundler.digests import file_sha256
from bundler.errors import SourceError
from bundler.measure import Progress, no_progress
from bundler.proxies import pool_of, proxy_for
from media.digest import sha256_hex

_CHUNK: Final = 2**20
_MOST_REDIRECTS: Final = 5
_FRUITLESS: Final = 5  # failures in a row after which no more bytes are there than ever before
_MOST_ATTEMPTS: Final = 200
_LONGEST_PAUSE: Final = 60.0
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_STRONG: Final = re.compile(r'"[\x21\x23-\x7e]{1,200}"')
_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_PARTIAL: Final = "partial"


class _AgainError(Exception):
    """This attempt failed in a way that another may not."""

    def __init__(self, why: str, *, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One file: where it may lie, what its bytes are, and how many they may be.

    `secrets` are headers for the origins of the URLs alone: a redirect to another host does not get them.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    max_bytes: int
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How files come over the network; tests shorten the pauses."""

    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False))
    timeout: urllib3.Timeout = field(default_factory=lambda: urllib3.Timeout(connect=20, read=60))
    pause: Callable[[float], None] = time.sleep
    progress: Progress = no_progress
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    proxied: dict[str, urllib3.PoolManager] = field(default_factory=dict, repr=False)

    def pool_for(self, url: str) -> urllib3.PoolManager:
        """Return the connections that lead to a URL: direct ones, or through the proxy of the environment.

        Raises:
            SourceError: The environment names something that is no proxy.
        """
        proxy = proxy_for(url, self.environment)
        if not proxy:
            return self.pool
        return self.proxied.get(proxy) or self.proxied.setdefault(proxy, pool_of(proxy))

    @contextmanager
    def get(
        self, url: str, headers: dict[str, str], *, secrets: Mapping[str, str] | None = None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Ask for a URL, following few redirects, and lend the answer; secret headers go to its own origin only.

        Raises:
            SourceError: A redirect leads where none may.
        """
        origin = _origin(url)
        for _ in range(_MOST_REDIRECTS + 1):
            own = dict(secrets or {}) if _origin(url) == origin else {}
            answer = self.pool_for(url).request(
                "GET", url, headers={**headers, **own}, timeout=self.timeout, retries=False, redirect=False,
                preload_content=False, decode_content=False,
            )  # fmt: skip
            if answer.status not in _REDIRECTS:
                try:
                    yield answer
                finally:
                    answer.close()
                return
            answer.close()
            url = _redirected(url, answer.headers.get("Location", ""))
        raise _refused(url, f"more than {_MOST_REDIRECTS} redirects")


@dataclass(slots=True, kw_only=True)
class _Partial:
    """What came so far, and of which file it is; both lie in the cache, so that a later run goes on."""

    cache: Cache
    key: str

    @property
    def file(self) -> Path:
        return self.cache.folder(_PARTIAL, f"{self.key}.part")

    def held(self) -> int:
        return self.file.stat().st_size if self.file.is_file() else 0

    def identity(self) -> tuple[str, int] | None:
        memo: Any = self.cache.recall(_PARTIAL, self.key)
        if not isinstance(memo, dict) or not isinstance(memo.get("etag"), str):
            return None
        length = memo.get("length")
        return (memo["etag"], length) if isinstance(length, int) else None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other builds from the same file while this one writes it."""
        lock = self.cache.folder(_PARTIAL, f"{self.key}.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("wb") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SourceError(
                    what="another build is downloading the same file", why="both use one cache", fix="wait for it"
                ) from None
            yield

    def start_over(self, identity: tuple[str, int] | None) -> None:
        """Empty the file before its new identity is written down, never the other way round."""
        self.forget()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.touch()
        if identity is not None:
            self.cache.remember(_PARTIAL, self.key, {"etag": identity[0], "length": identity[1]})

    def forget(self) -> None:
        self.cache.folder(_PARTIAL, f"{self.key}.json").unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)


def download(wanted: Wanted, *, cache: Cache, line: Line) -> Path:
    """Return the file from the cache, or fetch it from the first URL that has it.

    Raises:
        SourceError: No URL gave the pinned file; `why` says what the last one did.
    """
    if found := cache.find(wanted.sha256):
        return found
    for number, url in enumerate(wanted.urls):
        try:
            return _from(url, wanted, cache=cache, line=line)
        except SourceError:
            if number == len(wanted.urls) - 1:
                raise
    raise SourceError(what=f"{wanted.name} has no URL", why="none was given", fix="name one in the recipe")


def _from(url: str, wanted: Wanted, *, cache: Cache, line: Line) -> Path:
    partial = _Partial(cache=cache, key=sha256_hex(f"{wanted.sha256} {url}".encode()))
    try:
        with partial.alone():
            return _persistently(url, wanted, partial, line=line)
    except OSError as error:
        raise SourceError(
            what=f"{wanted.name} could not be kept", why=error.strerror or "", fix="make room in the cache folder"
        ) from error


def _persistently(url: str, wanted: Wanted, partial: _Partial, *, line: Line) -> Path:
    fruitless, most, why = 0, partial.held(), ""
    for _ in range(_MOST_ATTEMPTS):
        wait = 0.0
        try:
            is_resumed = _attempt(url, wanted, partial, line=line)
        except _AgainError as failure:
            why, wait = str(failure), failure.wait
        except urllib3.exceptions.HTTPError as failure:
            why = type(failure).__name__  # its text may hold a redirect's query
        else:
            if not is_resumed or file_sha256(partial.file) == wanted.sha256:
                return _kept(partial, wanted)
            partial.forget()
            why = "the server changed the file under one ETag"
        fruitless = 0 if partial.held() > most else fruitless + 1
        most = max(most, partial.held())
        if fruitless >= _FRUITLESS:
            break
        line.pause(min(_LONGEST_PAUSE, max(wait, 0.5 * 2**fruitless)))
    raise SourceError(
        what=f"{wanted.name} could not be downloaded",
        why=f"{_shown(url)}: {why}",
        fix="run the build again, it goes on where it can; or name another URL in the recipe",
    )


def _kept(partial: _Partial, wanted: Wanted) -> Path:
    """Move the whole file into the cache; one that is not the pinned one must not stay to pass for a good start."""
    try:
        return partial.cache.add(partial.file, sha256=wanted.sha256, name=wanted.name)
    finally:
        partial.forget()


def _attempt(url: str, wanted: Wanted, partial: _Partial, *, line: Line) -> bool:
    """Fetch what misses; return whether earlier bytes were kept."""
    identity, held = partial.identity(), partial.held()
    if identity is not None and held == identity[1]:
        return True
    headers = {"Accept-Encoding": "identity"}
    if identity is not None and held:
        headers |= {"Range": f"bytes={held}-", "If-Range": identity[0]}
    elif held:
        partial.forget()
    with line.get(url, headers, secrets=wanted.secrets) as answer:
        _require_plain(url, answer)
        if answer.status == 206 and identity is not None and _continues(answer, identity, held):
            _take(answer, wanted, partial, held=held, total=identity[1], line=line)
            return True
        if answer.status in {206, 412, 416}:
            partial.forget()
            raise _AgainError("the file changed while it was downloaded")
        if answer.status in _AGAIN:
            raise _AgainError(f"status {answer.status}", wait=_seconds(answer.headers.get("Retry-After", "")))
        if answer.status != 200:
            raise _refused(url, f"status {answer.status}")
        total = _length(answer)
        if total is not None and total > wanted.max_bytes:
            raise _too_large(wanted, f"the server announces {total} bytes")
        etag = answer.headers.get("ETag", "")
        partial.start_over((etag, total) if total is not None and _STRONG.fullmatch(etag) else None)
        _take(answer, wanted, partial, held=0, total=total, line=line)
        return False


def _take(
    answer: urllib3.BaseHTTPResponse, wanted: Wanted, partial: _Partial, *, held: int, total: int | None, line: Line
) -> None:
    with partial.file.open("ab") as file:
        for chunk in _chunks(answer, file):
            held += len(chunk)
            if held > wanted.max_bytes:
                partial.forget()
                raise _too_large(wanted, "the server sends more")
            line.progress(held, max(held, total or 0), wanted.name)
    if total is not None and held != total:
        raise _AgainError(f"the line was cut after {held} of {total} bytes")


def _chunks(answer: urllib3.BaseHTTPResponse, file: BinaryIO) -> Iterator[bytes]:
    """Yield what was written; each piece is in the file before it is counted."""
    while chunk := answer.read1(_CHUNK):
        file.write(chunk)
        yield chunk


def _continues(answer: urllib3.BaseHTTPResponse, identity: tuple[str, int], held: int) -> bool:
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if found is None or answer.headers.get("ETag", "") != identity[0]:
        return False
    return tuple(map(int, found.groups())) == (held, identity[1] - 1, identity[1])


def _length(answer: urllib3.BaseHTTPResponse) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _seconds(text: str) -> float:
    return float(text) if re.fullmatch(r"[0-9]{1,6}", text) else 0.0


def _require_plain(url: str, answer: urllib3.BaseHTTPResponse) -> None:
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _refused(url, "it sends the file in another encoding than it was asked for")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _redirected(url: str, location: str) -> str:
    try:
        fresh = urljoin(url, location)
        parts = urlsplit(fresh)
        _ = parts.port
    except ValueError:
        raise _refused(url, "it redirects to what is no URL") from None
    if not location or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _refused(url, "it redirects to what is no http or https URL")
    if parts.username is not None or parts.password is not None:
        raise _refused(url, "it redirects to a URL with credentials")
    if urlsplit(url).scheme == "https" and parts.scheme != "https":
        raise _refused(url, "it redirects from https to http")
    return fresh


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _refused(url: str, why: str) -> SourceError:
    return SourceError(what=f"{_shown(url)} was not taken", why=why, fix="check models.source in the recipe")


def _too_large(wanted: Wanted, why: str) -> SourceError:
    return SourceError(
        what=f"{wanted.name} is larger than max_bytes, {wanted.max_bytes}",
        why=why,
        fix="raise models.source.max_bytes, if the file is the right one",
    )
