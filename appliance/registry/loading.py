"""How long a version's engine takes to load here, as its validation measured it."""

from appliance.audit.facts import EVERY, Ledger


def loading_seconds(ledger: Ledger, model_digest: str) -> float | None:
    """Return how long this box took from starting a version's engine until it answered, as last measured."""
    for leaf in ledger.find(kind="gate.result", field="model_digest", value=model_digest, limit=EVERY):
        figures = leaf.body.get("figures")
        millis = figures.get("load_millis") if isinstance(figures, dict) else None
        if leaf.body.get("gate") == "load" and type(millis) is int:
            return millis / 1000
    return None
