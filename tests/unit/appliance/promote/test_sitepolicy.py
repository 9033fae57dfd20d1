"""A site's thresholds over the release's: stricter freely, looser by a person's word, and the same document always."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.memory import MemoryLedger
from appliance.promote.policy import GatePolicy, packaged, sections
from appliance.promote.policybook import ADOPTED, in_force
from appliance.promote.sitepolicy import MAX_BYTES, SitePolicy
from appliance.promote.strictness import FIXED, LOOSER, STRICTER, WAYS, direction_of
from media.clock import SystemClock
from media.errors import LimitExceededError, MalformedError, MediaError

HEAD = 'format = 1\nname = "ward"\n'
STRICT = HEAD + "[task_evaluation]\nminimum_accuracy_millis = 400\n"
LOOSE = HEAD + "[injection]\nfollowed_millis = 350\n"
WORD = '[[override]]\nkey = "injection.followed_millis"\nperson = "iris"\nreason = "letters quote orders"\n'


def file(text: str) -> SitePolicy:
    return SitePolicy.from_bytes(text.encode())


def test_every_threshold_of_the_policy_says_which_way_is_stricter() -> None:
    fields = {f"{section}.{name}" for section, (_, names) in sections().items() for name in names}

    assert fields == set(WAYS) | set(FIXED)


def test_a_stricter_threshold_holds_by_itself_and_nothing_else_changes() -> None:
    policy = file(STRICT).over(packaged())

    assert policy.tasks == replace(packaged().tasks, minimum_accuracy_millis=400)
    assert (policy.gates, policy.injection) == (packaged().gates, packaged().injection)
    assert policy.site is not None
    assert [(one.key, one.direction) for one in policy.site.changes] == [
        ("task_evaluation.minimum_accuracy_millis", STRICTER)
    ]
    assert policy.digest != packaged().digest


def test_a_looser_threshold_takes_a_persons_word_for_exactly_that_key() -> None:
    with pytest.raises(MalformedError, match=r"injection\.followed_millis is refused"):
        file(LOOSE).over(packaged())

    policy = file(LOOSE + WORD).over(packaged())

    assert policy.injection.followed_millis == 350
    assert policy.site is not None
    [change] = policy.site.changes
    assert change.override is not None
    assert (change.override.person, change.direction) == ("iris", LOOSER)
    assert "iris" in change.text
    assert "letters quote orders" in change.text


def test_a_word_for_what_is_not_looser_is_refused() -> None:
    stricter = HEAD + "[injection]\nfollowed_millis = 100\n" + WORD
    with pytest.raises(MalformedError, match=r"injection\.followed_millis"):
        file(stricter).over(packaged())


def test_under_another_releases_policy_the_word_does_not_count_and_the_stricter_of_both_holds() -> None:
    both = HEAD + "[injection]\nfollowed_millis = 350\nrise_millis = 50\n" + WORD
    policy = file(both).over(packaged(), signed_over="ab" * 32)

    assert policy.injection.followed_millis == packaged().injection.followed_millis
    assert policy.injection.rise_millis == 50
    assert policy.site is not None
    [looser] = [one for one in policy.site.changes if one.direction == LOOSER]
    assert not looser.counts
    assert "DOES NOT COUNT" in looser.text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("format = 2\nname = 'x'\n", "format"),
        (HEAD + "[injection]\nfollowed = 1\n", r"injection\.followed"),
        (HEAD + "[injection]\nfollowed_millis = 1001\n", r"injection\.followed_millis"),
        (HEAD + "[injection]\nfollowed_millis = true\n", r"injection\.followed_millis"),
        (HEAD + "[injection]\nfollowed_millis = 1.5\n", r"injection\.followed_millis"),
        (HEAD + "[smoke]\nprompt = 'x'\n", "smoke"),
        (HEAD + "gates = []\n", "gates"),
        (HEAD + "injection = 3\n", "injection"),
        (HEAD + "[performance]\ncallers = []\n", r"performance\.callers"),
        (HEAD + "[performance]\ncallers = [1, 1]\n", r"performance\.callers"),
        (HEAD + "[human_review]\ndemanded_in = ['moon']\n", r"human_review\.demanded_in"),
        (HEAD + WORD, r"override\[1\]\.key"),
        (LOOSE + WORD + WORD, r"override\[2\]\.key"),
        (LOOSE + WORD.replace("letters quote orders", ""), r"override\[1\]\.reason"),
        (LOOSE + WORD.replace("letters quote orders", "  "), r"override\[1\]\.reason"),
        ("name = 'x'\n", "format"),
        ("format = 1\n", "name"),
        ("format = 1\nname = \n", "policy file"),
        (HEAD + "'\u202e' = 1\n", "policy file"),
        (HEAD + f"[injection]\nfollowed_millis = {'9' * 5000}\n", "policy file"),
    ],
)
def test_what_is_refused_is_named_by_its_dotted_key(text: str, named: str) -> None:
    with pytest.raises(MalformedError, match=named):
        file(text).over(packaged())


def test_a_file_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(LimitExceededError):
        SitePolicy.from_bytes(b"#" * (MAX_BYTES + 1))


def test_the_document_reads_back_whole_and_a_changed_byte_is_another_policy() -> None:
    policy = file(LOOSE + WORD).over(packaged())
    raw = policy.to_bytes()

    assert GatePolicy.from_bytes(raw) == policy
    assert GatePolicy.from_bytes(raw.replace(b'"iris"', b'"omar"')).digest != policy.digest
    assert packaged().to_bytes() == GatePolicy.from_bytes(packaged().to_bytes()).to_bytes()


def test_the_newest_adopted_file_holds_and_an_empty_one_gives_the_releases_policy_back() -> None:
    ledger = MemoryLedger(SystemClock())
    assert in_force(ledger) is packaged()

    ledger.append(ADOPTED, {"policy": STRICT, "release_sha256": packaged().digest})
    assert in_force(ledger).tasks.minimum_accuracy_millis == 400
    ledger.append(ADOPTED, {"policy": HEAD, "release_sha256": packaged().digest})
    assert in_force(ledger) == packaged()


def test_what_the_ledger_has_and_nobody_can_read_is_no_policy() -> None:
    ledger = MemoryLedger(SystemClock())
    ledger.append(ADOPTED, {"policy": "nonsense", "release_sha256": packaged().digest})

    with pytest.raises(MalformedError):
        in_force(ledger)


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_whatever_is_brought_is_read_or_refused_by_our_own_error(untrusted: bytes) -> None:
    with suppress(MediaError):
        SitePolicy.from_bytes(untrusted)


@given(st.sampled_from(sorted(WAYS)), st.integers(0, 1000), st.integers(0, 1000))
def test_no_threshold_is_stricter_both_ways(key: str, one: int, other: int) -> None:
    first, second = direction_of(key, one, other), direction_of(key, other, one)

    assert (first == "") == (one == other)
    assert not (first == STRICTER and second == STRICTER)
