"""All rules, in the order in which their findings are shown."""

from __future__ import annotations

from dag_factory.doctor import fleet_rules, place_rules
from dag_factory.doctor.facts import Facts
from dag_factory.doctor.finding import SEVERITIES, Finding, Rule
from dag_factory.doctor.numbers import BOUNDS

RULES: tuple[Rule, ...] = (
    fleet_rules.installation, fleet_rules.bundles, fleet_rules.bundle_options, fleet_rules.executor, fleet_rules.celery,
    fleet_rules.pools, *BOUNDS, place_rules.answers, place_rules.database, place_rules.ledger, place_rules.files,
    place_rules.secrets, place_rules.tls,
)  # fmt: skip


def findings(facts: Facts) -> tuple[Finding, ...]:
    """Everything that is not as it should be for `facts.rows` rows, the worst first."""
    found = [finding for rule in RULES for finding in rule(facts)]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))
