"""`sealift models`: the versions this site knows, what they take, and how they are deleted."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from appliance.actions import fit as fitting
from appliance.actions import versions as actions
from appliance.actions.crowding import CrowdFacts, for_people
from appliance.actions.fit import FitFacts, Holds
from appliance.actions.levelspeeds import Fastest, Level, fastest, level_speeds
from appliance.actions.provenance import Provenance, provenance
from appliance.actions.versions import VersionFacts
from appliance.cli import compare, versions_advise, versions_change
from appliance.cli import context as shared
from appliance.cli.opened import is_operator, jobs_of, records_of
from appliance.promote.destination import Said
from appliance.store.content import ContentStore

Which = Annotated[
    str, typer.Argument(help="production, previous, candidate, a digest, its beginning, a name, or NAME:VERSION.")
]
_MIB = 2**20


def register(app: typer.Typer) -> None:
    """Add the commands."""
    models = typer.Typer(help="The model versions this site knows.", no_args_is_help=True)
    app.add_typer(models, name="models")
    models.command("list")(_list)
    models.command("show")(_show)
    models.command("variants")(_variants)
    models.command("fit")(_fit)
    versions_advise.register(models)
    versions_change.register(models)
    compare.register(models)


def _list(context: typer.Context) -> None:
    """List all versions with their stage and alias, then those of releases that were received and not installed."""
    own = shared.of(context)
    with records_of(own) as (ledger, state):
        found = actions.list_versions(state)
        waiting = actions.waiting(ContentStore(own.config.at.store), ledger, state)
    lines = [
        f"{one.version.model_digest[:12]}  {one.version.name} {one.version.version}  {one.stage}"
        f"  release serial {one.version.serial}{f'  ({one.alias})' if one.alias else ''}"
        f"{f'  (line {one.line})' if one.line else ''}"
        for one in found
    ]
    lines += [
        f"{one.model_digest[:12]}  {one.name} {one.version}  received: release serial {one.serial} is not installed"
        for one in waiting
    ]
    facts = {"versions": [one.to_json() for one in found], "waiting": [one.to_json() for one in waiting]}
    own.result(facts, "\n".join(lines) or "no version is registered")


def _show(context: typer.Context, which: Which) -> None:
    """Show one version: digests, origin, people, gates, profile, changelog."""
    own = shared.of(context)
    with records_of(own) as (ledger, state):
        found = actions.show(state, which)
        record = provenance(own.config, ledger, found.version)
    descriptor = found.version.descriptor
    profile = {name: descriptor.get(name) for name in ("runtime", "system_prompt", "rules", "chat_template", "files")}
    own.result({**found.to_json(), "provenance": record.to_json(), "profile": profile}, "\n".join(_text(found, record)))


def _variants(context: typer.Context) -> None:
    """List the versions of each model by quantization level, with what each does here, and the fastest."""
    own = shared.of(context)
    with records_of(own) as (_, state), jobs_of(own) as jobs:
        found = level_speeds(own.config.at, state, proofs=jobs if is_operator(own.config) else None)
    best = {model: fastest(own_levels) for model, own_levels in found.items()}
    lines = [line for model, levels in found.items() for line in _variant_lines(model, levels, best[model])]
    own.result(
        {
            "models": {model: [one.to_json() for one in levels] for model, levels in found.items()},
            "fastest": {model: one and one.to_json() for model, one in best.items()},
        },
        "\n".join(lines) or "no version is registered",
    )


def _variant_lines(model: str, levels: Sequence[Level], best: Fastest | None) -> Iterator[str]:
    yield model
    for one in levels:
        version = one.variant.version
        speeds = ", ".join(f"{speed} with {answers}" for answers, speed in one.speeds.items())
        measured = f"  tokens/s by answers at once: {speeds} ({one.threads} threads)" if speeds else ""
        yield (
            f"  {one.variant.quantization:<9} {version.model_digest[:12]}  {version.name} {version.version}"
            f"  {-(-one.variant.bytes // _MIB)} MiB{measured}"
        )
    if best is not None:
        yield f"  {best.told()}"


def _fit(
    context: typer.Context,
    which: Which,
    beside: Annotated[bool, typer.Option("--beside", help="As one more model, beside what is in production.")] = False,
    replaces: Annotated[str, typer.Option("--replaces", help="In the place of this model, by its name.")] = "",
    people: Annotated[
        int, typer.Option("--people", help="Say which limits so many people ask for, and what falls short.", min=0)
    ] = 0,
) -> None:
    """Say what memory holds of a version beside production, and what that means for going forward and back."""
    own = shared.of(context)
    with records_of(own) as (ledger, state):
        said = Said(beside=beside, replaces=replaces)
        facts = fitting.fit(own.config, ledger, state, which, said=said)
    asked = for_people(own.config, facts.version, people) if people else None
    lines = [*fit_lines(facts), *([] if asked is None else _crowd_lines(asked))]
    own.result({**facts.to_json(), "people": None if asked is None else asked.to_json()}, "\n".join(lines))


def _crowd_lines(facts: CrowdFacts) -> list[str]:
    asked = facts.asked
    head = f"{asked.people} people ({asked.scale})"
    return [
        f"{head}: {asked.answers_at_once} answers at once, {asked.tokens} tokens of context",
        *(f"  ! {sentence}" for sentence in facts.short),
        "  in the site file:",
        *(f"    {line}" for line in facts.site_file.strip().splitlines()),
    ]


def fit_lines(facts: FitFacts) -> list[str]:
    """Return what memory holds, for a person."""
    need = facts.need
    holds = _SAID[str(facts.holds)] if facts.production is not None or facts.holds is Holds.NONE else "it"
    lines = [f"{facts.version.name} {facts.version.version}: memory holds {holds}"]
    if need is not None:
        lines.append(
            f"  it takes {_mib(need.total)} MiB at most: weights {_mib(need.weights)}, cache {_mib(need.cache)}, "
            f"compute {_mib(need.compute)}, process {_mib(need.process)}"
        )
    if facts.production is not None:
        other = facts.production_need
        taken = "an unknown amount" if other is None else f"{_mib(other.total)} MiB at most"
        lines.append(f"  in production: {facts.production.name} {facts.production.version}, {taken}")
    lines.append(f"  engines may take {_mib(facts.room.engines)} of {_mib(facts.room.total)} MiB")
    return [*lines, *(f"  - {sentence}" for sentence in facts.plan)]


_SAID = {
    "two": "both versions",
    "one": "one version at a time",
    "none": "not even this version",
    "unknown": "one version at a time, as far as can be told",
}


def _mib(size: int) -> int:
    return -(-size // _MIB)


def _text(facts: VersionFacts, record: Provenance) -> list[str]:
    version, told = facts.version, record.to_json()
    changelog: dict[str, Any] = told["changelog"]
    impact = changelog["impact"] or {}
    rows: list[tuple[str, Any]] = [
        ("Version", f"{version.name} {version.version}"),
        ("Stage", facts.stage),
        ("Alias", facts.alias or "none"),
        *([("Line", facts.line)] if facts.line else []),
        ("Model digest", version.model_digest),
        ("Weights digest", version.weights_digest),
        ("Release serial", version.serial),
        ("Engine", version.descriptor.get("engine")),
        ("Quantization", version.descriptor.get("quantization")),
        ("License", version.descriptor.get("license")),
        ("Registered", f"sequence {version.sequence}"),
        ("Source", told["source"] or "not stated"),
        ("Downloaded", told["download_date"] or "not stated"),
        ("Created by", told["created_by"] or "not stated"),
        ("Approved by", ", ".join(told["approved_by"]) or "nobody"),
        ("Deployed", told["deployment_date"] or "never"),
        ("Review", told["review_status"]),
        ("Legal hold", told["legal_hold"] or "none"),
        ("Changes", "; ".join(changelog["changes"]) or "none stated"),
        ("Impact", ", ".join(f"{name} {change}" for name, change in impact.items()) or "not measured"),
        ("Baseline", ", ".join(f"{name} {value}" for name, value in record.baseline.items()) or "not measured"),
    ]
    lines = [f"{label:<15} {value}" for label, value in rows]
    lines.extend(
        f"Gate            {'✓' if gate.passed else '✗'} {gate.gate}, sequence {gate.sequence}, "
        f"evidence {gate.evidence_digest[:12]}"
        for gate in facts.gates
    )
    return lines
