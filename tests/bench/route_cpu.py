"""CPU time of a calibrated route decision and of a plan step: `python tests/bench/route_cpu.py`. Microseconds."""

from __future__ import annotations

import time
from collections.abc import Callable

from router.domain import VerificationSpec
from router.enums import Effort
from router.plan import Tally, next_wave, stop_reason
from router.route import Learned, Router, RouterSettings
from tests.support.builders import check_spec, prompt
from tests.support.calibrations import calibration

REPEATS, CALLS = 15, 400
QUESTION = (
    "A bakery makes 12 trays of 24 rolls in the morning and 8 trays of 18 rolls in the afternoon. It sells 3 out of "
    "every 4 rolls for 0.45 dollars each, gives 20 away, and throws the others out. How much does it earn in 6 days?"
)


def microseconds(call: Callable[[], object]) -> float:
    """The fastest of `REPEATS` means, in CPU time: what else runs on the machine does not count."""
    fastest = float("inf")
    for _ in range(REPEATS):
        started = time.process_time()
        for _ in range(CALLS):
            call()
        fastest = min(fastest, (time.process_time() - started) / CALLS)
    return fastest * 1e6


def main() -> None:
    settings = RouterSettings(threshold=0.5, quorum=0.9, max_samples=5, audit_share=0.02, explore_share=0.02)
    asked, checked = prompt(QUESTION), VerificationSpec((check_spec(type="numeric"),))
    long = prompt(QUESTION * 50)
    for name, router in {
        "heuristic": Router(settings),
        "calibrated": Router(settings, Learned(calibration(), 60.0)),
    }.items():
        for kind, spec in {"with a check": checked, "vote only": VerificationSpec()}.items():
            cost = microseconds(lambda r=router, s=spec: r.decide(asked, s, Effort.MEDIUM, 0.5, "base"))  # type: ignore[misc]
            most = microseconds(lambda r=router, s=spec: r.decide(long, s, Effort.MEDIUM, 0.5, "base"))  # type: ignore[misc]
            print(f"route, {name}, {kind}: {cost:.0f}, of {len(long.last_user_text)} characters {most:.0f}")
    learned = Router(settings, Learned(calibration(), 60.0))
    tallies = {"one vote": Tally(1, votes=(1,), evidence=(1.2,)), "one against one": Tally(2, votes=(1, 1))}
    for name, tally in tallies.items():
        _, plan = learned.decide(asked, VerificationSpec(), Effort.HIGH, None, "base")
        stop = microseconds(lambda p=plan, t=tally: stop_reason(p, t))  # type: ignore[misc]
        print(f"plan, vote, {name}: stop {stop:.0f}, wave {microseconds(lambda p=plan, t=tally: next_wave(p, t)):.0f}")  # type: ignore[misc]
    _, plan = learned.decide(asked, checked, Effort.HIGH, None, "base")
    print(f"plan, check, one failed: stop {microseconds(lambda: stop_reason(plan, Tally(1))):.0f}, ", end="")
    print(f"wave {microseconds(lambda: next_wave(plan, Tally(1))):.0f}")


if __name__ == "__main__":
    main()
