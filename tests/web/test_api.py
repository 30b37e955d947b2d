"""The JSON API: the same work for programs, by the same rights."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from plaudit.feedback.records import Role
from plaudit.feedback.web.sessions import digest, new_token
from web import project
from web.conftest import Serve
from web.staging import Site, join


def client(site: Site, id: int | None) -> httpx.Client:
    headers: dict[str, str] = {}
    if id is not None:
        token = new_token()
        site.desk.add_api_token(id, digest(token), "test")
        headers["authorization"] = f"Bearer {token}"
    return httpx.Client(base_url=f"{site.url}/api/v1", headers=headers, timeout=30)


@pytest.fixture
def site(serve: Serve) -> Site:
    return serve(open=False, tasks=4)


def person(site: Site, name: str, role: Role = "annotator") -> httpx.Client:
    return client(site, join(site.desk, name, role))


def test_a_task_is_taken_answered_and_taken_back(site: Site) -> None:
    with person(site, "ann") as ann:
        assert ann.get("/me").json()["role"] == "annotator"
        task: dict[str, Any] = ann.post("/tasks/next").json()
        assert ann.post("/tasks/next").json()["token"] == task["token"]
        assert ann.get(f"/tasks/{task['token']}").json() == task
        assert sorted(task["display_order"]) == [0, 1, 2, 3]
        assert len(task["responses"]) == 4
        answer = {"ranking": [[2], [0, 1], [3]], "seconds": 12.5, "edited": {"1": "better"}}
        kept = ann.put(f"/tasks/{task['token']}/answer", json=answer).json()
        again = ann.put(f"/tasks/{task['token']}/answer", json={"ranking": [[0], [1], [2], [3]]}).json()
        assert kept == again
        (one,) = site.desk.judgements()
        assert (one.id, one.ranking, one.seconds) == (kept["judgement"], ((2,), (0, 1), (3,)), 12.5)
        assert one.edited == {1: "better"}
        assert ann.get("/progress").json()["done"] == 1
        back = ann.post("/undo").json()
        assert back["messages"] == task["messages"]
        assert ann.put(f"/tasks/{back['token']}/answer", json={"flags": ["skip"]}).status_code == 200
        (one,) = site.desk.judgements()
        assert (one.flags, one.supersedes) == (("skip",), kept["judgement"])


def test_a_program_is_told_what_is_asked(serve: Serve) -> None:
    whole, ends = serve(open=False, tasks=1), serve(open=False, tasks=1, ask="best_and_worst")
    with person(whole, "ann") as ann:
        assert ann.post("/tasks/next").json()["ask"] == "ranking"
    with person(ends, "ben") as ben:
        task: dict[str, Any] = ben.post("/tasks/next").json()
        assert task["ask"] == "best_and_worst"
        answer = {"ranking": [[2], [0, 1], [3]], "unordered": [0, 1]}
        assert ben.put(f"/tasks/{task['token']}/answer", json=answer).status_code == 200
    (one,) = ends.desk.judgements()
    assert (one.ranking, one.unordered) == (((2,), (0, 1), (3,)), (0, 1))


def test_a_released_task_is_there_for_others(site: Site) -> None:
    with person(site, "ann") as ann, person(site, "ben") as ben:
        token = ann.post("/tasks/next").json()["token"]
        assert ben.get(f"/tasks/{token}").status_code == 403
        assert ben.post(f"/tasks/{token}/release").status_code == 403
        assert ann.post(f"/tasks/{token}/release").status_code == 204
        assert ann.get(f"/tasks/{token}").status_code == 409


def test_nothing_left_is_no_content(serve: Serve) -> None:
    site = serve(open=False, tasks=0)
    with person(site, "ann") as ann:
        assert ann.post("/tasks/next", params={"kind": "ranking"}).status_code == 204
        assert ann.post("/undo").status_code == 204


@pytest.mark.parametrize(
    "answer",
    [
        {"ranking": [[0], [1], [2]]},
        {"ranking": [[0], [0], [1], [2], [3]]},
        {"ranking": [[0, 1, 2, 7]]},
        {},
        {"rankings": []},
        {"ranking": [[0], [1], [2], [3]], "seconds": -1},
        {"ranking": [[0], [1], [2], [3]], "flags": ["lovely"]},
        {"ranking": [[0], [1], [2], [3]], "strength": "much"},
    ],
)
def test_an_answer_that_makes_no_sense(site: Site, answer: dict[str, Any]) -> None:
    with person(site, "ann") as ann:
        token = ann.post("/tasks/next").json()["token"]
        refused = ann.put(f"/tasks/{token}/answer", json=answer)
        assert refused.status_code == 422
        assert refused.json()["error"]
        assert site.desk.judgements() == []


def test_who_may_do_what(site: Site) -> None:
    administration = ["progress", "figures", "tasks", "settings", "export/judgements", "audit"]
    id = join(site.desk, "ann")
    with client(site, None) as nobody, client(site, id) as ann, person(site, "root", "administrator") as root:
        for path in ("/me", "/progress", "/guidelines", *(f"/admin/{name}" for name in administration)):
            refused = nobody.get(path)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer"), path
        for name in administration:
            assert ann.get(f"/admin/{name}").status_code == 403
            assert root.get(f"/admin/{name}").status_code == 200
        assert ann.patch("/admin/settings", json={"overlap": 2}).status_code == 403
        assert ann.post("/admin/guidelines", json={"text": "mine"}).status_code == 403
        assert ann.post("/admin/invites", json={"role": "administrator"}).status_code == 403
        site.desk.set_active(id, False)
        assert ann.get("/me").status_code == 401


def test_a_token_is_no_cookie_and_a_cookie_no_token(site: Site) -> None:
    with person(site, "root", "administrator") as root:
        page = httpx.get(f"{site.url}/admin", headers=root.headers)
        assert page.status_code == 303


def test_administration(site: Site) -> None:
    with person(site, "root", "administrator") as root:
        assert root.patch("/admin/settings", json={"overlap": 2, "aspects": ["kind"]}).json()["overlap"] == 2
        assert site.desk.settings().aspects == ("kind",)
        wrong = root.patch("/admin/settings", json={"overlaps": 2})
        assert (wrong.status_code, "overlaps" in wrong.json()["error"]) == (422, True)
        assert root.patch("/admin/settings", json={"overlap": -1}).status_code == 422
        for aspects in (3, "kind", [3], None):
            wrong = root.patch("/admin/settings", json={"aspects": aspects})
            assert (wrong.status_code, "aspects" in wrong.json()["error"]) == (422, True)
        made = root.post("/admin/guidelines", json={"text": "# New\n"})
        assert made.status_code == 201
        assert site.desk.guideline().text == "# New\n"
        assert root.post("/admin/invites", json={"role": "annotator"}).json()["link"].startswith(f"{site.url}/join/")
        actions = [row["action"] for row in root.get("/admin/audit").json()]
        assert {"invited", "settings changed", "guidelines published"} & set(actions)


def test_the_export_is_what_stands(site: Site) -> None:
    with person(site, "ann") as ann, person(site, "root", "administrator") as root:
        for ranking in ([[0], [1], [2], [3]], [[3], [2], [0, 1]]):
            token = ann.post("/tasks/next").json()["token"]
            ann.put(f"/tasks/{token}/answer", json={"ranking": ranking})
        rows = [json.loads(line) for line in root.get("/admin/export/judgements").text.splitlines()]
        assert [row["ranking"] for row in rows] == [[[0], [1], [2], [3]], [[3], [2], [0, 1]]]
        assert root.get("/admin/export/passwords").status_code == 422


def test_no_fields_of_the_task_tell_gold_from_work(site: Site) -> None:
    (prompt, responses), *_ = project.questions(9)[8:]
    site.desk.add_gold([(prompt, responses, ((0,), (1, 2, 3)))])
    with person(site, "ann") as ann:
        seen = []
        while (answer := ann.post("/tasks/next")).status_code == 200:
            task = answer.json()
            seen.append(set(task))
            ann.put(f"/tasks/{task['token']}/answer", json={"ranking": [[0], [1], [2], [3]]})
    assert seen
    assert all(fields == seen[0] for fields in seen)
    assert not {"gold", "repeat", "purpose"} & seen[0]
