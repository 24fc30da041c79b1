"""How long a client waits for its answer, by its headers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from router.errors import InvalidRequest

TIMEOUT_HEADER = "x-request-timeout"  # seconds, for any client
# What OpenAI's SDKs (Python, then Node) send of their own timeout, in seconds.
_SDK_HEADERS = ("x-stainless-read-timeout", "x-stainless-timeout")
_MARGIN_S, _MARGIN_SHARE = 0.5, 0.1


def client_timeout_s(headers: Mapping[str, str], *, stream: bool) -> float | None:
    """Seconds in which the client wants its answer, or None.

    An SDK hangs up at its timeout, so its answer is due a little sooner: half a second, or a tenth of a short timeout.
    Its timeout is between two reads, and a stream is kept alive by comments: it bounds whole answers alone.

    Raises `InvalidRequest` for an `X-Request-Timeout` that is no positive number.
    """
    given = headers.get(TIMEOUT_HEADER)
    if given is not None:
        seconds = _seconds(given)
        if seconds is None:
            raise InvalidRequest(f"{TIMEOUT_HEADER} must be a positive number of seconds", param=TIMEOUT_HEADER)
        return seconds
    if stream:
        return None
    for name in _SDK_HEADERS:
        if (given := headers.get(name)) is not None and (seconds := _seconds(given)) is not None:
            return seconds - min(_MARGIN_S, _MARGIN_SHARE * seconds)
    return None


def _seconds(given: str) -> float | None:
    try:
        seconds = float(given)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
