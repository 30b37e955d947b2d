"""The ranking page in a real browser: by keys and by buttons."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from web import project
from web.conftest import Call, Serve, Visit
from web.ranking import judged, settle, shown, token, wait_for_next, wait_until_judged


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
