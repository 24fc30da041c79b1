"""Does the time of a refusal tell whether a key's id exists? Interleaved, in CPU time, with a 95 % interval.

`python tests/bench/key_timing.py [ROUNDS]`
"""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
import time

from gateway.tenants.keys import KeyRing, Role, new_key
from router.errors import InvalidKey

NOW, CALLS = 1_000.0, 50


def main(rounds: int) -> None:
    """Print the mean difference between a known id with a wrong secret and an unknown id."""
    made = [new_key(b"p" * 32, "acme", Role.USER, now=NOW) for _ in range(1000)]
    ring = KeyRing((kept for _, kept in made), b"p" * 32)
    stranger = new_key(b"p" * 32, "acme", Role.USER, now=NOW)[0]
    known = f"Bearer tt_{made[500][1].id}_{stranger.rpartition('_')[2][-43:]:A>43}"
    differences = [timed(ring, known) - timed(ring, f"Bearer {stranger}") for _ in range(rounds)]
    mean, error = statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(rounds)
    print(
        f"known id - unknown id: {mean * 1e9:+.0f} ns a refusal, 95 % interval {(mean - 1.96 * error) * 1e9:+.0f} to "
        f"{(mean + 1.96 * error) * 1e9:+.0f} ns, {rounds} pairs of {CALLS}"
    )


def timed(ring: KeyRing, header: str) -> float:
    """Seconds of CPU of one refusal."""
    started = time.process_time()
    for _ in range(CALLS):
        with contextlib.suppress(InvalidKey):
            ring.caller(header, NOW)
    return (time.process_time() - started) / CALLS


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
