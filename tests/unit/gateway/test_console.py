"""The console's files: what they may do, who may have them, and that none of them makes markup of text."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from gateway.http.console.page import Console
from gateway.http.openapi import document
from tests.support.asgi import application, get
from tests.support.serving import serving

STATIC = Path(str(files("gateway.http.console"))) / "static"
DIRECTIVES = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
}
MARKUP_FROM_TEXT = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|setHTML|DOMParser|srcdoc"
    r"|\beval\b|Function\("
)


@pytest.mark.parametrize("path", ["/console", *(f"/console/{name}" for name in Console().names)])
async def test_a_file_and_what_it_may_do(tmp_path: Path, path: str) -> None:
    app = application(serving(tmp_path))
    served = await get(app, path)
    name = path.removeprefix("/console").removeprefix("/") or "index.html"
    assert served.status == 200 and served.body == (STATIC / name).read_bytes()
    kind = {"html": "html", "css": "css", "js": "javascript"}[name.rpartition(".")[2]]
    assert served.headers["content-type"] == f"text/{kind}; charset=utf-8"
    assert set(served.headers["content-security-policy"].split("; ")) == DIRECTIVES
    assert served.headers["x-content-type-options"] == "nosniff"
    assert served.headers["referrer-policy"] == "no-referrer"
    again = await get(app, path, headers={"If-None-Match": f'"other", W/{served.headers["etag"]}'})
    assert (again.status, again.body) == (304, b"") and again.headers["etag"] == served.headers["etag"]
    assert (await get(app, path, headers={"If-None-Match": '"other"'})).status == 200


@pytest.mark.parametrize(
    "name", ["", "nope.js", "page.py", "../page.py", "%2e%2e/page.py", "static", "Main.js", "\x00"]
)
async def test_any_other_name_does_not_exist(tmp_path: Path, name: str) -> None:
    missing = await get(application(serving(tmp_path)), f"/console/{name}")
    assert missing.status in (404, 307) and b"def " not in missing.body


async def test_it_is_read_only(tmp_path: Path) -> None:
    assert (await get(application(serving(tmp_path)), "/console", "POST")).status == 405


def test_the_description_has_it() -> None:
    assert {"/console", "/console/{file}"} <= document()["paths"].keys()


def test_no_file_makes_markup_of_text() -> None:
    assert {"index.html", "main.js", "style.css"} <= set(Console().names)
    for file in STATIC.iterdir():
        assert not re.search(MARKUP_FROM_TEXT, file.read_text()), file.name
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|https?://", page)
    for script in STATIC.glob("*.js"):
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|localStorage", script.read_text()), script.name
