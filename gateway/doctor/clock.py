"""Clocks: keys expire, quotas refill and days begin by them, so the machines have to agree."""

from __future__ import annotations

from gateway.doctor.finding import Finding, failed, good

MOST_SKEW_S = 2.0


def compare_clock(name: str, theirs: float, before: float, after: float) -> Finding:
    """How far a clock that was read between `before` and `after` (all Unix times in seconds) is from ours."""
    skew = max(before - theirs, theirs - after, 0.0)
    what = f"clock of {name}"
    if skew > MOST_SKEW_S:
        return failed(
            what, f"{skew:.0f} s from this machine's", "run an NTP client on both (chrony, systemd-timesyncd)"
        )
    return good(what, f"within {max(skew, after - before):.1f} s of this machine's")
