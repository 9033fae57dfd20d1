"""Who asks the job service where the kernel shows it root alone: the ledger's introductions, and nothing for root."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance import wire
from appliance.audit.introductions import Introduced
from appliance.errors import LedgerRefusedError, LedgerUnavailableError, PrivilegeError
from appliance.install import jobrights
from appliance.install.jobaskers import Askers, NotIntroducedError, shown_here
from appliance.install.jobclient import JobsLine
from appliance.install.jobdesk import JobDesk
from appliance.unit import listening_at
from appliance.wire import Peer, RemoteError
from tests.support.promotion import open_site
from tests.support.supervisor import FakeSupervisor
from tests.support.versions import short_folder, store_version

IRIS, NOBODY = 54321, 65534
INTRODUCTION = "ab" * 32
OPERATOR = jobrights.OPERATOR


def hidden(uid: int) -> bool:
    return uid == 0


class Ledger:
    """Introduces one process, as often as a test lets it."""

    def __init__(self, uid: int = IRIS, pid: int = 7) -> None:
        self.found = Introduced(uid=uid, pid=pid)
        self.asked: list[str] = []

    def introduced(self, introduction: str) -> Introduced:
        self.asked.append(introduction)
        if introduction != INTRODUCTION or self.asked.count(introduction) > 1:
            raise LedgerRefusedError(what="nobody was introduced by this", why="", fix="")
        return self.found


def peer(uid: int = NOBODY, *, pid: int = 7, door: str = OPERATOR) -> Peer:
    return Peer(door=door, pid=pid, uid=uid, gid=uid)


def test_a_hidden_user_is_who_the_ledger_says_and_is_asked_about_once() -> None:
    ledger = Ledger()
    askers = Askers(ledger.introduced, shown=hidden)

    for _ in range(3):
        assert askers.seen(peer(), {"do": "jobs", "introduction": INTRODUCTION}) == replace(peer(), uid=IRIS)
    assert ledger.asked == [INTRODUCTION]


def test_root_is_taken_from_the_kernel_alone() -> None:
    ledger = Ledger()
    askers = Askers(ledger.introduced, shown=hidden)

    assert askers.seen(peer(0), {"do": "jobs"}) == peer(0)
    assert askers.seen(peer(0), {"do": "jobs", "introduction": INTRODUCTION}) == peer(0)
    assert ledger.asked == []
    with pytest.raises(NotIntroducedError):
        Askers(Ledger(uid=0).introduced, shown=hidden).seen(peer(), {"introduction": INTRODUCTION})


@pytest.mark.parametrize("untrusted", [None, "", "cd" * 32, "AB" * 32, 7, ["ab"], INTRODUCTION + "\n"])
def test_nobody_hidden_is_answered_without_an_introduction(untrusted: object) -> None:
    askers = Askers(Ledger().introduced, shown=hidden)

    with pytest.raises(NotIntroducedError):
        askers.seen(peer(), {"do": "jobs", "introduction": untrusted})
    with pytest.raises(NotIntroducedError):
        askers.seen(peer(), {"do": "jobs"})


def test_an_introduction_counts_for_the_process_that_it_was_given_to() -> None:
    askers = Askers(Ledger(pid=7).introduced, shown=hidden)

    with pytest.raises(NotIntroducedError):
        askers.seen(peer(pid=8), {"introduction": INTRODUCTION})
    assert askers.seen(peer(pid=7), {"introduction": INTRODUCTION}).uid == IRIS


def test_what_cannot_be_known_is_not_guessed() -> None:
    def away(_: str) -> Introduced:
        raise LedgerUnavailableError(what="the ledger does not answer", why="", fix="")

    with pytest.raises(LedgerUnavailableError):
        Askers(away, shown=hidden).seen(peer(), {"introduction": INTRODUCTION})


@pytest.mark.parametrize(
    ("text", "shown", "not_shown"),
    [
        ("         0          0          1\n", {0}, {1, IRIS, NOBODY}),
        ("         0          0 4294967295\n", {0, IRIS, NOBODY}, set()),
        ("0 100000 65536\n70000 5 2\n", {0, 65535, 70001}, {65536, 70002}),
        ("", set(), {0}),
    ],
)
def test_whom_the_kernel_shows_is_read_from_the_name_space(
    tmp_path: Path, text: str, shown: set[int], not_shown: set[int]
) -> None:
    place = tmp_path / "uid_map"
    place.write_text(text)
    found = shown_here(place)

    assert {uid for uid in shown | not_shown if found(uid)} == shown
    assert shown_here(tmp_path / "none")(IRIS)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Peer, Mapping[str, Any]], Mapping[str, Any]]:
    site = open_site(tmp_path)
    monkeypatch.setattr(jobrights, "_is_operator", lambda uid: uid == IRIS)
    monkeypatch.setattr("os.getuid", lambda: 0)
    askers = Askers(Ledger().introduced, shown=hidden)
    return JobDesk(site.config, site.ledger, supervisor=FakeSupervisor(), runner=FakeSupervisor(), askers=askers)


def test_the_desk_decides_by_whom_was_introduced(desk: Callable[[Peer, Mapping[str, Any]], Mapping[str, Any]]) -> None:
    shown = {"introduction": INTRODUCTION}

    assert desk(peer(), {"do": "jobs", **shown}) == {"jobs": []}
    for door in set(jobrights.DOORS) - {OPERATOR}:
        with pytest.raises(PrivilegeError, match=f"user {IRIS} may not use this door"):
            desk(peer(door=door), {"do": "jobs", **shown})
    with pytest.raises(PrivilegeError, match=f"user {IRIS} may not tell"):  # root alone carries its jobs out there
        desk(peer(), {"do": "progress", "step": "copy", "done": 1, "total": 2, **shown})
    with pytest.raises(NotIntroducedError):
        desk(peer(), {"do": "jobs"})


def test_what_is_recorded_names_whom_was_introduced_and_no_introduction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site(tmp_path)
    _, descriptor = store_version(site.config)
    monkeypatch.setattr(jobrights, "_is_operator", lambda uid: uid == IRIS)
    askers = Askers(Ledger().introduced, shown=hidden)
    desk = JobDesk(site.config, site.ledger, supervisor=FakeSupervisor(), runner=FakeSupervisor(), askers=askers)

    asked = {"do": "ask", "kind": "validate", "digest": descriptor.model_digest, "introduction": INTRODUCTION}
    number = int(desk(peer(), asked)["job"])

    assert desk._courses[number].ended.wait(10)
    (record,) = site.ledger.find(kind="job.asked")
    assert (record.body["account"], record.body["door"]) == (str(IRIS), OPERATOR)
    assert INTRODUCTION not in str([leaf.body for leaf in site.ledger.find(limit=100)])


class Service:
    """A job service that lets nobody in without the introduction of its ledger, or one that sees who speaks."""

    def __init__(self, *, is_asked: bool = True) -> None:
        self.is_asked = is_asked
        self.given = 0
        self.heard: list[Mapping[str, Any]] = []

    def __call__(self, peer: Peer, untrusted: Mapping[str, Any]) -> Mapping[str, Any]:
        if untrusted["do"] == "introduce":
            self.given += 1
            return {"introduction": f"{self.given:064x}"}
        self.heard.append(untrusted)
        if self.is_asked and untrusted.get("introduction") != f"{self.given:064x}":
            raise NotIntroducedError(what="hidden", why="", fix="")
        if untrusted["do"] == "refused":
            raise PrivilegeError(what="no", why="", fix="")
        return {}


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@pytest.fixture
def serving(folder: Path) -> Iterator[Callable[[Service], JobsLine]]:
    doors = {name: listening_at(folder / name) for name in ("jobs", "ledger")}
    lines: list[JobsLine] = []
    threads = []

    def serve(service: Service) -> JobsLine:
        threads.extend(wire.serve(doors, service))
        lines.append(JobsLine(folder / "jobs", timeout_seconds=10, ledger=folder / "ledger"))
        return lines[-1]

    yield serve
    for line in lines:
        line.close()
    for door in doors.values():
        door.shutdown(2)
        door.close()
    for thread in threads:
        thread.join(5)


def test_an_asker_is_introduced_when_it_is_asked_to_and_again_when_it_was_forgotten(
    serving: Callable[[Service], JobsLine],
) -> None:
    service = Service()
    line = serving(service)

    for _ in range(2):
        line.call("jobs")
    assert (service.given, len(service.heard)) == (1, 3)
    service.given = 5  # started again, it knows nobody
    line.call("jobs")
    assert service.given == 6
    with pytest.raises(RemoteError) as caught:
        line.call("refused")
    assert (caught.value.remote_code, service.given) == ("privilege", 6)


def test_a_service_that_sees_who_speaks_is_shown_nothing(serving: Callable[[Service], JobsLine]) -> None:
    service = Service(is_asked=False)

    serving(service).call("jobs")

    assert service.heard == [{"do": "jobs"}]
    assert service.given == 0


def test_the_demo_sees_its_own_user() -> None:
    assert shown_here()(os.getuid())
