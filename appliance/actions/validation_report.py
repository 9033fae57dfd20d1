"""The report on a validation that people sign: each gate with verdict and figures, and the digests that prove it.

One content, as PDF and as HTML like every sheet (`appliance.paper`), and on the page. It is drawn from the evidence,
whose digest two people sign in the statement; so the paper can be held against what was approved.
"""

from pathlib import Path
from typing import Any, Final

from appliance.actions.gating import shown
from appliance.actions.validate import GATE_RESULT, ValidationReport
from appliance.audit.facts import EVERY, Ledger
from appliance.errors import StoreWriteError
from appliance.paper.drawn import drawn, is_drawable
from appliance.paper.form import Bars, Form, Section, Table
from media.errors import UsageError

PDF_NAME: Final = Path("report.pdf")
"""What `drawn` is told where there is no file."""


def form_of(report: ValidationReport, *, site: str, at: str, sequences: tuple[int, ...]) -> Form:
    """Return the sheet.

    Args:
        report: What the gates said.
        site: Of the site file.
        at: When the last verdict was recorded, RFC 3339.
        sequences: The ledger's records of the verdicts.
    """
    version, policy = report.version, report.policy
    failed = [one.gate for one in report.verdicts if not one.passed]
    result = (
        "PASSED: every gate of the policy." if report.passed else f"NOT PASSED: {', '.join(failed) or 'not all ran'}."
    )
    facts = (
        ("Site", site),
        ("Version", f"{version.name} {version.version}"),
        ("Quantization", str(version.descriptor.get("quantization", ""))),
        ("Model digest", version.model_digest),
        ("Weights digest", version.weights_digest),
        ("Release serial", str(version.serial)),
    )
    proof: tuple[tuple[str, str], ...] = (
        ("Evidence digest", report.evidence_digest),
        ("Policy", f"{policy.name}, {policy.digest}"),
        ("Ledger records", f"{sequences[0]} to {sequences[-1]}" if sequences else "not recorded"),
    )
    thresholds = () if policy.site is None else tuple((one.key, one.text) for one in policy.site.changes)
    if policy.site is not None:
        proof = (*proof, ("Site's thresholds", f"{policy.site.name}, {policy.site.sha256}"))
    rows = tuple(
        (
            one.gate,
            "passed" if one.passed else "FAILED",
            "; ".join((one.why, *_figures(one.gate, one.figures))).strip("; "),
        )
        for one in report.verdicts
    )
    left_out = [gate for gate in policy.gates if gate not in {one.gate for one in report.verdicts}]
    notes = (f"Not run: {', '.join(left_out)}.",) if left_out else ()
    sections = (
        Section(title="The version", facts=facts),
        Section(
            title="The gates, in their order",
            table=Table(heads=("gate", "verdict", "what was found"), rows=rows, widths=(18, 12, 90)),
            notes=notes,
        ),
        *_speed(report),
        *_thresholds(thresholds),
        Section(
            title="How to hold this against what is approved",
            facts=proof,
            notes=(
                "Approvers sign a statement with these two digests; `sealift history` and `sealift prove` show it.",
            ),
        ),
        Section(title="Read and found complete", lines=(("name", "signature", "date"), ("name", "signature", "date"))),
    )
    return Form(title=f"Validation of {version.name} {version.version}", result=result, at=at, sections=sections)


def made(report: ValidationReport, *, ledger: Ledger, site: str) -> Form:
    """Return the sheet with what the ledger has of this run."""
    leaves = [
        leaf
        for leaf in ledger.find(kind=GATE_RESULT, field="model_digest", value=report.version.model_digest, limit=EVERY)
        if leaf.body.get("evidence_digest") == report.evidence_digest
    ]
    leaves.sort(key=lambda leaf: leaf.sequence)
    at = leaves[-1].time if leaves else "1970-01-01T00:00:00Z"
    return form_of(report, site=site, at=at, sequences=tuple(leaf.sequence for leaf in leaves))


def require_writable(file: Path) -> None:
    """Return when the sheet can be written there.

    Raises:
        UsageError: It exists, or its name says nothing of how it is drawn.
    """
    why = "" if is_drawable(file) else "its name ends neither in .pdf nor in .html"
    if why or file.exists():
        raise UsageError(
            what=f"the report cannot be written to {file.name}", why=why or "it exists", fix="choose another file"
        )


def write(file: Path, report: ValidationReport, *, ledger: Ledger, site: str) -> None:
    """Write the sheet.

    Raises:
        UsageError: As `require_writable`.
        StoreWriteError: It could not be written.
    """
    require_writable(file)
    content = drawn(made(report, ledger=ledger, site=site), file)
    try:
        with file.open("xb") as target:
            target.write(content)
    except OSError as error:
        raise StoreWriteError(
            what=f"the report {file.name} could not be written", why=error.strerror or "", fix="choose another folder"
        ) from error


def _speed(report: ValidationReport) -> tuple[Section, ...]:
    """Return the plots of speed and waits at each number of callers, beside production's where it was measured so."""
    levels = report.figures_of("performance").get("levels", ())
    if not levels:
        return ()
    bars = []
    for title, key, by, unit in (
        ("Tokens per second: more is better", "tokens_per_second_millis", 1000, "tokens/s"),
        ("Wait for the first token: less is better", "first_token_p50_millis", 1, "ms"),
    ):
        rows: list[tuple[str, int]] = []
        for level in levels:
            rows.append((f"{level['callers']} at once", round(level[key] / by)))
            if level.get("production") is not None:
                rows.append((f"{level['callers']} at once, production", round(level["production"][key] / by)))
        bars.append(Bars(title=title, rows=tuple(rows), unit=unit))
    return (Section(title="Speed by callers", bars=tuple(bars)),)


def _thresholds(lines: tuple[tuple[str, str], ...]) -> tuple[Section, ...]:
    if not lines:
        return ()
    table = Table(heads=("threshold", "release, site, by whose word"), rows=lines, widths=(40, 80))
    return (Section(title="Thresholds of the site's own", table=table),)


def _figures(gate: str, figures: dict[str, Any]) -> tuple[str, ...]:
    return tuple(line.strip() for line in shown.lines_of(gate, figures))
