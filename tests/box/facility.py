"""What a workstation of the facility does: asks with the official client over TLS, and opens the admin page.

Run in the facility's name space with one JSON object on standard input; prints one. Nothing here is ours but this file.
"""

import html
import http.client
import json
import re
import socket
import ssl
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.box import page

QUESTION = "What is the capital of France? Answer in one sentence."
CHROMIUM = "/usr/bin/chromium"
AT_ONCE_SECONDS = 0.01
_STREAMS = 3
_CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def ask(job: dict[str, Any]) -> dict[str, Any]:
    """Ask one question, and the same one streamed; of production, or of the stage below a `path`."""
    import openai  # takes seconds of a slow machine, and most jobs ask without it

    trusted = ssl.create_default_context(cafile=job["authority"])
    client = openai.OpenAI(
        base_url=f"https://{job['address']}{job.get('path', '')}/v1",
        api_key=job["key"],
        max_retries=0,
        http_client=openai.DefaultHttpxClient(verify=trusted, trust_env=False),
    )
    messages = [{"role": "user", "content": QUESTION}]
    model = job.get("model", "production")
    common: dict[str, Any] = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 48}
    with client:
        raw = client.chat.completions.with_raw_response.create(**common)
        for _ in range(_STREAMS):
            streamed = [
                (time.monotonic(), event.choices[0].delta.content or "")
                for event in client.chat.completions.create(**common, stream=True)
                if event.choices
            ]
            came_over_seconds = round(streamed[-1][0] - streamed[0][0], 4)
            # A workstation that had no turn while the answer was made finds all of it at once, too; not each time.
            if came_over_seconds > AT_ONCE_SECONDS:
                break
    answer = raw.parse()
    return {
        "request_id": raw.headers["x-request-id"],
        "model_digest": raw.headers["x-model-version"],
        "text": answer.choices[0].message.content,
        "streamed": "".join(text for _, text in streamed),
        "pieces": len(streamed),
        "came_over_seconds": came_over_seconds,
    }


def look(job: dict[str, Any]) -> dict[str, Any]:
    """Open the admin page in a browser that trusts nothing but what TLS was checked for before."""
    from playwright.sync_api import sync_playwright

    trusted = ssl.create_default_context(cafile=job["authority"])
    with (
        socket.create_connection((job["address"], 8443), timeout=10) as plain,
        trusted.wrap_socket(plain, server_hostname=job["hostname"]) as secured,
    ):
        version = secured.version()
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as driver:
        browser = driver.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            headless=True,
            ignore_https_errors=True,
            args=[*_CHROMIUM_OPTIONS, f"--host-resolver-rules=MAP {job['hostname']} {job['address']}"],
        )
        page = browser.new_page()
        page.goto(f"https://{job['hostname']}:8443/")
        found = {
            "url": page.url,
            "title": page.title(),
            "fields": [one.get_attribute("name") for one in page.locator("input").all()],
            "tls": version,
        }
        page.screenshot(path=job["screenshot"])
        browser.close()
    return found


def banners(job: dict[str, Any]) -> dict[str, Any]:
    """Look at the admin page, logged in now as a person or by the cookie of before; return the texts of its banners."""
    trusted = ssl.create_default_context(cafile=job["authority"])
    trusted.check_hostname = False  # it is asked by its address; the name was checked by `look`
    cookies = urllib.request.HTTPCookieProcessor()
    page = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted), cookies
    )
    base = f"https://{job['address']}:8443"
    if job.get("cookie"):
        page.addheaders = [("Cookie", job["cookie"])]
        shown = page.open(base, timeout=60).read().decode()
    else:
        csrf = re.findall(r'name="csrf" value="([^"]+)"', page.open(f"{base}/login", timeout=60).read().decode())
        fields = {"csrf": csrf[0], "person": job["person"], "password": job["password"]}
        shown = page.open(f"{base}/login", data=urllib.parse.urlencode(fields).encode(), timeout=60).read().decode()
    found = re.findall(r'<p class="banner[^"]*" role="[a-z]+">(.*?)</p>', shown, re.DOTALL)
    return {
        "logged_in": "Log out" in shown,
        "banners": [html.unescape(re.sub(r"<[^>]+>", "", one)) for one in found],
        "cookie": "; ".join(f"{one.name}={one.value}" for one in cookies.cookiejar),
    }


def load(job: dict[str, Any]) -> dict[str, Any]:
    """Ask, so many times a second at most, until a file appears; append to another what became of each question."""
    lock, stop, pace = threading.Lock(), Path(job["stop"]), job["callers"] / job["a_second"]

    def ask_on() -> None:
        while not stop.exists():
            began = time.time()
            status, request = ask_shortly(job)
            line = {"began": began, "ended": time.time(), "status": status, "request": request}
            with lock, Path(job["told"]).open("a") as told:
                told.write(json.dumps(line) + "\n")
            time.sleep(max(0.0 if status == 200 else 0.1, began + pace - time.time()))

    callers = [threading.Thread(target=ask_on) for _ in range(job["callers"])]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    return {}


def ask_shortly(job: dict[str, Any]) -> tuple[int, str]:
    """Ask for a few words and return status and request id; 0 when nothing whole came back."""
    trusted = ssl.create_default_context(cafile=job["authority"])
    body = {
        "model": "production",
        "messages": [{"role": "user", "content": job.get("text", QUESTION)}],
        "temperature": 0,
        "max_tokens": job.get("tokens", 8),
    }
    line = http.client.HTTPSConnection(job["address"], context=trusted, timeout=job.get("timeout", 30))
    headers = {"Authorization": f"Bearer {job['key']}", "Content-Type": "application/json"}
    try:
        line.request("POST", "/v1/chat/completions", body=json.dumps(body), headers=headers)
        answer = line.getresponse()
        is_whole = bool(json.loads(answer.read())) if answer.status == 200 else True
        return (answer.status if is_whole else 0), answer.getheader("x-request-id", "")
    except (OSError, ValueError, http.client.HTTPException):
        return 0, ""
    finally:
        line.close()


def knock(job: dict[str, Any]) -> dict[str, Any]:
    """Ask for the list of models with a key; return status and the error's code, if it is one."""
    trusted = ssl.create_default_context(cafile=job["authority"])
    line = http.client.HTTPSConnection(job["address"], context=trusted, timeout=30)
    line.request("GET", f"{job['path']}/v1/models", headers={"Authorization": f"Bearer {job['key']}"})
    answer = line.getresponse()
    told = json.loads(answer.read())
    line.close()
    return {"status": answer.status, "code": told.get("error", {}).get("code", "")}


def listed(job: dict[str, Any]) -> dict[str, Any]:
    """Return the names of the models that the service says it has."""
    trusted = ssl.create_default_context(cafile=job["authority"])
    line = http.client.HTTPSConnection(job["address"], context=trusted, timeout=30)
    line.request("GET", "/v1/models", headers={"Authorization": f"Bearer {job['key']}"})
    told = json.loads(line.getresponse().read())
    line.close()
    return {"models": [one["id"] for one in told["data"]]}


def post(job: dict[str, Any]) -> dict[str, Any]:
    """Ask for a few words, of a `text` and a `model` where given; return status, code, and what the headers say.

    Those are the request's id, what was found of identifiers, and after how many seconds to ask again.
    """
    trusted = ssl.create_default_context(cafile=job["authority"])
    messages = [{"role": "user", "content": job.get("text", QUESTION)}]
    body = {"model": job.get("model", "production"), "messages": messages, "max_tokens": 8}
    line = http.client.HTTPSConnection(job["address"], context=trusted, timeout=30)
    headers = {"Authorization": f"Bearer {job['key']}", "Content-Type": "application/json"}
    line.request("POST", "/v1/chat/completions", body=json.dumps(body), headers=headers)
    answer = line.getresponse()
    told = json.loads(answer.read())
    line.close()
    return {
        "status": answer.status,
        "code": told.get("error", {}).get("code", ""),
        "request_id": answer.getheader("x-request-id", ""),
        "phi": answer.getheader("x-sealift-phi", ""),
        "retry_after": int(answer.getheader("retry-after", "0")),
    }


def figures(job: dict[str, Any]) -> dict[str, Any]:
    """Read the port of the network of operations as a Grafana or a Prometheus there does; try to change something."""
    trusted = ssl.create_default_context(cafile=job["authority"])

    def answer(method: str, path: str) -> tuple[int, str]:
        line = http.client.HTTPSConnection(job["address"], 9090, context=trusted, timeout=30)
        line.request(method, path)
        came = line.getresponse()
        text = came.read().decode()
        line.close()
        return came.status, text

    parts = ("gateway", "gateway-test", "host", "node")
    told = {part: answer("GET", f"/metrics/{part}") for part in parts}
    asked = answer("GET", "/api/v1/query?query=sealift_unit_up")
    tried = [answer(*one)[0] for one in job["refused"]]
    return {
        "status": {part: status for part, (status, _) in told.items()},
        "figures": {part: text.count("\n# TYPE ") for part, (_, text) in told.items()},
        "series": len(json.loads(asked[1])["data"]["result"]) if asked[0] == 200 else 0,
        "refused": tried,
    }


def main() -> None:
    """Do what the job says."""
    job = json.load(sys.stdin)
    doings = {"ask": ask, "look": look, "banners": banners, "load": load, "knock": knock, "post": post}
    doings |= {"listed": listed, "figures": figures, "verify": page.verify, "report": page.report}
    doings |= {"automation": page.automation}
    print(json.dumps(doings[job["do"]](job)))


if __name__ == "__main__":
    main()
