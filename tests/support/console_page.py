"""A tab that shows the console, and watches that nothing runs in it which should not."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.gateway_process import GatewayProcess

SECTIONS = {"scorecard": ".card", "groups": "table", "playground": "form", "reviews": "article", "policies": "table"}
_WAIT_MS = 8000
_REPORT = "addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective}`))"


@contextmanager
def watched_tab(browser: Browser, scheme: Literal["light", "dark"]) -> Iterator[Page]:
    """A new tab. Whatever runs that should not, breaks the content policy, or is thrown, fails the test at its end."""
    expect.set_options(timeout=_WAIT_MS)
    context = browser.new_context(
        color_scheme=scheme, reduced_motion="reduce", viewport={"width": 1100, "height": 900}
    )  # without motion, so that no colour is measured on its way to another
    context.set_default_timeout(_WAIT_MS)
    context.add_init_script(_REPORT)
    tab = context.new_page()
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("dialog", lambda dialog: faults.append(dialog.message))
    tab.on("console", lambda said: faults.append(said.text) if "Failed to load resource" not in said.text else None)
    yield tab
    assert tab.evaluate("globalThis.ran") is None and faults == []
    context.close()


def visit(page: Page, gateway: GatewayProcess, section: str) -> Locator:
    """Load a section anew, once it has its data; its part of the page."""
    page.goto("about:blank")
    page.goto(f"{gateway.url}/console#/{section}")
    name = section.replace("/", "?").partition("?")[0]
    expect(page.locator("h1")).to_have_text(name.capitalize())
    main = page.locator("main")
    expect(main.locator(SECTIONS[name]).first).to_be_visible()
    return main


def ask(page: Page, prompt: str, **fields: str) -> None:
    """Fill in the playground's fields, by their labels, and send it."""
    page.get_by_label("Prompt").fill(prompt)
    for label, value in fields.items():
        page.get_by_label(label).fill(value)
    page.get_by_role("button", name="Send").click()


def script(name: str) -> str:
    """A function that runs in the page."""
    return (Path(__file__).parent / name).read_text()


def tell(gateway: GatewayProcess, path: str, body: Any) -> None:
    """Post JSON to the gateway, beside the page."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(gateway.url + path, json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answered:
        assert answered.status == 200
