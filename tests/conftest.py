"""Which tests `make check` leaves to `make test`.

A module belongs to ``THOROUGH`` when it takes more than a second or so: databases, sockets, whole portals, every
fault at every door. Under ``-m "not slow"`` these are not even imported; without it everything runs. A single test that
starts processes is marked ``slow`` where it stands. How long an example takes is never a failure: machines differ.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

if "CI" not in os.environ:  # there Hypothesis has a profile of its own, with the same examples each time
    settings.register_profile("anywhere", deadline=None)
    settings.load_profile("anywhere")

TESTS: Final = Path(__file__).parent

THOROUGH: Final = frozenset(
    {
        "cli/test_apply.py",
        "cli/test_export.py",
        "cli/test_import.py",
        "cli/test_kql.py",
        "cli/test_response.py",
        "cli/test_source.py",
        "connectors/siem/test_http.py",
        "connectors/siem/test_stream.py",
        "connectors/siem/test_syslog.py",
        "demo/test_agents.py",
        "demo/test_connection.py",
        "demo/test_toolservers.py",
        "detection/test_hunting.py",
        "detection/test_publishing.py",
        "detection/test_runner.py",
        "gateway/telemetry/test_decoders.py",
        "gateway/telemetry/test_described_doors.py",
        "gateway/telemetry/test_doors.py",
        "gateway/telemetry/test_intake.py",
        "gateway/telemetry/test_sources.py",
        "gateway/test_decide.py",
        "gateway/test_faults.py",
        "gateway/test_http1.py",
        "gateway/test_official_client.py",
        "gateway/test_protocol.py",
        "gateway/test_stdio.py",
        "gateway/test_streams.py",
        "identity/test_fetching_keys.py",
        "identity/test_sts.py",
        "identity/test_subject_tokens.py",
        "kql/parity/test_parity.py",
        "kql/test_agent_hunting.py",
        "kql/test_batch.py",
        "kql/test_bind_operators.py",
        "kql/test_cases.py",
        "kql/test_clickhouse.py",
        "kql/test_codec.py",
        "kql/test_functions.py",
        "kql/test_fuzz_kql.py",
        "kql/test_printer.py",
        "kql/test_refusals.py",
        "kql/test_regex.py",
        "kql/test_scope.py",
        "kql/test_sql_agrees.py",
        "kql/test_templates.py",
        "kql/test_traps.py",
        "kql/test_walls.py",
        "portal/test_cases.py",
        "portal/test_decisions.py",
        "portal/test_described.py",
        "portal/test_exports.py",
        "portal/test_fuzz.py",
        "portal/test_hunting.py",
        "portal/test_hunting_library.py",
        "portal/test_kusto_clients.py",
        "portal/test_operators.py",
        "portal/test_pages.py",
        "portal/test_pipeline.py",
        "portal/test_real_clients.py",
        "portal/test_registry.py",
        "portal/test_routes.py",
        "portal/test_scim_groups.py",
        "portal/test_session.py",
        "portal/test_sightings.py",
        "portal/test_sources.py",
        "portal/test_traces.py",
        "portal/test_visibility.py",
        "registry/importers/test_importers.py",
        "registry/importers/test_walls.py",
        "registry/test_document.py",
        "registry/test_manifest.py",
        "registry/test_pinning.py",
        "registry/test_sightings.py",
        "registry/test_snapshots.py",
        "response/test_actions.py",
        "response/test_compromise.py",
        "response/test_guards.py",
        "response/test_holds.py",
        "response/test_playbooks.py",
        "response/test_quarantine.py",
        "response/test_recovery.py",
        "storage/test_audit.py",
        "storage/test_control.py",
        "storage/test_events.py",
        "storage/test_exports.py",
        "storage/test_inventory.py",
        "storage/test_log.py",
        "storage/test_migrations.py",
        "storage/test_remote.py",
        "storage/test_sightings.py",
        "storage/test_snapshots.py",
        "storage/test_spool.py",
        "storage/test_traces.py",
        "storage/test_views.py",
        "test_jobs.py",
    }
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import what will not run."""
    if config.option.markexpr != "not slow" or not collection_path.is_relative_to(TESTS):
        return None
    return True if collection_path.relative_to(TESTS).as_posix() in THOROUGH else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of those modules count as slow."""
    for item in items:
        if item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).as_posix() in THOROUGH:
            item.add_marker(pytest.mark.slow)
