"""`GET /console`: the files of a web page without data. All it shows comes through the other routes, with a key.

The policy lets the page load its own files and ask this server, nothing else; no markup is ever made from text, which
Trusted Types (W3C) make the browser enforce as well.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

INDEX = "index.html"
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asked again each time, so that page and gateway are of one release
}


class Console:
    """The files, read once: what is not among them does not exist, whatever its name."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, dict[str, str]]] = {}
        for file in (files(__package__) / "static").iterdir():
            kind = _TYPES.get(file.name.rpartition(".")[2])
            if kind is not None:
                content = file.read_bytes()
                tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
                own = {"Content-Type": f"{kind}; charset=utf-8", "ETag": tag}
                self._files[file.name] = (content, _HEADERS | own)

    @property
    def names(self) -> list[str]:
        """The names of the files."""
        return sorted(self._files)

    async def file(self, request: Request) -> Response:
        """`GET /console` and `GET /console/{file}`. Raises `HTTPException` 404."""
        found = self._files.get(request.path_params.get("file", INDEX))
        if found is None:
            raise HTTPException(404)
        content, headers = found
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if headers["ETag"] in known:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)
