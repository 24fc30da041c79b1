"""Who a gateway without keys answers: programs of its own machine, not the pages that its browser has open.

A page of another site can have its own name resolve to 127.0.0.1 (DNS rebinding) and then reads our answers, or post to
us without reading them. Its `Host`, or its `Origin`, says where it comes from. A key stops both, since no page has one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from router.errors import Forbidden

_MACHINE = r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]+)?"
_HOST = re.compile(_MACHINE, re.IGNORECASE)
_ORIGIN = re.compile(rf"https?://{_MACHINE}", re.IGNORECASE)


def require_same_machine(headers: Mapping[str, str]) -> None:
    """Raise `Forbidden` for a request whose `Host` or `Origin` is not a loopback name."""
    for header, loopback in (("host", _HOST), ("origin", _ORIGIN)):
        given = headers.get(header)
        if given is not None and not loopback.fullmatch(given):
            raise Forbidden(
                f"without API keys this gateway answers its own machine only, and the {header.title()} header names"
                " another: use localhost, or make a key with `thinktwice keys create`"
            )
