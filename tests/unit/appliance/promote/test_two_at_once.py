"""Two promotions at once: one wins, and the other is told so."""

import threading
from pathlib import Path

from appliance.errors import ApplianceError, ConflictError
from tests.support.promotion import digest, open_site
from tests.support.signatories import signatories


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    asked = [site.request(digest(name)) for name in ("one", "two")]
    for request in asked:
        site.approve(request, *signatories()[:2])
    together = threading.Barrier(len(asked))
    won: list[str] = []
    lost: list[ApplianceError] = []

    def promote(statement_sha256: str) -> None:
        together.wait()
        try:
            won.append(site.client.promote(statement_sha256).model_digest or "")
        except ApplianceError as error:
            lost.append(error)

    threads = [threading.Thread(target=promote, args=(one.statement.sha256,)) for one in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [site.client.current()["model_digest"]] == won
    (error,) = lost
    assert isinstance(error, ConflictError)
    assert "production changed since this promotion was requested" in error.what
    assert len(site.ledger.find(kind="promotion.made")) == len(site.folder.production().promotions) == 1
