"""One question over HTTP, asked again where that helps: never an answer that began, and never longer than agreed.

Asked again are failures to connect, time-outs, 429 and 5xx, unless the service says `x-should-retry: false` (D15, X38).
The wait grows from 2 to 30 seconds; a `Retry-After` of up to two minutes is kept to instead. Who says a longer one is
not asked again, and never sooner than it said: the error tells when.
"""

import json
import math
import re
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError, ReadTimeoutError

from appliance.client.answers import header_of, printable
from appliance.errors import ServiceError
from appliance.unixhttp import UnixPool

_LEAST_SECONDS: Final = 2.0
_MOST_SECONDS: Final = 30.0
_LONGEST_ASKED_SECONDS: Final = 120.0
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
_ADDRESS: Final = "check the address: it ends in /v1"
_FIXES: Final[Mapping[tuple[int, str], str]] = {
    (404, ""): _ADDRESS,
    (404, "not_found"): _ADDRESS,
    (
        401,
        "invalid_api_key",
    ): "check the key: it may have ended or been taken back; `sealift keys list` on the box tells",
    (404, "model_not_found"): "name one that GET /v1/models lists; `production` means what is promoted",
}


class Asking:
    """A pool of connections to one service; safe for threads.

    Args:
        base_url: Ends in `/v1`.
        key: An API key of the box.
        door: A Unix socket of this machine that is asked in place of the network; of `base_url` the path counts.
        headers: What else goes with every question.
        ca_file: The box's own authority; the system's authorities when absent.
        timeout_seconds: The longest silence between two reads.
        attempts: How often a question is asked at most.
        sleep: Waits between two attempts.

    Raises:
        ServiceError: What is given as a key is none; the error says no letter of it.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        door: Path | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        ca_file: Path | None = None,
        timeout_seconds: float = 60.0,
        attempts: int = 3,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = (urlsplit(base_url).path if door else base_url).rstrip("/")
        self._headers = {**headers, "authorization": f"Bearer {_key(key)}", "content-type": "application/json"}
        self._attempts = max(attempts, 1)
        self._sleep = sleep
        timeout = urllib3.Timeout(connect=min(timeout_seconds, 10.0), read=timeout_seconds)
        context = ssl.create_default_context(cafile=str(ca_file)) if ca_file else None
        self._pool = (
            UnixPool(door, size=64, timeout=timeout)
            if door
            else urllib3.PoolManager(timeout=timeout, retries=False, maxsize=64, ssl_context=context)
        )

    def close(self) -> None:
        """Drop all idle connections."""
        if isinstance(self._pool, UnixPool):
            self._pool.close()
        else:
            self._pool.clear()

    def post(self, path: str, body: Mapping[str, Any], *, user: str = "") -> urllib3.BaseHTTPResponse:
        """Return the response to a question, its body unread; the caller reads and releases it.

        Raises:
            ServiceError: It was refused, or the service could not be reached, also the last time; or it says to come
                again later than this waits for. Or the name of the person fits no header; then nothing was sent.
        """
        headers = self._headers | ({"x-sealift-user": _person(user)} if user else {})
        content = json.dumps(body).encode()
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._pool.request(
                    "POST", f"{self._url}{path}", body=content, headers=headers, preload_content=False
                )
            except HTTPError as error:
                failed, wait = _unreachable(self._url, error), None
            else:
                if response.status == 200:
                    return response
                failed, wait = refused(response), _asked_to_wait(response.headers)
                drop(response)
            is_long = wait is not None and wait > _LONGEST_ASKED_SECONDS
            if not failed.may_be_asked_again or attempt == self._attempts or is_long:
                raise failed
            self._sleep(wait if wait is not None else min(_LEAST_SECONDS * 2 ** (attempt - 1), _MOST_SECONDS))


def read_all(response: urllib3.BaseHTTPResponse) -> bytes:
    """Return a body, up to a size no answer has.

    Raises:
        ServiceError: It broke off, or is larger.
    """
    try:
        data = response.read(MAX_ANSWER_BYTES + 1)
    except HTTPError as error:
        drop(response)
        raise broken_off(response.headers, error) from error
    if len(data) > MAX_ANSWER_BYTES:
        drop(response)
        raise broken_off(response.headers, None)
    response.release_conn()
    return data


def drop(response: urllib3.BaseHTTPResponse) -> None:
    """Close the connection of a response of whose body nobody reads the rest."""
    response.close()
    response.release_conn()


def refused(response: urllib3.BaseHTTPResponse) -> ServiceError:
    """Return the error for a status other than 200; the service's words are its own, none of the question's."""
    try:
        error = json.loads(response.read(65536))["error"]
        message, code = printable(error["message"])[:300], printable(error["code"])[:64]
        of = f" ({printable(error['param'])[:64]})" if error.get("param") else ""
    except (ValueError, KeyError, TypeError, AttributeError, HTTPError):
        message, code, of = "", "", ""
    again, wait = response.status in {408, 429} or response.status >= 500, _asked_to_wait(response.headers)
    waiting = f"ask again in {math.ceil(wait)} s" if wait else "wait and ask again"
    return ServiceError(
        what="the service refused the request" if response.status < 500 else "the service could not answer",
        why=f"HTTP {response.status}{f', {code}{of}' if code else ''}{f': {message}' if message else ''}",
        fix=waiting if again else _FIXES.get((response.status, code), "see docs/api.md for the code"),
        request_id=header_of(response.headers, "x-request-id"),
        http_status=response.status,
        service_code=code,
        may_be_asked_again=again and response.headers.get("x-should-retry") != "false",
    )


def broken_off(headers: Mapping[str, str], error: Exception | None) -> ServiceError:
    """Return the error for an answer that ended too early or too late; it is not asked for again."""
    if isinstance(error, ReadTimeoutError):
        return _silent(request_id=header_of(headers, "x-request-id"))
    return ServiceError(
        what="the answer broke off",
        why=type(error).__name__ if error else "it is too large",
        fix="ask again; the ledger has the request under its id",
        request_id=header_of(headers, "x-request-id"),
    )


def _key(text: str) -> str:
    """Return a key as a header has it: the end of the line that a file has behind it is none of it."""
    key = text.strip()
    if not key.isascii() or _CONTROL.search(key):  # sent on, the error would show all of it
        raise ServiceError(
            what="what is given as a key is none",
            why="it holds letters that no key has",
            fix="give the one line that `sealift keys create` printed",
        )
    return key


def _person(name: str) -> str:
    """Return a person's name as a header has it: UTF-8, of which `http.client` writes each byte as a letter."""
    try:
        header = name.encode().decode("latin-1")
    except UnicodeEncodeError:
        header = "\n"
    if _CONTROL.search(header):
        raise ServiceError(
            what="the name of the person fits no header",
            why="it holds a line's end, another control character, or half a letter",
            fix="name people in one line of text (user)",
        )
    return header


def _silent(*, request_id: str = "", may_be_asked_again: bool = False) -> ServiceError:
    return ServiceError(
        what="the service was silent for longer than it is waited for",
        why="it reads a long text, makes a whole answer, has the request wait, or hangs",
        fix="ask for the answer as it is written, for a shorter one, or wait longer (timeout_seconds, --timeout)",
        request_id=request_id,
        may_be_asked_again=may_be_asked_again,
    )


def _unreachable(address: str, error: HTTPError) -> ServiceError:
    if isinstance(error, ReadTimeoutError):
        return _silent(may_be_asked_again=True)
    cause = error.args[0] if error.args else None
    is_untrusted = False
    if isinstance(error, NameResolutionError):
        said = "no name server here knows that name"
    elif isinstance(error, NewConnectionError):
        said = "nobody listens there"
    elif isinstance(cause, ssl.SSLCertVerificationError):
        is_untrusted = True
        said = f"its certificate is not to be trusted: {cause.verify_message}"
    else:
        said = type(error).__name__
    return ServiceError(
        what="the service does not answer",
        why=f"{address}: {said}",
        fix="check the address, the network and the authority file",
        may_be_asked_again=not is_untrusted,
    )


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    try:
        seconds = (
            float(headers["retry-after-ms"]) / 1000 if "retry-after-ms" in headers else float(headers["retry-after"])
        )
    except (KeyError, ValueError):
        return None
    return seconds if 0 <= seconds < math.inf else None
