"""What a key may use is one allowance of two booted nodes, counted on the server through their gateways' own units."""

import time
from concurrent.futures import ThreadPoolExecutor

from tests.box.standin import asks
from tests.box.wired import ADDRESSES, Node, wait_until
from tests.support.postgres import PostgresServer

PER_MINUTE = 10
LIMITS = f"""
[limits]
requests_per_minute = {4 * PER_MINUTE}  # of which a basic key has a quarter
tokens_per_day = 1000000
"""
TOKENS = 5  # that an answer of the stand-in costs


def what_a_key_may_use_is_counted_on_the_server(one: Node, two: Node, server: PostgresServer, database: str) -> None:
    """Spend a key's minute on both nodes, in turn and at once: what one of them gave, the other refuses."""
    began = time.monotonic()
    key, key_id = another_key(one, two)
    before = [asks(one, key) for _ in range(PER_MINUTE - 3)]
    after = [asks(two, key)]
    while after[-1] == 200 and len(after) < 4 * PER_MINUTE:
        after.append(asks(two, key))
    assert set(before) == {200}, before
    assert after[-1] == 429, after
    answers = [*before, *after].count(200)
    require_one_allowance(1 + answers, began)

    def spent() -> list[int]:
        """Return what is charged to the key: of the day, and of the month."""
        rows = server.admin("SELECT key_id, tokens FROM sealift_limits.spent", database)
        return [tokens for found, tokens in rows if found == key_id]

    wait_until(lambda: spent() == [answers * TOKENS] * 2, f"{spent()} for {answers} answers", seconds=10)
    buckets = server.admin("SELECT stage, name FROM sealift_limits.bucket", database)
    assert [found for found in buckets if key_id in found[1]] == [("production", f"requests key {key_id}")], buckets
    for node in (one, two):
        assert not (node.machine.root / "var/lib/sealift/gateway/limits.db").exists(), f"{node.name} counts by itself"
    counting = server.admin(
        "SELECT DISTINCT host(client_addr), ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
        " WHERE usename = 'sealift_reader' AND query LIKE '%sealift_limits.%'"
    )
    assert set(counting) == {(address, True) for address in ADDRESSES.values()}, counting

    began = time.monotonic()
    key, _ = another_key(one, two)
    with ThreadPoolExecutor(4) as callers:
        said = list(callers.map(lambda node: asks(node, key), [one, two] * (2 * PER_MINUTE)))
    require_one_allowance(1 + said.count(200), began)
    assert set(said[::2]) == set(said[1::2]) == {200, 429}, said


def another_key(one: Node, two: Node) -> tuple[str, str]:
    """Make a key of the least tier on the node that leads; return it and its id, one request of it spent on the other.

    That one asks until the other node knows the key; before that nothing is charged to it.
    """
    made = one.sealift("keys create --department surgery --owner box --tier basic")
    key = str(made["key"])
    wait_until(lambda: two.asked("/v1/models", key)[0] == 200, "the second node does not know the key")
    return key, str(made["key_id"])


def require_one_allowance(answered: int, began: float) -> None:
    """See that a key got its minute, once, and no more than what has filled since it was made."""
    refilled = (time.monotonic() - began) * PER_MINUTE / 60
    assert PER_MINUTE <= answered <= PER_MINUTE + refilled, (answered, refilled)
