"""Where the engines are: one URL, or several."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit


def engine_urls(given: Any) -> tuple[str, ...]:
    """The base URLs in a list, a JSON list (as the environment spells one), or a string that commas separate.

    Raises `ValueError`, one line, for anything that is not the HTTP address of an engine, and for one given twice.
    """
    if isinstance(given, str):
        given = json.loads(given) if given.lstrip().startswith("[") else given.split(",")
    if not isinstance(given, list) or not given or not all(isinstance(url, str) for url in given):
        raise ValueError("give a URL, or a list of URLs")
    urls = tuple(url.strip().rstrip("/") for url in given)
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "," in url:
            raise ValueError(f"{url!r} is not the URL of an engine: give one such as http://10.0.0.5:8000")
    if len(set(urls)) < len(urls):
        raise ValueError("each engine is given once")
    return urls
