"""The ranking page in a real browser when lines, servers, stores and other people come in between: nothing is lost."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from playwright.sync_api import Route, expect

from plaudit.feedback import store
from web.conftest import Call, Serve, Visit
from web.ranking import UNSENT, judged, settle, token, wait_for_next, wait_until_judged
from web.staging import join, locked, start


def test_two_people_at_once_get_different_tasks(serve: Serve, visit: Visit) -> None:
    site = serve(open=False, tasks=4)
    for name in ("ann", "ben"):
        join(site.desk, name)
    pages = [visit(site, name=name) for name in ("ann", "ben")]
    for page in pages:
        for key in ("1", "2", "3", "4", "Enter"):
            page.keyboard.press(key)
    found = wait_until_judged(pages[0], site, 2)
    assert len({one.prompt.id for one in found}) == 2
    assert len({one.annotator for one in found}) == 2
    for page in pages:
        expect(page.locator("[data-pace=done]")).to_have_text("1")


def test_a_double_click_and_a_reload_give_one_judgement(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=3)
    page = visit(site)
    before = token(page)
    for key in "1234":
        page.keyboard.press(key)
    page.get_by_role("button", name=re.compile("^Submit")).dblclick()
    wait_for_next(page, before)
    page.reload()
    settle(page)
    assert len(judged(site)) == 1
    expect(page.locator("#task")).to_be_visible()
    assert token(page) != before


def test_a_reload_keeps_what_was_begun(serve: Serve, visit: Visit) -> None:
    page = visit(serve())
    before = token(page)
    page.keyboard.press("3")
    page.keyboard.press("1")
    page.reload()
    assert token(page) == before
    expect(page.locator("#card-A .ranks input:checked")).to_have_attribute("value", "3")
    expect(page.locator("#card-C")).to_be_focused()


def test_offline_and_back(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=4)
    page = visit(site, may_complain=True)
    page.wait_for_load_state("networkidle")  # the next task is here
    page.context.set_offline(True)
    before = token(page)
    for key in ("1", "2", "3", "4", "Enter"):
        page.keyboard.press(key)
    wait_for_next(page, before)  # it was fetched ahead
    for key in ("4", "3", "2", "1", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("heading", name="Waiting for the server")).to_be_visible()
    expect(page.locator("#unsent")).to_contain_text("2 answers are kept")
    assert judged(site) == []
    page.context.set_offline(False)
    expect(page.locator("#task")).to_be_visible()
    settle(page)
    found = judged(site)
    assert len(found) == 2
    assert len({one.prompt.id for one in found}) == 2


def test_the_server_goes_away_and_comes_back(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=3)
    page = visit(site, may_complain=True)
    page.wait_for_load_state("networkidle")
    before = token(page)
    port = int(site.url.rpartition(":")[2])
    site.stop()
    for key in ("1", "2", "3", "4", "Enter"):
        page.keyboard.press(key)
    wait_for_next(page, before)
    again = start(site.desk, open=True, port=port)
    try:
        assert len(wait_until_judged(page, site, 1)) == 1
    finally:
        again.stop()


def test_an_answer_is_kept_while_the_store_takes_nothing(
    serve: Serve, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SECONDS_TO_WAIT", 0.1)
    site = serve(tasks=3)
    page = visit(site, may_complain=True)
    page.wait_for_load_state("networkidle")
    before = token(page)
    with locked(site.desk.store.name):
        with page.expect_response(f"**/hand-out/{before}") as refused:
            for key in ("1", "2", "3", "4", "Enter"):
                page.keyboard.press(key)
        assert refused.value.status == 503
        wait_for_next(page, before)
        assert page.evaluate(UNSENT) == 1
    assert len(wait_until_judged(page, site, 1)) == 1
    settle(page)


def test_an_answer_is_kept_whatever_stands_in_between(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=3)
    page = visit(site, may_complain=True)
    page.wait_for_load_state("networkidle")
    said = [
        {"status": 404, "content_type": "text/html", "body": "<h1>no such backend</h1>"},
        {"status": 400, "content_type": "application/json", "body": '{"error": "a fault of the server"}'},
    ]
    refusals = iter(said)

    def in_between(route: Route) -> None:
        refusal = next(refusals, None)
        if refusal is None:
            route.continue_()
        else:
            route.fulfill(**refusal)

    page.route("**/hand-out/*", in_between)
    for key in ("1", "2", "3", "4", "Enter"):
        page.keyboard.press(key)
    assert len(wait_until_judged(page, site, 1)) == 1
    assert next(refusals, None) is None
    settle(page)


def test_answers_arrive_though_the_browser_keeps_nothing_more(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=3)
    page = visit(site)
    for key in ("1", "2", "3", "4", "Enter"):
        page.keyboard.press(key)
    wait_until_judged(page, site, 1)
    settle(page)  # an empty shelf is what the browser still holds when it is full
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError'); }; }")
    before = token(page)
    for key in ("4", "3", "2", "1", "Enter"):
        page.keyboard.press(key)
    wait_for_next(page, before)
    assert len(wait_until_judged(page, site, 2)) == 2


def test_a_lease_that_ran_out_and_was_given_away(serve: Serve, visit: Visit, call: Call) -> None:
    site = serve(open=False, tasks=1)
    for name in ("ann", "ben"):
        join(site.desk, name)
    page = visit(site, name="ann", may_complain=True)
    first = token(page)
    page.wait_for_load_state("networkidle")  # what her page asks for in advance would take the task once more
    real = site.desk.clock
    site.desk.clock = lambda: real() + timedelta(hours=2)
    ben = call(site, "ben")
    (other,) = re.findall(r'data-token="([^"]+)"', ben.get("/rank").text)
    assert other != first
    ranks = {f"rank-{i}": str(i + 1) for i in range(4)}
    assert ben.form(f"/hand-out/{other}", {"action": "submit", **ranks}).status_code == 303
    for key in ("1", "2", "3", "4", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#toasts")).to_contain_text("One answer was not taken")
    assert len(judged(site)) == 1
