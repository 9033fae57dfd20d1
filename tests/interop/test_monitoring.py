"""Every rule fires on its shape and stays quiet on the normal one, as Prometheus itself evaluates it."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from appliance.audit.memory import MemoryLedger
from appliance.config import Config, PlacesSection, ServiceSection
from appliance.observe.metrics import create_metrics_app
from media.clock import SystemClock
from tests.support.monitoring import RULES, dashboard, rules, yaml

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian's package prometheus is absent"),
]
_MINUTES: Final = 90
_LONGER: Final = {"BackupMissing": 1500, "ClockUnsynchronised": 400, "CanaryUndecided": 800, "CanaryHeld": 1500}
_DAY: Final = 86400
_LIMIT: Final = {"sealift_concurrent_requests_limit": 64}
_BUCKETS: Final = ("1.0", "5.0", "10.0", "+Inf")


def latency(*counts: int) -> dict[str, str]:
    return {
        f'llm_request_latency_seconds_bucket{{le="{le}",model="m"}}': f"0+{count}x{_MINUTES}"
        for le, count in zip(_BUCKETS, counts, strict=True)
    }


def requests(*, good: int, bad: int, refused: int = 0) -> dict[str, str]:
    return {
        f'llm_requests_total{{model="m",status="{status}"}}': f"0+{count}x{_MINUTES}"
        for status, count in (("success", good), ("error", bad), ("refused", refused))
    }


def reconciled(*, answers: int, outcomes: int, refused_by_engines: int = 0) -> dict[str, Any]:
    return {
        'llm_requests_total{model="m",status="success"}': f"0+{answers}x{_MINUTES}",
        'llm_requests_total{model="m",status="refused"}': f"0+{refused_by_engines}x{_MINUTES}",
        'llm_requests_total{model="none",status="refused"}': f"0+99x{_MINUTES}",
        'llm_requests_total{model="none",status="error"}': f"0+99x{_MINUTES}",
        'sealift_ledger_requests_total{kind="request.outcome"}': f"0+{outcomes}x{_MINUTES}",
        **_LIMIT,
    }


def disk(free: int) -> dict[str, int]:
    return {'sealift_disk_available_bytes{place="state"}': free, 'sealift_disk_size_bytes{place="state"}': 100}


def production(*engines: int) -> dict[str, int]:
    return {f'sealift_production_served{{digest="{number}"}}': engine for number, engine in enumerate(engines)}


def gpu(used: int) -> dict[str, int]:
    return {'llm_gpu_memory_bytes{gpu_id="0"}': used, 'sealift_gpu_memory_total_bytes{gpu_id="0"}': 100}


def limited(name: str, age: int, limit: int) -> dict[str, int]:
    return {f"sealift_{name}_seconds": age, f"sealift_{name.removesuffix('_waiting')}_limit_seconds": limit}


def synchronised(status: int, *, servers: int) -> dict[str, int]:
    """Return what node exporter and the box say of the clock: two scrapes, whose labels have nothing in common."""
    return {'node_timex_sync_status{job="node"}': status, 'sealift_time_servers{job="host"}': servers}


def mails(*, tried: str, failed: str) -> dict[str, str]:
    return {
        f'alertmanager_notification_requests_{what}{{integration="email"}}': values
        for what, values in (("total", tried), ("failed_total", failed))
    }


# Of each rule: series on which it fires, then series on which it does not; the second lie just below the threshold.
SHAPES: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "GatewayDown": ({'up{job="gateway"}': 0}, {'up{job="gateway"}': 1, 'up{job="host"}': 0}),
    # As long as one thing behind the web server answers, it does, too.
    "WebServerDown": (
        {f'up{{job="{job}"}}': 0 for job in ("gateway", "gateway-test", "host", "node")},
        {**{f'up{{job="{job}"}}': 0 for job in ("gateway", "gateway-test", "host")}, 'up{job="node"}': 1},
    ),
    "GatewayMissing": (
        {'up{job="gateway"}': 1, 'up{gateway="2",job="gateway"}': 0},
        {'up{job="gateway"}': 0, 'up{gateway="2",job="gateway"}': 0},
    ),
    "FactsDown": ({'up{job="host"}': 0}, {'up{job="host"}': 1, 'up{job="gateway"}': 0}),
    "WatcherDown": ({'up{job="node"}': 0}, {'up{job="node"}': 1, 'up{job="alertmanager"}': 1}),
    "PartUnreadable": (
        {'sealift_part_unreadable{part="trust"}': 1},
        {'sealift_part_unreadable{part="trust"}': 0, 'sealift_part_unreadable{part="ledger"}': 1},
    ),
    "LedgerDown": (
        {'sealift_part_unreadable{part="ledger"}': 1},
        {'sealift_part_unreadable{part="ledger"}': 0, 'sealift_part_unreadable{part="spool"}': 1},
    ),
    # One of two receivers is refused; a relay that was away and is back refuses none any more.
    "MailNotTaken": (
        mails(tried=f"4+2x{_MINUTES}", failed=f"0+1x{_MINUTES}"),
        mails(tried=f"0+1x{_MINUTES}", failed=f"0+1x{_MINUTES - 4} {_MINUTES - 4}x3"),
    ),
    "UnitFailed": ({'sealift_unit_up{unit="admin"}': 0}, {'sealift_unit_up{unit="admin"}': 1}),
    # In a maintenance window production rests, and `WindowOverdue` says when that lasts too long.
    "ProductionNotServed": (
        {**production(1, 0), "sealift_window_open": 0},
        {**production(1, 0), "sealift_window_open": 1},
    ),
    "GpuMemoryCritical": (gpu(96), gpu(95)),
    "GpuBusy": ({'llama_gpu_utilization_percent{gpu_id="0"}': 76}, {'llama_gpu_utilization_percent{gpu_id="0"}': 75}),
    "GpuSaturated": (
        {'llama_gpu_utilization_percent{gpu_id="0"}': 96},
        {'llama_gpu_utilization_percent{gpu_id="0"}': 95},
    ),
    "LatencySlaBreach": (latency(50, 95, 100, 100), latency(50, 99, 100, 100)),
    "QueueFull": ({**_LIMIT, 'llm_active_requests{model="m"}': 52}, {**_LIMIT, 'llm_active_requests{model="m"}': 51}),
    "QueueTurnsAway": (
        {'sealift_queue_turned_away_total{priority="batch",why="full"}': f"0+2x{_MINUTES}"},
        {'sealift_queue_turned_away_total{priority="batch",why="left"}': f"0+2x{_MINUTES}"},
    ),
    # However many are refused, who came without a key among them.
    "AnswersFail": (requests(good=90, bad=10, refused=9000), requests(good=96, bad=4, refused=50)),
    "RecordsIncomplete": (
        {"sealift_spool_rejected_files": 1},
        {"sealift_spool_rejected_files": 0, "sealift_unrecorded_refusals_total": 7},
    ),
    # What an engine refuses has an outcome, too.
    "AnswersUnrecorded": (
        reconciled(answers=4, outcomes=6, refused_by_engines=4),
        reconciled(answers=4, outcomes=4),
    ),
    "IntentsOpen": ({"sealift_intents_without_outcome": 1}, {"sealift_intents_without_outcome": 0}),
    "SpoolWaits": ({"sealift_spool_files": 1}, {"sealift_spool_files": 0}),
    "CertificateEnding": (
        {"sealift_certificate_left_seconds": 20 * _DAY},
        {"sealift_certificate_left_seconds": 21 * _DAY},
    ),
    "CertificateEnded": (
        {"sealift_certificate_left_seconds": -1},
        {"sealift_certificate_left_seconds": 3 * _DAY},
    ),
    "RevocationListEnding": (
        {"sealift_revocation_list_left_seconds": 16 * _DAY - 1},
        {"sealift_revocation_list_left_seconds": 16 * _DAY},
    ),
    "AuthorityEnding": (
        {"sealift_authority_left_seconds": 90 * _DAY - 1},
        {"sealift_authority_left_seconds": 90 * _DAY},
    ),
    "ClientCertificateEnding": (
        {"sealift_client_certificate_left_seconds": 14 * _DAY - 1},
        {"sealift_client_certificate_left_seconds": 14 * _DAY},
    ),
    "BackupMissing": ({"sealift_backup_present": 0}, {"sealift_backup_present": 1}),
    "BackupOld": (limited("backup_age", 101, 100), limited("backup_age", 100, 100)),
    "DrillOverdue": (limited("drill_age", 101, 100), limited("drill_age", 100, 100)),
    "DrillFailed": ({"sealift_drill_failing": 1}, {"sealift_drill_failing": 0}),
    "StoreBad": ({"sealift_scrub_bad_objects": 1}, {"sealift_scrub_bad_objects": 0}),
    "VersionDamaged": ({"sealift_damaged_versions": 1}, {"sealift_damaged_versions": 0}),
    "ScrubOverdue": (limited("scrub_age", 101, 100), limited("scrub_age", 100, 100)),
    "CollectorBehind": (
        {"sealift_siem_behind_seconds": 901, "sealift_siem_silent_seconds": 1},
        {"sealift_siem_behind_seconds": 900, "sealift_siem_silent_seconds": 300},
    ),
    "LoginsRefused": (
        {"sealift_logins_refused_total": f"0x{_MINUTES - 10} 0+1x10"},
        {"sealift_logins_refused_total": f"0x{_MINUTES - 10} 0+1x4 5x6"},
    ),
    "EmergencyAccess": ({"sealift_emergency_access": 1}, {"sealift_emergency_access": 0}),
    "ReviewOverdue": (limited("review_waiting", 101, 100), limited("review_waiting", 100, 100)),
    "RetentionOverdue": (
        {"sealift_retention_age_seconds": 101, "sealift_retention_limit_seconds": 100},
        {"sealift_retention_age_seconds": 100, "sealift_retention_limit_seconds": 100},
    ),
    "ReportOverdue": (limited("report_waiting", 101, 100), limited("report_waiting", 100, 100)),
    "SamplesDropped": (
        {'sealift_review_samples_total{result="dropped-busy"}': f"0x{_MINUTES - 30} 1x30"},
        {'sealift_review_samples_total{result="kept"}': f"0+4x{_MINUTES}"},
    ),
    "LedgerDiskFull": ({"sealift_ledger_closing": 1}, {"sealift_ledger_closing": 0}),
    "LedgerReserveMissing": (
        {"sealift_ledger_reserve_bytes": 99, "sealift_ledger_reserve_wanted_bytes": 100},
        {"sealift_ledger_reserve_bytes": 100, "sealift_ledger_reserve_wanted_bytes": 100},
    ),
    "DiskFilling": (disk(19), disk(21)),
    "DiskFull": (disk(9), disk(11)),
    "ClockBehind": ({"sealift_clock_ahead_of_floor_seconds": -1}, {"sealift_clock_ahead_of_floor_seconds": 0}),
    "ClockNotBelieved": ({"sealift_clock_believed": 0}, {"sealift_clock_believed": 1}),
    "CensusOther": ({"sealift_census_other": 1}, {"sealift_census_other": 0}),
    "LeaseVoterSilent": (
        {'sealift_lease_voter_answers{voter="witness"}': 0, 'sealift_lease_voter_answers{voter="other-box"}': 1},
        {'sealift_lease_voter_answers{voter="witness"}': 1, 'sealift_lease_voter_answers{voter="other-box"}': 1},
    ),
    "NetworkTestFailed": ({"sealift_network_test_failed": 1}, {"sealift_network_test_failed": 0}),
    "NetworkTestOld": ({"sealift_network_test_age_seconds": 3601}, {"sealift_network_test_age_seconds": 3600}),
    "EgressAttempted": (
        {'sealift_network_packets_total{counter="egress_refused"}': f"0x{_MINUTES - 30} 1x30"},
        {
            'sealift_network_packets_total{counter="egress_refused"}': 3,
            'sealift_network_packets_total{counter="egress_tested"}': f"0+4x{_MINUTES}",
        },
    ),
    # A site behind a gap mostly names no time server: nothing sets its clock, and nothing would end the alert.
    "ClockUnsynchronised": (synchronised(0, servers=2), synchronised(0, servers=0)),
    "ClockUnconfirmed": (
        {**limited("clock_confirmed_age", 101, 100), "sealift_time_servers": 0},
        {**limited("clock_confirmed_age", 100, 100), "sealift_time_servers": 0},
    ),
    "ReceiptOverdue": (limited("receipt_waiting", 101, 100), limited("receipt_waiting", 100, 100)),
    "CanaryEnded": ({"sealift_canary_ended_age_seconds": 14399}, {"sealift_canary_ended_age_seconds": 14400}),
    "CanaryUndecided": (
        {"sealift_canary_left_seconds": 0, "sealift_canary_running": 1},
        {"sealift_canary_left_seconds": 1, "sealift_canary_running": 1},
    ),
    "CanaryHeld": ({"sealift_canary_held": 1}, {"sealift_canary_held": 0}),
    "JudgeSilent": (
        {"sealift_canary_figures_age_seconds": 1801},
        {"sealift_canary_figures_age_seconds": 1800, "sealift_watch_figures_age_seconds": 1800},
    ),
    "WatchFoundWorse": ({"sealift_watch_worse": 1}, {"sealift_watch_worse": 0}),
    "WindowOverdue": ({"sealift_window_overdue_seconds": 601}, {"sealift_window_overdue_seconds": 600}),
}
_REAL: Final = {"NumbersNotTaken"}
"""Of what is ahead of the clock, which promtool has not: tests/interop/test_numbers_ahead.py runs Prometheus for it."""
_EXTRA: Final[dict[str, dict[str, Any]]] = {
    # Prometheus takes nothing: no target is there.
    "FactsDown": {'sealift_spool_files{job="host"}': 0},
    "RecordsIncomplete": {"sealift_unrecorded_refusals_total": f"0x{_MINUTES - 30} 1x30"},
    "JudgeSilent": {"sealift_watch_figures_age_seconds": 1801},
}

_QUIET: Final[dict[str, dict[str, Any]]] = {
    "ClockUnsynchronised": synchronised(1, servers=2),
    "ClockUnconfirmed": {**limited("clock_confirmed_age", 101, 100), "sealift_time_servers": 1},
}


def series(values: dict[str, Any], minutes: int) -> list[dict[str, str]]:
    return [
        {"series": name, "values": value if isinstance(value, str) else f"{value}x{minutes}"}
        for name, value in values.items()
    ]


def case(name: str, values: dict[str, Any], *, fires: bool) -> dict[str, Any]:
    expected = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
    minutes = _LONGER.get(name, _MINUTES)
    return {
        "interval": "1m",
        "name": f"{name} {'fires' if fires else 'is quiet'}",
        "input_series": series(values, minutes),
        "promql_expr_test": [
            {"expr": expected, "eval_time": f"{minutes - 1}m", "exp_samples": [{"labels": "{}", "value": int(fires)}]}
        ],
    }


def run(folder: Path, cases: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    given = folder / "cases.yml"
    given.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": cases}))
    return subprocess.run(["promtool", "test", "rules", given], capture_output=True, text=True, check=False)


def test_every_rule_has_a_shape_and_every_shape_a_rule() -> None:
    assert set(SHAPES) | _REAL == {rule["alert"] for rule in rules()}


def test_every_rule_fires_on_its_shape_and_not_on_the_normal_one(tmp_path: Path) -> None:
    cases = [
        case(name, values, fires=fires)
        for name, shapes in SHAPES.items()
        for fires, values in zip((True, False), shapes, strict=True)
    ]
    cases += [case(name, values, fires=True) for name, values in _EXTRA.items()]
    cases += [case(name, values, fires=False) for name, values in _QUIET.items()]

    done = run(tmp_path, cases)

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_unit_that_is_tried_again_and_again_is_one_alert_and_not_many(tmp_path: Path) -> None:
    """What systemd gave up is tried every three minutes; a scrape may come just then, and see no unit that failed."""
    tried = [*["0"] * 6, "1"] * 20
    expected = 'count(ALERTS{alertname="UnitFailed",alertstate="firing"}) or vector(0)'
    moments = range(180, 30 * len(tried), 30)
    goes_on = {
        "interval": "30s",
        "name": "tried again and again",
        "input_series": [{"series": 'sealift_unit_up{unit="admin"}', "values": " ".join([*tried, *["1"] * 20])}],
        "promql_expr_test": [
            {"expr": expected, "eval_time": f"{at}s", "exp_samples": [{"labels": "{}", "value": int(fires)}]}
            for at, fires in [*((at, True) for at in moments), (30 * len(tried) + 360, False)]
        ],
    }

    done = run(tmp_path, [goes_on])

    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_can_ask_whatever_the_dashboard_asks(tmp_path: Path) -> None:
    asked = [one["expr"] for panel in dashboard()["panels"] for one in panel["targets"]]
    rows = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(asked)]
    given = tmp_path / "panels.yml"
    given.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rows}]}))

    done = subprocess.run(["promtool", "check", "rules", given], capture_output=True, text=True, check=False)

    assert len(asked) > 40
    assert done.returncode == 0, done.stdout + done.stderr


def test_cards_that_two_gateways_tell_of_are_one_on_the_dashboard_and_in_alerts(tmp_path: Path) -> None:
    """Each gateway tells the figures of every card; matched one by one they would be many to many: an error."""
    told = {name.replace("{", f"{{{label}"): value for label in ("", 'gateway="2",') for name, value in gpu(99).items()}
    panels = [one["expr"] for panel in dashboard()["panels"] for one in panel["targets"]]
    (share,) = (one for one in panels if "sealift_gpu_memory_total_bytes" in one)
    both = case("GpuMemoryCritical", told, fires=True)
    both["promql_expr_test"].append(
        {"expr": share, "eval_time": "5m", "exp_samples": [{"labels": '{gpu_id="0"}', "value": 0.99}]}
    )

    done = run(tmp_path, [both])

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_shape_that_is_wrong_would_be_seen(tmp_path: Path) -> None:
    done = run(tmp_path, [case("DiskFull", disk(50), fires=True)])

    assert done.returncode == 1
    assert re.search(r"exp:.*1", done.stdout + done.stderr)


def test_prometheus_reads_what_we_offer_without_a_complaint(tmp_path: Path) -> None:
    config = Config(
        site="s", environment="demo", places=PlacesSection(root=str(tmp_path), run="/run/s"), service=ServiceSection()
    )
    app = create_metrics_app(config, ledger=MemoryLedger(), supervisor=None, clock=SystemClock())
    text = app.test_client().get("/metrics").get_data()

    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)

    assert b"sealift_part_unreadable" in text
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
