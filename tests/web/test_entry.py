"""Who may enter, and what every answer carries: sign-in, invites, roles, forged forms, headers, limits."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from plaudit.feedback import store
from plaudit.feedback.desk import now
from plaudit.feedback.web import Auth, create_app
from plaudit.feedback.web.sessions import Limiter, Session, Signer, digest, password_fits
from web import project
from web.conftest import Call, Serve
from web.staging import PASSWORD, SECRET, Site, auth_of, join, locked


def test_here_nobody_signs_in_and_elsewhere_everybody_does(serve: Serve, call: Call) -> None:
    assert call(serve(open=True)).get("/rank").status_code == 200
    site = serve(open=False)
    answer = call(site).get("/rank")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2Frank")


def test_signing_in_and_out(serve: Serve, call: Call) -> None:
    site = serve(open=False)
    join(site.desk, "ann")
    ann = call(site, "ann")
    assert ann.get("/rank").status_code == 200
    assert ann.form("/sign-out").status_code == 303
    assert ann.get("/rank").status_code == 303


def test_a_wrong_password_and_an_unknown_name_look_alike(serve: Serve, call: Call) -> None:
    site = serve(open=False)
    join(site.desk, "ann")
    wrong, unknown = (
        call(site).form("/sign-in", {"name": name, "password": "not this one"}, of="/sign-in")
        for name in ("ann", "nan")
    )
    assert wrong.status_code == unknown.status_code == 403
    blind = re.compile(r"[0-9a-f]{64}|ann|nan")
    assert blind.sub("", wrong.text) == blind.sub("", unknown.text)


def test_guessing_is_slowed_down(serve: Serve, call: Call) -> None:
    site = serve(open=False)
    join(site.desk, "ann")
    guesser = call(site)
    codes = [
        guesser.form("/sign-in", {"name": "ann", "password": f"guess number {i}"}, of="/sign-in").status_code
        for i in range(11)
    ]
    assert codes == [403] * 10 + [429]
    right = guesser.form("/sign-in", {"name": "ann", "password": PASSWORD}, of="/sign-in")
    assert right.status_code == 429


def test_nobody_is_led_elsewhere_by_signing_in(serve: Serve, call: Call) -> None:
    site = serve(open=False)
    join(site.desk, "ann")
    for onward in ("https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example"):
        answer = call(site).form("/sign-in", {"name": "ann", "password": PASSWORD, "next": onward}, of="/sign-in")
        assert answer.headers["location"] == "/", onward


def test_an_invite_makes_one_account_of_its_role(serve: Serve, call: Call) -> None:
    site = serve(open=False)
    join(site.desk, "root", "administrator")
    page = call(site, "root").form("/admin/invites", {"role": "adjudicator"}, of="/admin/people")
    (link,) = re.findall(r"/join/[\w.~-]+", page.text)
    guest = call(site)
    short = guest.form(link, {"name": "Ana", "password": "short"}, of=link)
    assert short.status_code == 422
    assert guest.form(link, {"name": "root", "password": PASSWORD}, of=link).status_code == 422  # taken
    assert guest.form(link, {"name": "local", "password": PASSWORD}, of=link).status_code == 422
    assert guest.form(link, {"name": "Ana", "password": PASSWORD}, of=link).status_code == 303
    assert guest.get("/rank").status_code == 200
    made = site.desk.account_named("Ana")
    assert made is not None
    assert made.role == "adjudicator"
    assert call(site).form(link, {"name": "Eve", "password": PASSWORD}, of=link).status_code == 403
    assert site.desk.account_named("Eve") is None


def test_an_invite_runs_out_and_cannot_be_made_up(serve: Serve, call: Call) -> None:
    site = serve(open=False)
    signer = Signer(SECRET)
    site.desk.record_invite("old", "annotator", now() - timedelta(seconds=1))
    old = call(site)
    link = f"/join/{signer.invite('old')}"
    assert old.form(link, {"name": "Eve", "password": PASSWORD}, of=link).status_code == 403
    assert old.get("/join/made-up").status_code == 403
    # one kind of signed thing cannot stand for another
    assert old.get(f"/join/{signer.cookie(Session())}").status_code == 403
    assert site.desk.account_named("Eve") is None


def test_a_new_password_ends_other_sessions_and_the_link_works_once(serve: Serve, call: Call) -> None:
    site = serve(open=False)
    join(site.desk, "root", "administrator")
    id = join(site.desk, "ann")
    before = call(site, "ann")
    page = call(site, "root").form(f"/admin/people/{id}", {"action": "reset"}, of="/admin/people")
    (link,) = re.findall(r"/reset/[\w.~-]+", page.text)
    again = call(site)
    assert again.form(link, {"password": "eight blue kites"}, of=link).status_code == 303
    assert again.get("/rank").status_code == 200
    assert before.get("/rank").status_code == 303
    assert call(site).get(link).status_code == 403
    assert password_fits("eight blue kites", site.desk.password_hash(id))


def test_a_locked_account_is_out_at_once(serve: Serve, call: Call) -> None:
    site = serve(open=False)
    join(site.desk, "root", "administrator")
    id = join(site.desk, "ann")
    ann = call(site, "ann")
    assert ann.get("/rank").status_code == 200
    call(site, "root").form(f"/admin/people/{id}", {"action": "active", "value": "no"}, of="/admin/people")
    assert ann.get("/rank").status_code == 303


ADMINISTRATION = ["", "/people", "/people.csv", "/tasks", "/guidelines", "/settings", "/export", "/audit"]
ADMINISTRATION += ["/progress", "/export/judgements.jsonl", "/export/demonstrations.jsonl"]


@pytest.mark.parametrize("path", ADMINISTRATION)
def test_administration_is_for_administrators(serve: Serve, call: Call, path: str) -> None:
    site = serve(open=False)
    join(site.desk, "ann")
    join(site.desk, "root", "administrator")
    assert call(site).get(f"/admin{path}").status_code == 303
    assert call(site, "ann").get(f"/admin{path}").status_code == 403
    assert call(site, "root").get(f"/admin{path}").status_code == 200


def test_an_annotator_sees_his_own_work_alone(serve: Serve, call: Call) -> None:
    site = serve(open=False)
    for name in ("ann", "ben"):
        join(site.desk, name)
    ann, ben = call(site, "ann"), call(site, "ben")
    (token,) = re.findall(r'data-token="([^"]+)"', ann.get("/rank").text)
    assert ben.get(f"/hand-out/{token}").status_code == 403
    ranks = {f"rank-{i}": "1" for i in range(4)}
    assert ben.form(f"/hand-out/{token}", {"action": "submit", **ranks}).status_code == 403
    assert ben.get(f"/rank/next?after={token}").status_code == 403
    assert site.desk.judgements() == []


def test_nobody_raises_himself(serve: Serve, call: Call) -> None:
    site = serve(open=False)
    id = join(site.desk, "ann")
    ann = call(site, "ann")
    assert ann.form(f"/admin/people/{id}", {"action": "role", "value": "administrator"}).status_code == 403
    account = site.desk.account(id)
    assert account is not None
    assert account.role == "annotator"


# -- forged requests --------------------------------------------------------------------------------------------------


def unsafe_pages(site: Site) -> list[str]:
    """Every path of the page that takes a POST."""
    app = create_app(site.desk, auth=auth_of(1, open=True))
    paths: list[str] = []
    for router in app.router.routes:
        for route in getattr(getattr(router, "original_router", None), "routes", [router]):
            if isinstance(route, APIRoute) and "POST" in (route.methods or ()) and not route.path.startswith("/api"):
                paths.append(re.sub(r"{\w+}", "1", route.path))
    return paths


def test_every_form_needs_its_token(serve: Serve, call: Call) -> None:
    site = serve(open=True)
    visitor = call(site)
    visitor.get("/rank")
    paths = unsafe_pages(site)
    assert {"/hand-out/1", "/undo", "/live", "/admin/settings", "/account/tokens"} <= set(paths)
    for path in paths:
        assert visitor.post(path, data={}).status_code == 403, path
        assert visitor.post(path, data={"csrf": "0" * 64}).status_code == 403, path
    # the token of one browser is worth nothing in another
    token = re.findall(r'data-csrf="(\w+)"', call(site).get("/rank").text)[0]
    assert visitor.post("/undo", data={"csrf": token}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}],
    ids=["origin", "null", "fetch"],
)
def test_what_another_site_sends_is_refused(serve: Serve, call: Call, headers: dict[str, str]) -> None:
    site = serve(open=True)
    visitor = call(site)
    token = re.findall(r'data-csrf="(\w+)"', visitor.get("/rank").text)[0]
    assert visitor.post("/undo", data={"csrf": token}, headers=headers).status_code == 403
    assert visitor.post("/api/v1/undo", headers=headers).status_code == 403
    assert visitor.post("/undo", data={"csrf": token}, headers={"origin": site.url}).status_code == 303


def test_a_proxy_may_hand_on_either_name(tmp_path: Path) -> None:
    """Some proxies keep the name that people use, some put in the server's own; forms come through both."""
    url = "https://label.example.org"
    auth = Auth(secret=SECRET, open=False, url=url, hosts=frozenset({"127.0.0.1", "label.example.org"}))
    with TestClient(create_app(project.desk_of(tmp_path), auth=auth), base_url=url) as browser:
        page = browser.get("/sign-in")
        cookie = page.headers["set-cookie"]
        assert cookie.startswith("__Host-plaudit=")
        assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
        assert "strict-transport-security" in page.headers
        form = {"csrf": re.findall(r'data-csrf="(\w+)"', page.text)[0], "name": "ann", "password": "no such"}
        for name in ("label.example.org", "127.0.0.1:8400"):
            answer = browser.post("/sign-in", data=form, headers={"host": name, "origin": url})
            assert "do not go together" in answer.text, name
            elsewhere = browser.post("/sign-in", data=form, headers={"host": name, "origin": "https://evil.example"})
            assert elsewhere.status_code == 403


def test_another_name_for_this_address_is_refused(serve: Serve, call: Call) -> None:
    """DNS rebinding: a stranger's name that points here."""
    visitor = call(serve(open=True))
    assert visitor.get("/rank", headers={"host": "evil.example"}).status_code == 421
    assert visitor.get("/api/v1/me", headers={"host": "evil.example:80"}).status_code == 421
    assert visitor.get("/rank", headers={"host": "localhost:1"}).status_code == 200


def test_behind_a_proxy_nobody_is_let_in_unasked(serve: Serve, call: Call) -> None:
    answer = call(serve(open=True)).get("/rank", headers={"x-forwarded-for": "203.0.113.9"})
    assert answer.status_code == 403
    assert "--url" in answer.text


def test_the_headers_of_every_answer(serve: Serve, call: Call) -> None:
    visitor = call(serve(open=True))
    static = re.findall(r"/static/\w+/\w+\.css", visitor.get("/rank").text)[0]
    for path in ("/rank", "/guidelines", "/nothing", "/api/v1/me", static, "/healthz"):
        headers = visitor.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert ("no-store" in headers["cache-control"]) == (path != static)


def test_there_is_no_inline_script_or_style(serve: Serve, call: Call) -> None:
    visitor = call(serve(open=True))
    for path in ("/rank", "/account", *(f"/admin{p}" for p in ADMINISTRATION[:1] + ADMINISTRATION[3:8])):
        page = visitor.get(path).text
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page), path
        assert re.findall(r"<script(?![^>]*\bsrc=)", page) == [], path


def test_cookies_are_for_this_page_alone() -> None:
    for url, secure in (("http://127.0.0.1:1", False), ("https://label.example.org", True)):
        auth = auth_of(1, open=False)
        auth = type(auth)(secret=SECRET, open=False, url=url, hosts=auth.hosts | {"label.example.org"})
        assert auth.secure is secure
        assert auth.cookie.startswith("__Host-") is secure


def test_a_fault_of_ours_shows_no_traceback(serve: Serve, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    site = serve(open=True)
    visitor = call(site)

    def broken(*_: object) -> None:
        raise RuntimeError("secret words")

    monkeypatch.setattr(site.desk, "next_task", broken)
    for path, kind in (("/rank", "text/html"), ("/api/v1/me", "application/json")):
        if path != "/rank":
            monkeypatch.setattr(site.desk, "local_account", broken)
        answer = visitor.get(path)
        assert answer.status_code == 500
        assert answer.headers["content-type"].startswith(kind)
        assert "secret words" not in answer.text
        assert "Traceback" not in answer.text
        assert "content-security-policy" in answer.headers


def test_a_store_that_takes_nothing_is_no_fault_of_what_was_sent(
    serve: Serve, call: Call, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store, "SECONDS_TO_WAIT", 0.1)
    site = serve(open=True)
    visitor = call(site)
    page = visitor.get("/rank").text
    (token,) = re.findall(r'data-token="([^"]+)"', page)
    (csrf,) = re.findall(r'data-csrf="([0-9a-f]+)"', page)
    said = {"csrf": csrf, "action": "submit"} | {f"rank-{i}": str(i + 1) for i in range(4)}
    with locked(site.desk.store.name):
        for accept in ("application/json", "text/html"):
            answer = visitor.post(f"/hand-out/{token}", data=said, headers={"accept": accept})
            assert answer.status_code == 503
            assert "Nothing was written down" in answer.text
            assert "feedback.db" not in answer.text
            assert "lock" not in answer.text
    assert "feedback.db: nothing was written (database is locked)" in caplog.text
    assert visitor.post(f"/hand-out/{token}", data=said).status_code == 303
    assert len(site.desk.judgements()) == 1


def test_too_much_is_refused(serve: Serve, call: Call) -> None:
    visitor = call(serve(open=True))
    assert visitor.post("/undo", content=b"x" * (2 << 20 | 1)).status_code == 413
    with httpx.Client(base_url=visitor.base_url) as raw:
        assert raw.post("/undo", content=iter([b"x", b"y"])).status_code == 413  # of unknown length


def test_a_bucket_fills_again() -> None:
    clock = [0.0]
    limiter = Limiter(per_second=2, burst=3, clock=lambda: clock[0])
    assert [limiter.spend("a") for _ in range(4)] == [True, True, True, False]
    assert limiter.spend("b")
    clock[0] = 0.5
    assert [limiter.spend("a") for _ in range(2)] == [True, False]
    clock[0] = 100
    assert limiter.left("a") == 3


def test_tokens_are_kept_hashed(serve: Serve, call: Call) -> None:
    site = serve(open=False)
    id = join(site.desk, "ann")
    page = call(site, "ann").form("/account/tokens", {"label": "script"}, of="/account")
    (token,) = re.findall(r"plaudit_[\w-]+", page.text)
    ((kept, label, _),) = site.desk.api_tokens(id)
    assert (kept, label) == (digest(token), "script")
    assert token not in kept
