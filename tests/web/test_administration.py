"""What an administrator sees and does."""

from __future__ import annotations

import csv
import json
import re

from playwright.sync_api import expect

from plaudit.feedback.records import Answer
from web.conftest import Call, Serve, Visit
from web.staging import Site, join


def rank(site: Site, id: int, *rankings: tuple[tuple[int, ...], ...]) -> None:
    for ranking in rankings:
        work = site.desk.next_task(id, ("ranking",))
        assert work is not None
        site.desk.submit(id, work.token, Answer(ranking=ranking, seconds=30.0))


def test_figures_and_people(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=4, overlap=2)
    ann, ben = (join(site.desk, name) for name in ("Ann", "<b>Ben</b>"))
    rank(site, ann, *[((0,), (1,), (2,), (3,))] * 4)
    rank(site, ben, *[((0,), (1,), (2,), (3,))] * 3)
    page = visit(site, "/admin")
    expect(page.locator("#progress")).to_contain_text("7 of 8")
    agreement = page.locator(".figure").filter(has_text=re.compile("^Agreement Two|Agreement\\s"))
    expect(agreement.first.locator(".value")).to_have_text("1.00")
    page.get_by_role("link", name="People").click()
    row = page.get_by_role("row").filter(has_text="Ann")
    expect(row).to_contain_text("30 s")
    expect(row).to_contain_text("2 min")
    expect(page.get_by_role("row").filter(has_text="<b>Ben</b>")).to_be_visible()


def test_a_dispute_that_nobody_may_decide_is_said(serve: Serve, call: Call) -> None:
    site = serve(tasks=1, overlap=2)
    site.desk.change_settings({"adjudicate_below": 0.5})
    words = "1 disputed task is one that nobody may decide"
    rank(site, join(site.desk, "Ann"), ((0,), (1,), (2,), (3,)))
    visitor = call(site)
    assert words not in visitor.get("/admin").text
    rank(site, site.desk.local_account().id, ((3,), (2,), (1,), (0,)))
    assert words in visitor.get("/admin").text
    assert words in visitor.get("/admin/progress").text


def test_settings_are_shown_changed_and_written_down(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=2)
    page = visit(site, "/admin/settings", may_complain=True)
    page.get_by_label("People per task").fill("3")
    page.get_by_label("Aspects").fill("helpful, honest,, helpful")
    page.get_by_label("Ask how much better").check()
    page.get_by_label("Cover sensitive texts").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The settings are changed.")).to_be_visible()
    now = site.desk.settings()
    assert (now.overlap, now.aspects, now.ask_strength, now.blur) == (3, ("helpful", "honest"), True, False)
    assert now.review_demonstrations
    page.get_by_label("Share of gold tasks").fill("a lot")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="'a lot' is no number")).to_be_visible()
    page.goto(f"{site.url}/admin/audit")
    expect(page.get_by_role("cell", name="local").first).to_be_visible()


def test_guidelines_are_published_and_seen(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=2)
    page = visit(site, "/admin/guidelines")
    page.get_by_label("A new version, in Markdown").fill("# Be kind\n\n<b>always</b>")
    page.get_by_role("button", name="Publish").click()
    expect(page.get_by_text("is published")).to_be_visible()
    assert site.desk.guideline().text == "# Be kind\n\n<b>always</b>\n"
    page.goto(f"{site.url}/guidelines")
    expect(page.get_by_text("Be kind")).to_be_visible()
    expect(page.get_by_text("<b>always</b>")).to_be_visible()


def test_recalled_tasks_come_again(serve: Serve, call: Call) -> None:
    site = serve(tasks=1)
    visitor = call(site)
    rank(site, site.desk.local_account().id, ((0,), (1,), (2,), (3,)))
    assert 'id="task"' not in visitor.get("/rank").text
    visitor.form("/admin/guidelines", {"text": "stricter", "recall": "1"})
    assert 'id="task"' in visitor.get("/rank").text


def test_work_is_left_out_and_counted_again(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=2)
    rank(site, join(site.desk, "Ann"), *[((0,), (1,), (2,), (3,))] * 2)
    page = visit(site, "/admin/people")
    page.get_by_text("Ann", exact=True).last.click()
    page.get_by_label("Leave the work out, because").fill("always the same")
    page.get_by_role("button", name="Leave it out").click()
    expect(page.get_by_text("left out", exact=True)).to_be_visible()
    assert site.desk.judgements() == []
    page.get_by_text("Ann", exact=True).last.click()
    page.get_by_role("button", name="Count the work again").click()
    expect(page.get_by_text("left out", exact=True)).to_have_count(0)
    assert len(site.desk.judgements()) == 2


def test_who_did_not_qualify_is_let_in(serve: Serve, call: Call) -> None:
    site = serve()
    mei = join(site.desk, "mei")
    visitor = call(site)
    site.desk.change_settings({"qualification": 2})
    site.desk.set_qualified(mei, False)
    assert "Let into the work" in visitor.get("/admin/people").text
    answer = visitor.form(f"/admin/people/{mei}", {"action": "qualified", "value": "yes"})
    assert answer.status_code == 303
    account = site.desk.account(mei)
    assert account is not None
    assert account.qualified
    assert site.desk.audit()[0].action == "qualification set"
    assert "Let into the work" not in visitor.get("/admin/people").text


def test_erasing_asks_for_the_name(serve: Serve, call: Call) -> None:
    site = serve(tasks=2)
    id = join(site.desk, "Ann")
    rank(site, id, ((0,), (1,), (2,), (3,)))
    visitor = call(site)
    refused = visitor.form(f"/admin/people/{id}", {"action": "erase", "value": "Anna"})
    assert refused.status_code == 422
    assert site.desk.account_named("Ann") is not None
    assert visitor.form(f"/admin/people/{id}", {"action": "erase", "value": "Ann"}).status_code == 303
    assert site.desk.account_named("Ann") is None
    assert "Ann" not in visitor.get("/admin/people").text
    assert len(site.desk.judgements()) == 1


def test_taking_it_home(serve: Serve, call: Call) -> None:
    site = serve(tasks=2)
    rank(site, join(site.desk, '=cmd("x")'), ((0,), (1, 2), (3,)))
    visitor = call(site)
    rows = [json.loads(line) for line in visitor.get("/admin/export/judgements.jsonl").text.splitlines()]
    assert [row["ranking"] for row in rows] == [[[0], [1, 2], [3]]]
    answer = visitor.get("/admin/people.csv")
    assert "attachment" in answer.headers["content-disposition"]
    (person,) = [row for row in csv.DictReader(answer.text.splitlines()) if row["judgements"] == "1"]
    assert (person["name"], float(person["total_seconds"])) == ('\'=cmd("x")', 30.0)  # no formula


def test_tasks_are_filtered(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=3)
    rank(site, join(site.desk, "Ann"), ((0,), (1,), (2,), (3,)))
    page = visit(site, "/admin/tasks")
    expect(page.get_by_role("row")).to_have_count(4)
    page.get_by_label("State").select_option("done")
    expect(page.get_by_role("row")).to_have_count(2)
    page.get_by_label("Kind").select_option("contest")
    expect(page.get_by_text("There are none.")).to_be_visible()
