"""What a box must have shown when things went wrong on it: the facts of the parts of `faults.py`, each a test."""

import os
from typing import Any

import pytest

from tests.box.told import facts_of, untrue

pytestmark = [pytest.mark.box, pytest.mark.timeout(1140)]
FAULTS = (
    "every killed service is back within 10 seconds",
    "nothing acknowledged was lost by the kills",
    "nothing acknowledged was lost by the cut",
    "nothing was answered without a record on a full disk",
    "the ledger verifies afterwards",
    "receiving onto a full disk ends with 30",
    "a box that lost records stops",
    "and did not take the medium",
    "the preview names what stays",
    "the preview changed nothing",
    "what went is what was announced",
    "no unit of Sealift is left",
    "no program of Sealift is left",
    "what proves the past is there",
    "the packet filter still holds",
    "nobody was told that it is done",
    "a first install that was cut off is finished by the same command",
    "every question was asked",
    "what was typed before is offered",
    "each person has a code",
    "the authority has a fingerprint",
    "capacity was measured",
    "no code was written down",
    "all units run after it",
    "a second setup measures nothing anew",
    "its codes are new",
    "then nothing is left to do",
    "doctor finds what is so, and no more",
    "it is not ready before a promotion",
    "the report is written",
)
CLOCKS = (
    "nobody sets the clock alone",
    "two people answer for the clock",
    "a small step back is recorded and let pass",
    "it does not lower the floor",
    "a one-time code counts while the clock is certain",
    "answers go on after a small step",
    "the floor holds",
    "decisions rest on the last certain time",
    "the status says it",
    "the page says it",
    "a session of the page goes on",
    "answers go on fifty years ahead",
    "no sample, key or certificate goes by a jump",
    "what is kept for days by a wrong clock ends when it was meant to",
    "no certificate is made by a wrong clock",
    "no one-time code counts by a clock that jumped",
    "a key with an end goes on fifty years ahead",
    "answers go on after a restart of every service",
    "answers go on after a boot fifty years ahead",
    "two people put the clock right",
    "then it is good again",
    "and the floor is no later than the truth",
    "and nobody is told any more",
    "no sample, key or certificate goes by a boot fifty years ahead",
    "answers go on after a boot in 1970",
    "no sample, key or certificate goes by a dead battery",
    "no one-time code counts by a dead battery's clock",
    "a key with an end goes on in 1970",
    "and one-time codes count again",
    "answers go on after a boot ten years ahead",
    "no sample, key or certificate goes by a boot ten years ahead",
    "the ledger verifies with records of all these clocks",
    "what was seen and decided is recorded",
    "an answer by any clock is proven",
)
WINDOWS = (
    "the preview of a window changed nothing",
    "the window is on record",
    "callers get a 503 that says when to ask again",
    "a window that was broken off is closed as ended",
    "a window that lost its power is closed as cut off",
    "a window outlives its command",
    "the gates of a window whose command was killed ended",
    "every gate passed in the window",
)
EVIDENCED = (
    "a report is the page's to read",
    "the report of the timer is handed out as recorded",
    "it is to read, to print and to count",
    "the page shows every link of an answer verified afresh",
    "every link that the unit verified holds",
    "what the page's job found is recorded",
    "the checker outside accepts the page's proof",
    "the checker outside accepts the box's export",
    "and says that the records hold",
    "and not one with another byte",
    "a key reads what its scopes open",
    "it reads of the version in production",
    "and whom that answered",
    "no key decides or opens a page",
    "it is no key of the model service",
    "each refusal is recorded",
    "a revoked key ends at once",
    "a promotion starts the further engine",
    "no caller lost an answer to a killed engine",
    "systemd brought the engine back",
)
OPTIONAL = (
    "a promotion starts overflow and standby",
    "while the first engine answers the others wait",
    "an engine that ended is back",
    "while overflow answers the standby waits",
    "overflow answers what the first engine has no place for",
    "and the standby waits",
    "nobody is refused for want of a place",
    "no caller lost an answer to the killed engines",
    "overflow and standby come with a boot",
    "engines that the site file names no more are stopped",
    "an attached engine's environment is installed",
    "the version of the attached engine is on the box",
    "the policy that two people signed holds",
    "no scope opens what another is for",
    "a script has a version validated",
    "and sees how that went",
    "every gate of what a script validated passed",
    "a script asks people for a promotion",
    "the request names the machine and who answers for it",
    "a script's request is nobody's approval",
    "a script holds a canary",
    "and cannot let it go on",
    "a person lets it go on",
    "what scripts asked for is recorded",
    "a model of another name takes no place unsaid",
    "a second model serves beside the first",
    "both models are listed",
    "a name leads to its own line",
    "the proof of each line's answer holds",
    "the engine of each line has its user and a limit of memory",
    "the engine of each line comes with a boot",
    "an install changes nothing with two lines",
    "the status is content with two lines",
    "and misses no unit",
    "doctor is content with two lines",
    "each line's version is counted as served",
    "doctor misses the second line's engine alone",
    "and so does monitoring",
    "doctor starts it again",
    "the first line answers while the second is away",
    "the second line's engine is back by systemd",
    "both lines come with a boot",
    "the first line answers while the second is stopped",
    "callers of a stopped line are told so",
    "a stopped line has no engine",
    "and none comes with a boot",
    "its version would come back and take nobody's place",
    "an attached engine serves",
    "the proof names the attached engine's wheel",
    "another's program has a user of its own, no right and no network",
    "the launcher's worker starts nothing more",
    "another's program is within the unit's bounds of memory",
    "a killed attached engine is back within 20 seconds",
    "what an attached engine began it answers before it stops",
    "and it stops in time",
    "a stopped attached engine answers again once it is started",
    "no pattern knows the name",
    "the gateway finds a name of the list",
    "the record counts it",
    "the list is shown as recorded",
    "root writes it, the gateway reads it",
    "the name is in no other file and in no log",
    "nothing is answered with a damaged list",
    "and all is with a whole one",
    "the list is announced to go",
    "the list went with the rest",
)
UPGRADE = (
    "the next release changes the host",
    "installing onto a full disk ends with 30",
    "the trial was noted before",
    "the boot recorded why",
    "the release before is in use again",
    "the status says that the box went back",
    "the site file is the one of before",
    "the next release is installed",
    "nothing is left of the return",
    "and again changes nothing",
    "every target is scraped",
    "a rule that fires shows on the page",
    "and in the journal",
)
CHANGES = (
    "the plan shows a change",
    "the plan is made by a user without rights",
    "no install without approvals",
    "one person's approval is not enough for the host",
    "one person does not count twice",
    "a changed plan voids the approvals",
    "what two people approved is installed",
    "the packet filter has the change",
    "its rules were tried by a unit of their own",
    "and again nothing changes",
    "a lookup in a site file's value runs nothing",
    "it stays a text",
    "the next release changes the host",
    "an install that does not answer ends with 51",
    "web server and packet filter were tried on the way there and back",
    "the release before is in use again",
    "the status says that the box went back",
    "the site file is the one of before",
    "the return is recorded",
    "the page says that the box went back",
)
DATABASE = (
    "the plan says who gets which password, and to what address",
    "and no password",
    "each service has its own password",
    "and may send to the server",
    "the packet filter opens one way",
    "the tables are made",
    "the preview moved nothing",
    "the server has every record",
    "moving again changes nothing",
    "an answer from before is proven, records on the server",
    "the printed checkpoint is of these records, on the server",
    "the file has all that was recorded on the server",
    "an answer from before is proven, records in the file again",
    "the printed checkpoint is of these records, in the file again",
    "no drop-in leads to a server",
    "and the packet filter opens no way",
    "an answer from before is proven, records without a server",
    "the printed checkpoint is of these records, without a server",
)
VLLM = (
    "the plan shows what vLLM's units get",
    "an environment of vLLM is installed",
    "both stages' units have the addition",
    "and again nothing changes for vLLM",
    "the version for vLLM is on the box",
    "vLLM's version passed every gate",
    "vLLM serves",
    "vLLM's processes are the unit's user's",
    "each has no right and no network",
    "systemd says that vLLM's unit is well",
    "a killed vLLM is back by itself",
)
PARTS = {
    "faults": (pytest.mark.box_faults, FAULTS),
    "clocks": (pytest.mark.box_time, CLOCKS),
    "windows": (pytest.mark.box_time, (*WINDOWS, *EVIDENCED)),
    "optional": (pytest.mark.box_optional, OPTIONAL),
    "upgrade": (pytest.mark.box_upgrade, UPGRADE),
    "changes": (pytest.mark.box_changes, CHANGES),
    "database": (pytest.mark.box_database, DATABASE),
    "vllm": (pytest.mark.box_vllm, VLLM),
}


def facts(part: str) -> dict[str, Any]:
    if os.geteuid() != 0:
        pytest.skip("the box is a container of its own, and only root can start one")
    return facts_of(f"box-{part}", "tests/box/faults.py", part)


# Whoever makes a release of vLLM first waits longest.
LONGER = {"vllm": pytest.mark.timeout(2340)}


def marks(part: str) -> tuple[pytest.MarkDecorator, ...]:
    return (PARTS[part][0], *([LONGER[part]] if part in LONGER else []))


@pytest.mark.parametrize("part", [pytest.param(part, marks=marks(part)) for part in PARTS])
def test_everything_held(part: str) -> None:
    assert facts(part)["ok"], untrue(facts(part))


@pytest.mark.parametrize(
    ("part", "name"), [pytest.param(part, name, marks=marks(part)) for part in PARTS for name in PARTS[part][1]]
)
def test_the_box_showed_that(part: str, name: str) -> None:
    assert facts(part)[name] is True
