"""Writing, reviewing, comparing, asking the model oneself, and plain forms where there is no script."""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from plaudit.feedback.web import Speaker
from plaudit.feedback.web.speaking import SpeakerAway
from plaudit.types import Message
from web import project
from web.conftest import Call, Serve, Visit
from web.staging import join

ECHO = """
import json, sys
how = {"temperature": 0.7, "top_p": 1.0, "max_new_tokens": 8, "stop": ["\\n"], "seed": 0}
for line in sys.stdin:
    asked = json.loads(line)
    text = asked["messages"][-1]["content"]
    if text == "die":
        sys.exit(3)
    if text == "refuse":
        print(json.dumps({"error": "too long"}), flush=True)
        continue
    print(json.dumps({
        "checkpoint": "runs/a: rlhf",
        "responses": [{"text": f"{text} {i}", "finished": True, "sampling": how} for i in range(asked["count"])],
    }), flush=True)
"""


@pytest.fixture
def echo(tmp_path: Path) -> Speaker:
    """Stands for a model: says the question again, with a number."""
    (tmp_path / "echo.py").write_text(ECHO)
    return Speaker("runs/a", command=[sys.executable, str(tmp_path / "echo.py")])


def test_two_demonstrations_are_written_and_one_reviewed(serve: Serve, visit: Visit) -> None:
    site = serve(open=False, tasks=0)
    site.desk.add_demonstration_tasks([(project.asked("Explain rainbows."), ""), (project.asked("A river?"), "Rhine.")])
    for name in ("ann", "ben"):
        join(site.desk, name)
    page = visit(site, "/write", name="ann")
    texts = {"Explain rainbows.": "Light is bent in **rain**.", "A river?": "The Rhine, from the Alps to the sea."}
    for _ in range(2):
        asked = page.locator(".turn.user .text").inner_text().strip()
        field = page.locator("#answer")
        expect(field).to_be_focused()
        assert field.input_value() == ("" if "rainbows" in asked else "Rhine.")
        field.fill(texts[asked])
        token = page.locator("#task").get_attribute("data-token") or ""
        page.keyboard.press("Control+Enter")
        expect(page.locator(f'#task[data-token="{token}"]')).to_have_count(0)
    expect(page.locator("#pause")).to_be_visible()
    assert set(site.desk.demonstrations()) == set()  # nobody has reviewed them
    page = visit(site, "/review", name="ann")
    expect(page.locator("#pause")).to_be_visible()  # one's own are not one's to review
    page = visit(site, "/review", name="ben")
    first = page.locator(".turn.user .text").inner_text().strip()
    page.keyboard.press("a")
    expect(page.locator(".turn.user .text")).not_to_have_text(first)
    second = page.locator(".turn.user .text").inner_text().strip()
    page.keyboard.press("e")
    page.get_by_label("The answer, amended").fill("Better.")
    page.keyboard.press("Escape")
    page.get_by_role("button", name=re.compile("^Accept")).click()
    expect(page.locator("#pause")).to_be_visible()
    found = {d.prompt.messages[0].content: d.response for d in site.desk.demonstrations().values()}
    assert found == {first: texts[first], second: "Better."}


def test_a_rejected_demonstration_is_no_data(serve: Serve, call: Call) -> None:
    site = serve(open=False, tasks=0)
    site.desk.add_demonstration_tasks([(project.asked("A river?"), "")])
    for name in ("ann", "ben"):
        join(site.desk, name)
    for name, place, data in (("ann", "write", {"text": "Hm."}), ("ben", "review", {"action": "reject"})):
        one = call(site, name)
        (path,) = re.findall(r'action="(/hand-out/[^"]+)"', one.get(f"/{place}").text)
        assert one.form(path, dict(data)).status_code == 303
    assert site.desk.demonstrations() == {}


def test_a_review_can_be_skipped_on_the_page(serve: Serve, call: Call) -> None:
    site = serve(open=False, tasks=0)
    site.desk.add_demonstration_tasks([(project.asked("A river?"), "")])
    for name in ("ann", "ben"):
        join(site.desk, name)
    for name, place, data in (("ann", "write", {"text": "Hm."}), ("ben", "review", {"action": "skip"})):
        one = call(site, name)
        (path,) = re.findall(r'action="(/hand-out/[^"]+)"', one.get(f"/{place}").text)
        assert one.form(path, dict(data)).status_code == 303
    assert site.desk.progress_all().demonstrations == {"proposed": 1}


def test_a_contest_is_blind(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=0)
    (prompt, responses), *_ = project.questions(1)
    pair = [type(r)(text=r.text, checkpoint=name) for r, name in zip(responses, ("old", "new"), strict=False)]
    site.desk.add_tasks("contest", [(prompt, pair)])
    page = visit(site, "/compare")
    assert not re.search(r"\b(old|new)\b", page.locator("#work").inner_text())
    assert page.locator(".card").count() == 2
    for key in ("1", "1", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#pause")).to_be_visible()
    assert site.desk.judgements() == []  # it measures checkpoints, and teaches no judge


def test_asking_the_model_and_ranking_what_it_says(serve: Serve, visit: Visit, echo: Speaker) -> None:
    site = serve(tasks=0, speaker=echo)
    page = visit(site, "/live")
    page.get_by_label("Your prompt").fill("What is **new**?\nTell me.")
    page.get_by_label("Answers").select_option("3")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#card-A")).to_be_focused()
    expect(page.locator(".card")).to_have_count(3)
    expect(page.locator(".turn.user strong")).to_have_text("new")
    for key in ("2", "1", "3", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_label("Your prompt")).to_be_visible()
    (one,) = site.desk.judgements()
    assert one.prompt.messages == (Message(role="user", content="What is **new**?\nTell me."),)
    assert [r.checkpoint for r in one.responses] == ["runs/a: rlhf"] * 3
    assert one.responses[0].sampling is not None
    assert (one.responses[0].sampling.temperature, one.responses[0].sampling.stop) == (0.7, ("\n",))


def test_without_a_model_there_is_no_live_page(serve: Serve, call: Call) -> None:
    visitor = call(serve())
    assert visitor.get("/live").status_code == 404
    assert 'href="/live"' not in visitor.get("/rank").text


def test_a_model_that_stops_is_said_and_started_again(echo: Speaker) -> None:
    asked = (Message(role="user", content="die"),)
    with pytest.raises(SpeakerAway, match="has stopped"):
        echo.answers(asked, 2)
    with pytest.raises(SpeakerAway, match="too long"):
        echo.answers((Message(role="user", content="refuse"),), 2)
    assert [r.text for r in echo.answers((Message(role="user", content="hm"),), 2)] == ["hm 0", "hm 1"]
    echo.close()


def test_the_model_is_asked_sensibly(serve: Serve, call: Call, echo: Speaker) -> None:
    visitor = call(serve(tasks=0, speaker=echo))
    for prompt, count in (("  ", "4"), ("x" * 20_001, "4"), ("a", "10"), ("a", "1"), ("a", "")):
        assert visitor.form("/live", {"prompt": prompt, "count": count}).status_code == 422
    assert visitor.form("/live", {"prompt": "die", "count": "4"}).status_code == 503


# -- plain forms ------------------------------------------------------------------------------------------------------


def test_everything_works_without_scripts(serve: Serve, visit: Visit) -> None:
    site = serve(tasks=3)
    page = visit(site, may_complain=True, java_script_enabled=False)
    page.get_by_role("button", name=re.compile("^Submit")).click()
    expect(page.get_by_role("alert")).to_contain_text("0 of 4 answers are placed")
    for letter, rank in zip("ABCD", "2114", strict=True):
        page.locator(f"#card-{letter}").get_by_label(rank, exact=True).check()
    page.get_by_role("button", name=re.compile("^Submit")).click()
    page.wait_for_url("**/rank")
    (one,) = site.desk.judgements()
    a, b, c, d = one.display_order
    assert one.ranking == (tuple(sorted((b, c))), (a,), (d,))
    assert one.edited == {}
    page.get_by_role("button", name=re.compile("^Undo")).click()
    expect(page.get_by_text("This is what you said before")).to_be_visible()
    page.get_by_role("button", name=re.compile("^Skip")).click()
    (one,) = site.desk.judgements()
    assert one.flags == ("skip",)


def ranks(*places: int) -> dict[str, object]:
    return {f"rank-{i}": str(place) for i, place in enumerate(places)}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (ranks(1, 2, 3), "3 of 4 answers are placed"),
        (ranks(1, 2, 3, 5), "from 1 to 4"),
        (ranks(1, 2, 3, -1), "from 1 to 4"),
        ({"rank-0": "1" * 5000}, "from 1 to 4"),
        ({"rank-0": "²"}, "from 1 to 4"),
        ({**ranks(1, 2, 3, 4), "strength": "1e300"}, "strength"),
        ({**ranks(1, 2, 3, 4), "rate-1-helpful": "6"}, "from 1 to 5"),
        ({**ranks(1, 2, 3, 4), "rationale": "x" * 100_001}, "at most 100000 characters"),
    ],
)
def test_an_answer_that_makes_no_sense(serve: Serve, call: Call, data: dict[str, object], words: str) -> None:
    site = serve(tasks=1, ask_strength=True, aspects=["helpful"])
    visitor = call(site)
    (path,) = re.findall(r'action="(/hand-out/[^"]+)"', visitor.get("/rank").text)
    answer = visitor.form(path, {"action": "submit", **data})
    assert answer.status_code == 422
    assert words in answer.text
    assert site.desk.judgements() == []


def test_ratings_are_of_the_aspects_that_were_on_the_page(serve: Serve, call: Call) -> None:
    site = serve(tasks=1, aspects=["helpful", "harmless"])
    visitor = call(site)
    page = visitor.get("/rank").text
    (path,) = re.findall(r'action="(/hand-out/[^"]+)"', page)
    names = re.findall(r'name="(rate-[^"]+)" value="1"', page)
    assert len(names) == 8
    # card by card the first aspect, then the second
    given = {name: ("5", "2")[place % 2] for place, name in enumerate(names)}
    changed = visitor.patch("/api/v1/admin/settings", json={"aspects": ["harmless", "honest"]})
    assert changed.status_code == 200
    answer = visitor.form(path, {"action": "submit", **ranks(1, 2, 3, 4), **given})
    assert answer.status_code == 303
    (one,) = site.desk.judgements()
    assert one.ratings == {"harmless": (2.0, 2.0, 2.0, 2.0)}


def test_an_aspect_may_be_called_anything(serve: Serve, call: Call) -> None:
    site = serve(tasks=1, aspects=['honest & "true"'])
    visitor = call(site)
    page = visitor.get("/rank").text
    (path,) = re.findall(r'action="(/hand-out/[^"]+)"', page)
    names = [html.unescape(name) for name in re.findall(r'name="(rate-[^"]+)" value="4"', page)]
    data = {"action": "submit", **ranks(1, 2, 3, 4), **dict.fromkeys(names, "4")}
    assert visitor.form(path, data).status_code == 303
    assert site.desk.judgements()[0].ratings == {'honest & "true"': (4.0, 4.0, 4.0, 4.0)}


def test_the_same_answer_twice_is_one_and_seconds_stay_sensible(serve: Serve, call: Call) -> None:
    site = serve(tasks=1)
    visitor = call(site)
    (path,) = re.findall(r'action="(/hand-out/[^"]+)"', visitor.get("/rank").text)
    for places in ((1, 2, 3, 4), (4, 3, 2, 1)):
        data = {"action": "submit", "seconds": "1e8", **ranks(*places)}
        assert visitor.form(path, data).status_code == 303
    (one,) = site.desk.judgements()
    assert one.ranking == ((0,), (1,), (2,), (3,))
    assert one.seconds == 1800
