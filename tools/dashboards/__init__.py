"""What an operator of the service watches, written once in typed code: dashboards, rules, rule tests, runbook.

    python -m tools.dashboards            writes deploy/grafana, deploy/prometheus/rules and tests, docs/RUNBOOK.md
    python -m tools.dashboards --check    says which of them differ from what is committed

The names of the series are those of `streamproc.shell.metrics`; a name that is not there fails a test.
"""
