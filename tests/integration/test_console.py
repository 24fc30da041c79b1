"""The console in a real browser, over a real gateway: nothing stored ever runs, and all of it works by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from gateway.tenants.key_file import KeyFile
from gateway.tenants.keys import Role
from router.log.labels import LabelSource, read_labels
from router.registry import PolicyRegistry
from tests.support.browser import chromium
from tests.support.console_page import SECTIONS, ask, script, tell, visit, watched_tab
from tests.support.console_site import HOSTILE, PAYLOADS, console_site, hostile_group, new_ids, plain_groups, trained
from tests.support.gateway_process import GatewayProcess
from tests.support.mock_script import Fault, Script

STORED, VOTED, *WAITING = new_ids(5)
SCRIPTS = {
    "hostile": Script((HOSTILE + " \\boxed{4}",)),
    "refused": Script(("",), fault=Fault.REFUSE),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    home = tmp_path_factory.mktemp("console")
    trained(home, "first", HOSTILE)
    trained(home, "second", "plain")
    registry = PolicyRegistry(home / "state")
    registry.promote(min(registry.names()), HOSTILE, HOSTILE)
    registry.rollback(HOSTILE, HOSTILE)
    with console_site(home, [hostile_group(STORED), *plain_groups(VOTED, WAITING)], SCRIPTS) as running:
        said = {"outcome": "not_solved", "note": HOSTILE, "rating": 1, "team": PAYLOADS[1]}
        tell(running, "/v1/feedback", {"group_id": STORED, **said})
        yield running


@pytest.fixture
def page(browser: Browser, gateway: GatewayProcess) -> Iterator[Page]:
    with watched_tab(browser, "light") as tab:
        yield tab


def test_what_was_stored_is_shown_and_never_run(page: Page, gateway: GatewayProcess) -> None:
    shown = {
        "scorecard": PAYLOADS[1],
        f"groups?profile={quote(PAYLOADS[1])}": HOSTILE,
        "reviews": HOSTILE,
        "policies": HOSTILE,
        f"groups/{STORED}": HOSTILE,
    }
    for section, text in shown.items():
        main = visit(page, gateway, section)
        for summary in main.locator("summary").all():
            summary.click()
        expect(main).to_contain_text(text)
        if section == "reviews":
            expect(main.locator("pre", has_text=HOSTILE).first).to_be_visible()
        assert main.locator("img, script, iframe, [onload], [onerror]").count() == 0
        assert main.locator("a:not([href^='#/'])").count() == 0
    text = page.locator("main").inner_text()
    # policies 2, tenant, failure, role, questions 2, turn, its call 3, answer, its call 2, key 2, note
    assert text.count(PAYLOADS[0]) == 17 and "[object" not in text


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_text_as_well(page: Page, gateway: GatewayProcess, stream: bool) -> None:
    visit(page, gateway, "playground")
    page.get_by_label("Stream").set_checked(stream)
    ask(page, f"hostile {HOSTILE}", Checks='{"type": "numeric", "reference": 4}')
    expect(page.get_by_role("status")).to_have_text("Answered.")
    expect(page.get_by_role("button", name="Send")).to_be_focused()
    answer = page.locator("main > section > div")
    expect(answer.locator("pre").first).to_have_text(HOSTILE + " \\boxed{4}")
    expect(answer.locator("dd .badge")).to_have_text("verified")
    expect(answer.locator("table")).to_contain_text("numeric")
    answer.locator("summary").click()
    expect(answer.locator("details pre")).to_contain_text('"status": "verified"')
    answer.locator("dd a").click()
    expect(page.get_by_role("heading", level=2).first).to_contain_text("Group 0")


def test_errors_are_shown_as_they_are(page: Page, gateway: GatewayProcess) -> None:
    visit(page, gateway, "playground")
    problem = page.get_by_role("alert")
    ask(page, "2 + 2", Checks="{nonsense")
    expect(problem).to_contain_text("The checks are no JSON")
    ask(page, "2 + 2", Checks='{"type": "numeric"}')
    expect(problem).to_contain_text("HTTP 400")
    expect(page.locator("main pre")).to_contain_text('"error": {')
    ask(page, "2 + 2", Checks="", Profile=PAYLOADS[1])
    expect(problem).to_contain_text("unknown_profile")
    ask(page, "refused", Profile="")
    expect(problem).to_contain_text("this prompt is refused by the engine")
    page.get_by_label("Stream").check()
    ask(page, "refused", Profile="")
    expect(problem).to_contain_text("this prompt is refused by the engine")
    page.goto(f"{gateway.url}/console#/groups/nothing")
    expect(problem).to_contain_text("group_not_found")


def test_the_scorecard_is_live_while_it_is_seen(page: Page, gateway: GatewayProcess) -> None:
    page.clock.install()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "scorecard" in request.url else None)
    page.add_init_script("Object.defineProperty(document, 'hidden', { get: () => globalThis.unseen ?? false })")
    visit(page, gateway, "scorecard")
    card = page.locator(".card", has_text="Solve rate")
    before = card.inner_text()
    checked = {"checks": [{"type": "numeric", "reference": 4}]}
    message = {"role": "user", "content": "2 + 2, live"}
    tell(gateway, "/v1/chat/completions", {"model": "champion", "messages": [message], "verification": checked})
    page.clock.fast_forward(5000)
    expect(card).not_to_have_text(before)
    expect(card).to_contain_text("95 %:")
    page.evaluate("globalThis.unseen = true")
    seen = len(asked)
    for _ in range(3):
        page.clock.fast_forward(5000)
    page.evaluate("globalThis.unseen = false")
    assert len(asked) == seen
    page.route("**/v1/scorecard", lambda route: route.abort())
    page.clock.fast_forward(5000)
    expect(page.get_by_role("alert")).to_be_visible()
    page.unroute("**/v1/scorecard")
    page.clock.fast_forward(5000)
    expect(card).to_be_visible()
    page.get_by_role("link", name="Playground").click()
    expect(page.get_by_label("Prompt")).to_be_visible()
    seen = len(asked)
    page.clock.fast_forward(20_000)
    assert len(asked) == seen


def test_groups_by_field_and_page(page: Page, gateway: GatewayProcess) -> None:
    visit(page, gateway, "groups")
    page.get_by_label("Profile").fill("careful@1")
    page.get_by_role("button", name="Filter").press("Enter")
    expect(page.locator("tbody tr")).to_have_count(len(WAITING))
    visit(page, gateway, "groups?profile=careful@1&limit=2")
    page.get_by_role("link", name="Older").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Newest").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    visit(page, gateway, f"groups/{VOTED}")
    expect(page.locator("article.sample")).to_have_count(3)
    tops = {box["y"] for each in page.locator("article.sample").all() if (box := each.bounding_box())}
    assert len(tops) == 1  # side by side
    expect(page.locator("table", has_text="Samples by answer").locator("tbody")).to_contain_text("42")


def test_reviews_by_keyboard(page: Page, gateway: GatewayProcess) -> None:
    visit(page, gateway, "reviews")
    entry = page.locator("article", has_text="careful@1").first
    waiting = page.locator("article").count()
    link = entry.get_by_role("link").get_attribute("href") or ""
    entry.locator("summary").press("Enter")
    expect(entry).to_contain_text("The answer is \\boxed{4}.")
    entry.get_by_label("Note").press_sequentially("checked by hand")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Accepted.")
    expect(page.locator("article")).to_have_count(waiting - 1)
    assert page.evaluate("document.activeElement.closest('article, h1') !== null")  # the focus is not lost
    page.locator("article", has_text="careful@1").first.get_by_role("button", name="Reject").press("Enter")
    expect(page.get_by_role("status")).to_have_text("Rejected.")
    labels = [each for _, each in read_labels(gateway.log_dir) if each and each.source is LabelSource.REVIEW]
    assert [(each.outcome, each.note) for each in labels] == [("solved", "checked by hand"), ("not_solved", None)]
    assert link.endswith(labels[0].group_id)
    page.goto(f"{gateway.url}/console{link}")
    expect(page.locator("table", has_text="checked by hand")).to_contain_text("review")
    page.get_by_role("button", name="Reject").press("Enter")
    expect(page.locator("table", has_text="checked by hand")).to_contain_text("outcome not_solved")
    expect(page.get_by_label("Note")).to_be_focused()


def test_policies_and_two_operators(page: Page, gateway: GatewayProcess) -> None:
    registry = PolicyRegistry(gateway.home / "state")
    first, second = sorted(registry.names())
    visit(page, gateway, "policies")
    status, dialog = page.get_by_role("status"), page.get_by_role("dialog")
    page.get_by_label("Share").last.fill("5")
    page.get_by_role("button", name=f"Promote {first}").press("Enter")
    expect(dialog).to_contain_text(f"Let {first} serve 5% of the champion's requests")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert registry.champion().canary is None
    page.get_by_role("button", name=f"Promote {first}").press("Enter")
    dialog.get_by_label("Reason").fill("try it")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(status).to_contain_text(f"the base model serves, and {first} as a canary for 5%")
    page.get_by_role("button", name=f"Promote {second}").click()
    dialog.get_by_role("button", name="Confirm").click()
    expect(status).to_contain_text(f"{second} serves")
    expect(page.locator("article", has_text="champion")).to_contain_text(second)
    page.get_by_role("button", name="Roll back").click()
    registry.promote(None, "the other operator was first", "other")
    dialog.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("alert")).to_contain_text("policy_conflict")
    expect(page.locator("tbody tr").first).to_contain_text("the other operator was first")
    page.get_by_role("button", name="Roll back").click()
    dialog.get_by_role("button", name="Confirm").click()
    expect(status).to_contain_text(f"{second} serves")
    assert registry.champion().policy == second
    newest = registry.history()[::-1]
    assert [entry.action.value for entry in newest[:4]] == ["rollback", "promote", "promote", "canary"]
    assert (newest[3].share, newest[3].reason) == (0.05, "try it")


def test_contrast(page: Page, gateway: GatewayProcess) -> None:
    for section in (*SECTIONS, f"groups/{STORED}"):
        visit(page, gateway, section)
        if section == "policies":
            page.get_by_role("button", name="Roll back").click()
        if section == "playground":
            ask(page, "refused")
            expect(page.get_by_role("alert")).to_be_visible()
        for dark in (False, True):
            page.emulate_media(color_scheme="dark" if dark else "light")
            found = page.evaluate(script("contrast.js"))
            worst = min(found, key=lambda each: each["ratio"])
            assert worst["ratio"] >= 4.5 and len(found) > 15, (section, worst)
            assert all((each["paper"] < 0.1) == dark for each in found if each["text"] == "thinktwice")


@pytest.mark.parametrize("section", [*SECTIONS, f"groups/{VOTED}"], ids=[*SECTIONS, "a group"])
def test_everything_is_reached_by_tab(page: Page, gateway: GatewayProcess, section: str) -> None:
    visit(page, gateway, section)
    walked = []
    for _ in range(80):
        page.keyboard.press("Tab")
        stop = page.evaluate(script("tab_stops.js"))
        if stop["tag"] == "BODY":
            break
        walked.append(stop)
    assert walked[0]["id"] == "skip" and [each["text"].lower() for each in walked[1:6]] == list(SECTIONS)
    assert all(each["ring"] for each in walked), [each for each in walked if not each["ring"]]
    assert walked[-1]["unreached"] == []
    page.locator("#skip").press("Enter")
    assert page.evaluate("document.activeElement.id") == "view"
    page.locator("nav a:not([aria-current])").last.press("Enter")
    title = "Reviews" if section == "policies" else "Policies"
    expect(page.locator("h1:focus")).to_have_text(title)
    assert page.title() == f"{title} · thinktwice"


def test_motion_only_for_those_who_want_it(browser: Browser, gateway: GatewayProcess) -> None:
    for motion, expected in (("reduce", "0s"), ("no-preference", "0.15s")):
        tab = browser.new_page(reduced_motion=motion)  # type: ignore[arg-type]
        tab.goto(f"{gateway.url}/console")
        duration = tab.locator("nav a").first.evaluate("(link) => getComputedStyle(link).transitionDuration")
        assert duration.split(",")[0] == expected
        tab.close()


def test_keys(browser: Browser, gateway: GatewayProcess) -> None:
    """The last test: from here on the gateway asks for one."""
    file = KeyFile(gateway.home / "state")
    user, admin = (file.create("acme", role)[0] for role in (Role.USER, Role.ADMIN))
    gateway.wait_for("/v1/models", 401)
    context = browser.new_context()
    tab, other = context.new_page(), context.new_page()
    tab.goto(f"{gateway.url}/console#/policies")
    problem, given = tab.get_by_role("alert"), tab.get_by_label("API key")
    expect(problem).to_contain_text("no API key was sent")
    for wrong, said in (
        ("tt_wrong", "unknown, expired or revoked"),
        ("ключ", "ISO-8859-1"),
        (user, "needs an API key of role admin"),
    ):
        given.fill(wrong)
        given.press("Enter")
        expect(problem).to_contain_text(said)
        expect(given).to_have_value("")
    given.fill(admin)
    given.press("Enter")
    expect(tab.locator("main table")).to_be_visible()
    expect(tab.locator("#key-state")).to_have_text(f"in use: {admin[:15]}")
    assert admin[20:] not in tab.content()
    assert tab.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    tab.reload()
    expect(tab.locator("main table")).to_be_visible()
    other.goto(f"{gateway.url}/console#/policies")
    expect(other.get_by_role("alert")).to_contain_text("no API key was sent")  # a tab's key is its own
    tab.get_by_role("button", name="Forget").click()
    expect(problem).to_contain_text("no API key was sent")
    expect(given).to_be_focused()
    assert tab.evaluate("sessionStorage.length") == 0
    context.close()
