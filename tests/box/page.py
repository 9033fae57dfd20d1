"""What a person and a script do at the admin page over TLS: have an answer proven, read a report, use a key.

Run by tests/box/facility.py in the facility's name space; the standard library alone.
"""

import hashlib
import html
import http.client
import json
import re
import ssl
import time
import urllib.parse
import urllib.request
from typing import Any

_CSRF = re.compile(r'name="csrf" value="([^"]+)"')
_ROW = re.compile(r'<tr><td>([^<]*)</td><td class="(?:ok|bad)">(yes|NO)</td>')
_JOB_SECONDS = 240.0


def trusting(job: dict[str, Any]) -> ssl.SSLContext:
    """Return what trusts the box's authority; the box is asked by its address, its name was checked before."""
    trusted = ssl.create_default_context(cafile=job["authority"])
    trusted.check_hostname = False
    return trusted


class Page:
    """The admin page, with a person logged in."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._base = f"https://{job['address']}:8443"
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=trusting(job)),
            urllib.request.HTTPCookieProcessor(),
        )
        self.post("/login", "/login", person=job["person"], password=job["password"])

    def get(self, path: str) -> tuple[str, bytes]:
        """Return where a path ended, and what came."""
        with self._opener.open(urllib.parse.urljoin(self._base, path), timeout=60) as answer:
            return answer.url, answer.read()

    def post(self, form: str, path: str, **fields: str) -> tuple[str, bytes]:
        """Send a form that a page shows, with that page's token."""
        token = _CSRF.findall(self.get(form)[1].decode())[0]
        sent = urllib.parse.urlencode({"csrf": token, **fields}).encode()
        with self._opener.open(f"{self._base}{path}", data=sent, timeout=60) as answer:
            return answer.url, answer.read()


def verify(job: dict[str, Any]) -> dict[str, Any]:
    """Have every link of an answer's origin verified afresh, wait for the job, and return what is shown and saved."""
    page, named = Page(job), urllib.parse.urlencode({"request": job["request"]})
    until = time.monotonic() + _JOB_SECONDS
    at, shown = page.post(f"/origin?{named}", "/origin", request=job["request"])
    while b'http-equiv="refresh"' in shown and time.monotonic() < until:
        time.sleep(0.5)
        at, shown = page.get(at)
    told = html.unescape(re.sub(r"<[^>]+>|\s+", " ", shown.decode()))
    found = re.search(r'href="(/origin/[0-9]+)"', shown.decode())
    if found is None:
        return {"job": told, "links": {}, "proof": ""}
    _, origin = page.get(found[1])
    afresh = origin.decode().partition('id="afresh"')[2].partition('id="records"')[0]
    links = dict(_ROW.findall(afresh))
    proof = page.get(f"{found[1]}/proof.json")[1].decode() if "/proof.json" in afresh else ""
    return {"job": told, "links": links, "proof": proof}


def report(job: dict[str, Any]) -> dict[str, Any]:
    """Read the files of a report as the page hands them out; return the SHA-256 of each."""
    page = Page(job)
    endings = re.findall(rf'href="/reports/{job["quarter"]}\.([a-z]+)"', page.get("/reports")[1].decode())
    return {one: hashlib.sha256(page.get(f"/reports/{job['quarter']}.{one}")[1]).hexdigest() for one in endings}


def automation(job: dict[str, Any]) -> dict[str, Any]:
    """Ask with an automation key, each [method, path, port] or with a body to send; return what came of each."""
    answers = []
    for method, path, port, *sent in job["asked"]:
        line = http.client.HTTPSConnection(job["address"], port, context=trusting(job), timeout=30)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {job['key']}"}
        line.request(
            method, path, body=json.dumps(sent[0] if sent else {}) if method == "POST" else None, headers=headers
        )
        answer = line.getresponse()
        content = answer.read()
        line.close()
        is_json = answer.getheader("content-type", "").startswith("application/json")
        answers.append({"status": answer.status, "told": json.loads(content) if is_json else content.decode()[:400]})
    return {"answers": answers}
