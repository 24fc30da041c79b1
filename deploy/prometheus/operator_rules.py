"""`python -m deploy.prometheus.operator_rules`: rules and alerts as one object for the Prometheus operator."""

from __future__ import annotations

from pathlib import Path

_HEAD = """\
# Made by `python -m deploy.prometheus.operator_rules` from its folder's files. Needs the Prometheus operator.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: thinktwice
spec:
  groups:
"""


def operator_rules() -> str:
    """The YAML of a PrometheusRule: the groups of both files as they are written, two columns further in."""
    files = (Path(__file__).with_name(name).read_text() for name in ("rules.yml", "alerts.yml"))
    lines = [line for text in files for line in text.removeprefix("groups:\n").splitlines()]
    return _HEAD + "".join(f"  {line}\n" for line in lines)


if __name__ == "__main__":
    print(operator_rules(), end="")
