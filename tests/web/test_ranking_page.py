"""The ranking page in a real browser: by keys, by buttons, and through everything that goes wrong on the way."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from playwright.sync_api import Page, Route, expect

from plaudit.feedback import store
from plaudit.types import Judgement
from web import project
from web.conftest import Call, Serve, Visit
from web.staging import Site, join, locked, start


def token(page: Page) -> str:
    return page.locator("#task").get_attribute("data-token") or ""


def wait_for_next(page: Page, before: str) -> None:
    expect(page.locator("#task")).not_to_have_attribute("data-token", before)


def shown(page: Page) -> list[int]:
    """Stored indices in the order of the cards."""
    return [int(card.get_attribute("data-index") or "") for card in page.locator(".card").all()]


def judged(site: Site) -> list[Judgement]:
    return site.desk.judgements()


def wait_until_judged(page: Page, site: Site, count: int) -> list[Judgement]:
    for _ in range(200):
        if len(found := judged(site)) >= count:
            return found
        page.wait_for_timeout(50)
    raise AssertionError(f"{len(judged(site))} judgements, not {count}")


UNSENT = "Object.entries(localStorage).filter(([k, v]) => k.startsWith('plaudit.unsent') && v !== '[]').length"


def settle(page: Page) -> None:
    """Until nothing is on its way."""
    for _ in range(200):
        if not page.evaluate(UNSENT):
            return
        page.wait_for_timeout(50)
    raise AssertionError("an answer has not arrived")


def test_ten_prompts_by_keys_alone(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=10)
    page = visit(site)
    orders: list[tuple[int, ...]] = []
    for number in range(10):
        before, order = token(page), shown(page)
        for digit in "2134":
            page.keyboard.press(digit)
        orders.append(tuple(order))
        page.keyboard.press("Enter")
        if number < 9:
            wait_for_next(page, before)
    found = wait_until_judged(page, site, 10)
    assert len(found) == 10
    for one, order in zip(found, orders, strict=True):
        assert one.display_order == order
        assert one.ranking == ((order[1],), (order[0],), (order[2],), (order[3],))
        assert one.seconds is not None
        assert 0 < one.seconds < 60
    expect(page.get_by_role("heading", name="All done")).to_be_visible()
    assert len({one.display_order for one in found}) > 1  # drawn anew for each


def test_a_digit_goes_on_to_the_next_unranked_card(serve: Serve, visit: Visit) -> None:
    page = visit(serve())
    submit = page.get_by_role("button", name=re.compile("^Submit"))
    expect(page.locator("#card-A")).to_be_focused()
    expect(submit).to_be_disabled()
    assert page.locator(".ranks input:checked").count() == 0
    page.keyboard.press("ArrowRight")
    page.keyboard.press("1")
    expect(page.locator("#card-C")).to_be_focused()
    page.keyboard.press("1")
    page.keyboard.press("3")
    expect(page.locator("#card-A")).to_be_focused()
    expect(submit).to_be_disabled()
    page.keyboard.press("9")
    expect(page.locator("#say")).to_have_text("Ranks go from 1 to 4.")
    page.keyboard.press("Enter")
    expect(page.locator("#say")).to_have_text("3 of 4 answers are placed.")
    page.keyboard.press("4")
    expect(submit).to_be_enabled()
    expect(page.locator("#order")).to_have_text(re.compile(r"B = C\s*D\s*A"))
    page.keyboard.press("Backspace")
    expect(page.locator("#state-A")).to_have_text("not placed")
    expect(submit).to_be_disabled()


def test_arrows_move_a_card_and_the_move_is_announced(serve: Serve, visit: Visit) -> None:
    page = visit(serve())
    page.keyboard.press("2")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#say")).to_have_text("Answer A: 1st. 3 left to place.")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator("#card-A .ranks input:checked").get_attribute("value") == "3"


def test_by_buttons_alone(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=2)
    page = visit(site)
    order = shown(page)
    for letter in "DBA":  # each takes the best place that is free
        page.get_by_role("button", name=f"Answer {letter}: better").click()
    page.get_by_role("button", name="Answer C: worse").click()
    page.get_by_role("button", name="Answer A: better").click()  # 3 -> 2: a tie with B
    page.get_by_role("button", name=re.compile("^Submit")).click()
    (one,) = wait_until_judged(page, site, 1)
    assert one.ranking == ((order[3],), tuple(sorted((order[0], order[1]))), (order[2],))


def test_ties_by_the_same_digit(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=1)
    page = visit(site)
    order = shown(page)
    for key in ("1", "1", "2", "2", "Enter"):
        page.keyboard.press(key)
    (one,) = wait_until_judged(page, site, 1)
    assert one.ranking == (tuple(sorted(order[:2])), tuple(sorted(order[2:])))


def test_the_best_and_the_worst_by_keys_and_by_mouse(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=2, ask="best_and_worst")
    page = visit(site)
    before, order = token(page), shown(page)
    submit = page.get_by_role("button", name=re.compile("^Submit"))
    expect(submit).to_be_disabled()
    expect(page.locator("#order")).to_have_text("Name the best answer and the worst.")
    page.keyboard.press("3")
    expect(page.locator("#say")).to_have_text("1 is the best, 2 the worst.")
    page.keyboard.press("1")
    expect(page.locator("#say")).to_have_text("Answer A: the best. The worst is left to name.")
    page.keyboard.press("Enter")
    expect(page.locator("#say")).to_have_text("The worst is left to name.")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("1")  # there is one best answer
    expect(page.locator("#state-A")).to_have_text("in between")
    expect(page.locator("#state-B")).to_have_text("the best")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("2")
    expect(submit).to_be_enabled()
    expect(page.locator("#order")).to_have_text(re.compile(r"B best\s*C worst"))
    page.keyboard.press("Backspace")
    expect(submit).to_be_disabled()
    page.locator("#card-D").get_by_role("radio", name="worst").check()
    page.keyboard.press("Enter")
    wait_for_next(page, before)
    settle(page)
    page.keyboard.press("u")
    page.wait_for_url("**/hand-out/*")
    state = page.locator(f".card[data-index='{order[1]}'] .state")
    expect(state).to_have_text("the best")
    (one,) = judged(site)
    between = tuple(sorted((order[0], order[2])))
    assert (one.ranking, one.unordered) == (((order[1],), between, (order[3],)), between)
    page.locator(f".card[data-index='{order[0]}']").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    settle(page)
    (one,) = judged(site)
    assert one.supersedes is not None
    assert one.ranking[0] == (order[0],)


def test_the_best_and_the_worst_without_scripts(serve: Serve, call: Call) -> None:
    site = serve(tasks=1, ask="best_and_worst")
    someone = call(site)
    page = someone.get("/rank").text
    assert page.count('value="1"') >= 4
    hand = re.search(r"/hand-out/([\w-]+)", page)
    assert hand is not None
    answer: dict[str, object] = {"rank-0": "1", "rank-1": "1", "rank-2": "4", "rank-3": "", "action": "submit"}
    refused = someone.form(f"/hand-out/{hand[1]}", answer)
    assert refused.status_code == 422
    assert "name one answer as the best and one as the worst" in refused.text
    someone.form(f"/hand-out/{hand[1]}", answer | {"rank-1": ""})
    (one,) = judged(site)
    assert (one.ranking, one.unordered) == (((0,), (1, 3), (2,)), (1, 3))


def test_skip_all_bad_and_flags_by_keys(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=3)
    page = visit(site)
    first = token(page)
    page.keyboard.press("s")
    wait_for_next(page, first)
    second = token(page)
    page.keyboard.press("x")
    page.keyboard.press("Enter")
    wait_for_next(page, second)
    for key in ("f", "Space", "Escape", "1", "2", "3", "4", "Enter"):
        page.keyboard.press(key)
    skipped, bad, flagged = wait_until_judged(page, site, 3)
    assert (skipped.flags, skipped.ranking) == (("skip",), ())
    assert (bad.flags, bad.ranking) == (("all_bad",), ())
    assert flagged.flags == ("harmful",)
    assert len(flagged.ranking) == 4


def test_an_edit_becomes_a_demonstration(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=1, review_demonstrations=False)
    page = visit(site)
    order = shown(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("e")
    field = page.get_by_label("Answer B, bettered")
    expect(field).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("1 2 sx: better")  # keys rest while one types
    page.keyboard.press("Escape")
    expect(page.locator("#card-B")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    for key in ("1", "2", "3", "4", "Enter"):
        page.keyboard.press(key)
    (one,) = wait_until_judged(page, site, 1)
    assert one.edited == {order[1]: "1 2 sx: better"}
    assert [d.response for d in site.desk.demonstrations().values()] == ["1 2 sx: better"]


LATE = """document.addEventListener("toggle", (event) => {
  if (!event.isTrusted) return;
  event.stopImmediatePropagation();
  setTimeout(() => { event.target.dispatchEvent(new Event("toggle")); window.told = true; }, 300);
}, true)"""


def test_a_browser_that_tells_late_what_was_opened_takes_no_keys_away(serve: Serve, visit: Visit) -> None:
    """By then the one who edits has left the field. Opened by the mouse, it is where one types."""
    page = visit(serve(tasks=1))
    page.evaluate(LATE)
    page.keyboard.press("e")
    page.keyboard.type("shorter")
    page.keyboard.press("Escape")
    for _ in range(200):
        if page.evaluate("window.told ?? false"):
            break
        page.wait_for_timeout(50)
    expect(page.locator("#card-A")).to_be_focused()
    page.locator("#card-B .edit summary").click()
    expect(page.get_by_label("Answer B, bettered")).to_be_focused()


def test_undo_shows_what_was_said_and_supersedes_it(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=2)
    page = visit(site)
    before, order = token(page), shown(page)
    for key in ("1", "2", "3", "4", "Enter"):
        page.keyboard.press(key)
    wait_for_next(page, before)
    settle(page)
    page.keyboard.press("u")
    page.wait_for_url("**/hand-out/*")
    assert sorted(shown(page)) == sorted(order)
    ranks = [page.locator(f".card[data-index='{i}'] .ranks input:checked").get_attribute("value") for i in order]
    assert ranks == ["1", "2", "3", "4"]
    page.locator(f".card[data-index='{order[0]}']").focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_text("This is what you said before")).to_have_count(0)
    settle(page)
    (one,) = judged(site)
    assert one.supersedes is not None
    assert one.ranking == ((order[1],), (order[2],), tuple(sorted((order[0], order[3]))))


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


def test_aspects_strength_and_rationale_where_asked(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=1, aspects=["helpful", "honest"], ask_strength=True, ask_rationale=True)
    page = visit(site)
    order = shown(page)
    for digit in "1234":
        page.keyboard.press(digit)
    page.locator("#card-A").get_by_role("group", name=re.compile("^honest")).get_by_label("5").check()
    page.get_by_label("by far").check()
    page.get_by_label("Why?").fill("It is right.")
    page.keyboard.press("Control+Enter")
    (one,) = wait_until_judged(page, site, 1)
    assert one.strength == 3.0
    assert one.rationale == "It is right."
    assert set(one.ratings) == {"honest"}
    assert one.ratings["honest"][order[0]] == 5.0
    assert [one.ratings["honest"][i] for i in order[1:]] == [None] * 3


def test_a_sensitive_text_is_covered_until_asked_for(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=0)
    site.desk.add_tasks("ranking", project.questions(1), sensitive=True)
    page = visit(site)
    expect(page.get_by_text("basil alive")).to_be_hidden()
    page.keyboard.press("1")
    assert page.locator(".ranks input:checked").count() == 0
    page.keyboard.press("v")
    expect(page.get_by_text("basil alive")).to_be_visible()
    for key in ("1", "2", "3", "4", "Enter"):
        page.keyboard.press(key)
    wait_until_judged(page, site, 1)


def test_keys_can_be_changed_and_switched_off(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=3)
    page = visit(site)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Skip").fill("k")
    page.keyboard.press("Escape")
    first = token(page)
    page.keyboard.press("s")
    page.keyboard.press("k")
    wait_for_next(page, first)
    second = token(page)
    page.get_by_role("button", name="Keys").click()
    dialog.get_by_label("Use keys").uncheck()
    page.keyboard.press("Escape")
    page.locator("#card-A").focus()
    page.keyboard.press("1")
    page.keyboard.press("k")
    assert page.locator(".ranks input:checked").count() == 0
    assert token(page) == second
    settle(page)
    assert len(judged(site)) == 1


def test_the_guidelines_are_at_hand(serve: Serve, visit: Visit) -> None:
    page = visit(serve())
    page.keyboard.press("2")
    page.keyboard.press("g")
    window = page.get_by_role("dialog", name="Guidelines")
    expect(window).to_contain_text("Helpful first.")
    expect(window).to_contain_text("Version 2")
    page.keyboard.press("1")  # nothing is ranked behind it
    page.keyboard.press("Escape")
    expect(page.locator("#card-B")).to_be_focused()
    assert page.locator(".ranks input:checked").count() == 1


@pytest.mark.parametrize("count", [2, 9])
def test_from_two_to_nine_answers(serve: Serve, visit: Visit, count: int) -> None:
    site = serve(tasks=0)
    (prompt, responses), *_ = project.questions(1)
    many = [type(responses[0])(text=f"answer {i}") for i in range(count)]
    site.desk.add_tasks("ranking", [(prompt, many)])
    page = visit(site)
    order = shown(page)
    for digit in range(1, count + 1):
        page.keyboard.press(str(digit))
    page.keyboard.press("Enter")
    (one,) = wait_until_judged(page, site, 1)
    assert one.ranking == tuple((i,) for i in order)
