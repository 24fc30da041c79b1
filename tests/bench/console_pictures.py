"""Takes the pictures of docs/console.md: `python -m tests.bench.console_pictures DIR`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser

from tests.support.browser import chromium
from tests.support.console_page import ask, tell, visit, watched_tab
from tests.support.console_site import console_site, new_ids, plain_groups, trained
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_script import Script

SCRIPTS = {
    "books": Script(("12 + 3 * 5 is 75.\nThe answer is \\boxed{75}.", "3 * 5 = 15, and 12 + 15 is\n\\boxed{27}.")),
    "17 * 6": Script(("17 * 6 = 102, so the answer is \\boxed{102}.",)),
    "capital": Script(("The capital of Australia is \\boxed{Canberra}.",)),
    "prime": Script(("The next prime after 31 is \\boxed{35}.",)),
}
BOOKS = "Ada has 12 books and buys 3 boxes of 5 books each. How many books has she?"
ROUNDS = 6


def main(folder: Path) -> None:
    """Drive some traffic through a gateway and photograph its console."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, chromium() as browser:
        old, *waiting = new_ids(3)
        names = [trained(Path(home), content, "LoRA, rank 16") for content in ("first", "second")]
        with console_site(Path(home), plain_groups(old, waiting), SCRIPTS) as gateway:
            for number in range(ROUNDS):
                chat(gateway, f"{number}: {BOOKS}", {"type": "numeric", "reference": 27}, effort="high", count=3)
                chat(gateway, f"{number}: What is 17 * 6?", {"type": "numeric", "reference": 102})
                chat(gateway, f"{number}: Which prime follows 31?", {"type": "numeric", "reference": 37})
                chat(gateway, f"{number}: What is the capital of Australia?")
            tell(gateway, f"/v1/policies/{names[0]}/promote", {"reason": "won on 400 held-out questions"})
            tell(gateway, f"/v1/policies/{names[1]}/promote", {"share": 0.05, "reason": "first as a canary"})
            time.sleep(1)  # the log's group commit
            take(browser, gateway, folder)


def chat(gateway: GatewayProcess, text: str, check: object = None, *, effort: str = "medium", count: int = 1) -> None:
    """One request, of at least `count` samples."""
    body = {"model": "champion", "messages": [{"role": "user", "content": text}], "reasoning_effort": effort}
    verification = {"checks": [check], "samples": {"min": count, "max": max(3, count)}} if check else None
    tell(gateway, "/v1/chat/completions", body | ({"verification": verification} if verification else {}))


def take(browser: Browser, gateway: GatewayProcess, folder: Path) -> None:
    """The pictures, each under the name that the page has for it."""
    with watched_tab(browser, "light") as tab:
        for section in ("scorecard", "reviews", "policies"):
            visit(tab, gateway, section)
            tab.screenshot(path=folder / f"console-{section}.png")
        visit(tab, gateway, "playground")
        ask(tab, "What is 17 * 6?", Checks='{"type": "numeric", "reference": 102}')
        tab.get_by_role("heading", name="Verification").wait_for()
        tab.screenshot(path=folder / "console-playground.png")
    with watched_tab(browser, "dark") as tab:
        visit(tab, gateway, "groups?route=vote&status=verified")
        tab.locator("tbody a").first.click()
        tab.locator("article.sample").first.wait_for()
        tab.screenshot(path=folder / "console-group-dark.png", full_page=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
