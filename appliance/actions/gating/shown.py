"""What gates measured, in lines for people: the command, the page and the printed report show the same words."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

_MIB: Final = 2**20


def lines_of(gate: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the lines of one gate's figures; none where its verdict says all."""
    written = _LINES.get(gate)
    return () if written is None or "error" in figures else tuple(written(figures))


def _integrity(figures: Mapping[str, Any]) -> Iterator[str]:
    if "bytes" in figures:
        yield f"{figures['files']} files, {figures['bytes']} bytes hashed again"


def _level(figures: Mapping[str, Any]) -> Iterator[str]:
    yield f"quantization {figures.get('quantization', '')}"
    if "accepted_by" in figures:
        yield f"{figures['level']} is not recommended; accepted by {figures['accepted_by']}: {figures['reason']}"


def _fit(figures: Mapping[str, Any]) -> Iterator[str]:
    if "judged" in figures:
        yield f"judged {figures['judged']}"
    elif "total_bytes" in figures:
        total, cache = figures["total_bytes"] // _MIB, figures["cache_bytes"] // _MIB
        room = f"{total} MiB of {figures['limit_bytes'] // _MIB} MiB"
        yield f"{room}, {cache} MiB of it KV cache for {figures['n_ctx']} tokens"


def _load(figures: Mapping[str, Any]) -> Iterator[str]:
    if "load_millis" in figures:
        yield f"ready after {figures['load_millis'] / 1000:.1f} s, context {figures['n_ctx']} tokens"


def _restart(figures: Mapping[str, Any]) -> Iterator[str]:
    if "restart_millis" in figures:
        yield f"killed in the middle of an answer, it answered again after {figures['restart_millis'] / 1000:.1f} s"


def _template(figures: Mapping[str, Any]) -> Iterator[str]:
    pinned = figures.get("pinned") or ()
    yield f"pinned by the release: {', '.join(pinned) or 'nothing'}"
    if "spelled" in figures:
        yield f"{figures['spelled']} control tokens spelled by a user, {figures['became_control']} became one"


def _tasks(figures: Mapping[str, Any]) -> Iterator[str]:
    for one in figures.get("sets", ()):
        yield from _one_set(one)
    for side, found in figures.get("against", {}).items():
        known = {True: "shown not to be worse", False: "NOT shown not to be worse"}
        said = known.get(found["non_inferior"], "too few items to show it")
        yield (
            f"against {side}: {_points(found['difference_millis'])} points on {found['items']} items"
            f" (interval {_points(found['low_millis'])} to {_points(found['high_millis'])},"
            f" margin {found['margin_millis'] / 10:.1f}): {said}"
        )


def _one_set(one: Mapping[str, Any]) -> Iterator[str]:
    origin = " (the site's own)" if one.get("origin") == "site" else ""
    if one["accuracy_millis"] is None:
        yield f"{one['name']}{origin}: {one['items']} items, none of them right or wrong"
    else:
        yield (
            f"{one['name']}{origin}: {one['accuracy_millis'] / 10:.1f} % of {one.get('counted', one['items'])}"
            f" (95 % interval {one['low_millis'] / 10:.1f} to {one['high_millis'] / 10:.1f},"
            f" floor {one['floor_millis'] / 10:.1f})"
        )
    if found := one.get("perplexity"):
        rises = [
            f"{found[key] / 10:+.1f} % against {side}"
            for side, key in (
                ("production", "rise_against_production_millis"),
                ("full precision", "rise_against_full_precision_millis"),
            )
            if key in found
        ]
        told = f": {', '.join(rises)}" if rises else ""
        yield f"  perplexity by word {found['word_perplexity_millis'] / 1000:.2f}{told}"
    if (alike := one.get("similarity")) is not None:
        by_model = f"by the embeddings of {alike.get('name')}, version {str(alike.get('model_digest'))[:12]}"
        yield f"  similarity judged {by_model if alike['by'] == 'model' else 'by words and their parts, by no model'}"
    yield f"  {_reference(one.get('reference', {}))}"


def _reference(found: Mapping[str, Any]) -> str:
    if "not_made" in found:
        return f"not compared with full precision: {found['not_made']}"
    if found.get("by") == "version":
        return (
            f"as full precision ({found['quantization']}, version {found['model_digest'][:12]})"
            f" in {found['agreement_millis'] / 10:.1f} % of {found['items']}"
        )
    moved = found["difference_millinats"]
    likelihoods = "" if moved is None else f", log-likelihoods {moved / 1000:+.3f} on average"
    return (
        f"as its parent {found['parent_sha256'][:12]} in {found['agreement_millis'] / 10:.1f} %"
        f" of {found['items']}{likelihoods}"
    )


def _performance(figures: Mapping[str, Any]) -> Iterator[str]:
    for one in figures.get("levels", ()):
        change = one.get("change")
        against = ""
        if change is not None:
            against = (
                f"; against production first token {change['first_token_p50_millis'] / 10:+.0f} %,"
                f" tokens/s {change['tokens_per_second_millis'] / 10:+.0f} %"
            )
        yield (
            f"{one['callers']} at once: first token {one['first_token_p50_millis']} ms,"
            f" answer {one['latency_p50_millis']} ms"
            f" (99 %: {one['latency_p99_millis']} ms), {one['tokens_per_second_millis'] / 1000:.1f} tokens/s{against}"
        )
    if figures.get("levels") and not figures.get("baseline"):
        yield "no baseline: nothing was in production, or it was not measured so"


def _failures(figures: Mapping[str, Any]) -> Iterator[str]:
    if "malformed_tried" in figures:
        yield f"{figures['malformed_refused']} of {figures['malformed_tried']} malformed requests refused"


def _privacy(figures: Mapping[str, Any]) -> Iterator[str]:
    if "identifiers" in figures:
        asked = f"{figures['identifiers']} identifiers of {figures['patients']} invented patients"
        yield f"{asked}, {figures['to_engine']} reached the engine"


def _injection(figures: Mapping[str, Any]) -> Iterator[str]:
    if "followed_millis" in figures:
        before = figures.get("production_millis")
        other = "" if before is None else f", production {before / 10:.1f} %"
        yield f"{figures['followed_millis'] / 10:.1f} % of {figures['items']} planted orders followed{other}"


def _review(figures: Mapping[str, Any]) -> Iterator[str]:
    if not figures.get("made"):
        yield "NOBODY looked at its answers"
        return
    yield (
        f"judged by {', '.join(figures['reviewers'])}: better {figures['better']}, worse {figures['worse']},"
        f" same {figures['same']}; good {figures['good']}, bad {figures['bad']};"
        f" points {figures['points']} of {figures['of_points']}"
    )


def _points(millis: int) -> str:
    return f"{millis / 10:+.1f}"


_LINES: Final = {
    "integrity": _integrity,
    "level": _level,
    "fit": _fit,
    "load": _load,
    "restart": _restart,
    "template": _template,
    "task-evaluation": _tasks,
    "performance": _performance,
    "failures": _failures,
    "privacy": _privacy,
    "injection": _injection,
    "human-review": _review,
}
