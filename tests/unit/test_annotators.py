"""Annotators that are no people: a reward with noise, and a model behind a real HTTP server."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import tiny
from plaudit.data.formats import prompt_of, read_log
from plaudit.feedback.annotators.endpoint import Endpoint, EndpointError, SpendingLimit, parse_ranking
from plaudit.feedback.annotators.stand_in import StandIn, stand_ins
from plaudit.feedback.collect import collect_judgements
from plaudit.rounds import run_act
from plaudit.types import InputError, Response

PROMPT = prompt_of("why ?")


def said(*texts: str) -> list[Response]:
    return [Response(text=text) for text in texts]


# -- a reward -------------------------------------------------------------------------------------------------------


def test_a_stand_in_prefers_by_bradley_terry() -> None:
    """Two yeses against one at temperature 0.7: sigmoid(1 / 0.7) = 0.807."""
    judge = StandIn(name="r", reward=tiny.count_yes(), temperature=0.7)
    wins = sum(judge.judge(PROMPT, said("yes yes", "yes"), seed=n).ranking == ((0,), (1,)) for n in range(4000))
    assert wins / 4000 == pytest.approx(0.807, abs=0.02)  # three deviations of 4,000 draws


def test_a_stand_in_is_repeatable_and_ties_equal_texts() -> None:
    judge = StandIn(name="r", reward=tiny.count_yes(), temperature=1.0)
    one = judge.judge(PROMPT, said("yes", "no", "yes"), seed=1)
    assert one == judge.judge(PROMPT, said("yes", "no", "yes"), seed=1)
    assert one.ranking in (((0, 2), (1,)), ((1,), (0, 2)))
    assert one.objective == "yes"
    assert one.annotator == "r"
    with pytest.raises(InputError, match="score of a response"):
        StandIn(name="r", reward=tiny.not_a_number()).judge(PROMPT, said("a", "b"), seed=1)


def test_stand_ins_err_independently() -> None:
    first, second = stand_ins(tiny.count_yes(), "r", count=2, temperature=5.0, seed=0)
    texts = said("yes", "no")
    same = sum(
        first.judge(PROMPT, texts, seed=n).ranking == second.judge(PROMPT, texts, seed=n).ranking for n in range(200)
    )
    assert 0.35 < same / 200 < 0.65  # each takes the better with sigmoid(1 / 5) = .55, so half of the time they agree


def test_a_run_with_a_stand_in(tmp_path: Path, tiny_folder: Path) -> None:
    feedback = {
        "annotators": "stand_in",
        "judgements_per_prompt": 2,
        "stand_in": {"reward": "tiny:count_yes", "temperature": 0.1},
    }
    recipe = tiny.recipe(tmp_path, tiny_folder, feedback=feedback)
    for act in ("sft", "sample", "reward"):
        folder = run_act(recipe, act, quiet=True)
    result = json.loads((folder / "manifest.json").read_text())["result"]
    assert result["judgements_by"] == "the reward tiny:count_yes, with noise"
    made = read_log(folder.parents[1] / "judgements.jsonl")[0]
    assert {one.annotator for one in made} == {"tiny:count_yes 1", "tiny:count_yes 2"}


def test_a_judge_learns_from_what_annotators_say_as_they_are_set_now(tmp_path: Path, tiny_folder: Path) -> None:
    """The log keeps what they said at another temperature, under the same names."""
    learned: list[set[str]] = []
    for temperature in (0.1, 9.0, 0.1):
        stand_in = {"reward": "tiny:count_yes", "temperature": temperature}
        recipe = tiny.recipe(tmp_path, tiny_folder, feedback={"annotators": "stand_in", "stand_in": stand_in})
        for act in ("sft", "sample", "reward"):
            folder = run_act(recipe, act, quiet=True)
        learned.append(set(json.loads((folder / "manifest.json").read_text())["labels"]["judgements"]))
        log = read_log(folder.parents[1] / "judgements.jsonl")[0]
        (now,) = stand_ins(tiny.count_yes(), "tiny:count_yes", count=1, temperature=temperature, seed=recipe.seed)
        says = {now.judge(one.prompt, one.responses, seed=recipe.seed).id for one in log}
        decided = {one.id for one in log if len(one.ranking) > 1}
        assert learned[-1] == says & decided
    assert learned[0] == learned[2] != learned[1]
    assert learned[0] | learned[1] == decided


def test_a_judge_is_not_trained_on_what_other_settings_asked_for(tmp_path: Path, tiny_folder: Path) -> None:
    recipe = tiny.recipe(tmp_path, tiny_folder)
    for act in ("sft", "sample"):
        run_act(recipe, act, quiet=True)
    for feedback in ({"judgements_per_prompt": 2}, {"queue": {"quota": 3}}):
        other = tiny.recipe(tmp_path, tiny_folder, feedback=feedback)
        with pytest.raises(InputError, match="round 0 were made under other settings of `feedback`"):
            run_act(other, "reward", quiet=True)
        run_act(other, "sample", quiet=True)
        run_act(other, "reward", quiet=True)


# -- an endpoint ----------------------------------------------------------------------------------------------------

Reply = Callable[[dict[str, Any]], tuple[int, dict[str, str], Any]]


class Server:
    """An OpenAI-compatible endpoint whose answers a test sets."""

    def __init__(self) -> None:
        self.reply: Reply = longest_wins
        self.requests: list[tuple[dict[str, Any], str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append((body, self.headers.get("Authorization", "")))
                assert self.path == "/v1/chat/completions"
                status, headers, answer = server.reply(body)
                data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def answers_in(body: dict[str, Any]) -> list[str]:
    return re.findall(r"Answer \d+:\n(.*?)(?=\n\nAnswer|\Z)", body["messages"][0]["content"], re.DOTALL)


def words(ranking: Any, usage: tuple[int, int] = (100, 10)) -> dict[str, Any]:
    content = f"Let me think [1, 2].\n```json\n{json.dumps({'ranking': ranking})}\n```"
    return {
        "choices": [{"message": {"role": "assistant", "content": content}}],
        "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]},
    }


def longest_wins(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    texts = answers_in(body)
    lengths = sorted({len(text) for text in texts}, reverse=True)
    return 200, {}, words([[i for i, text in enumerate(texts, 1) if len(text) == length] for length in lengths])


def first_wins(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    return 200, {}, words([[number] for number in range(1, len(answers_in(body)) + 1)])


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def judge(server: Server, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    monkeypatch.setenv("JUDGE_KEY", "s3cret")
    return Endpoint(url=server.url, model="judge-1", key_variable="JUDGE_KEY", retries=3, sleep=waits.append, timeout=5)


def test_it_is_asked_in_both_orders(judge: Endpoint, server: Server) -> None:
    made = judge.judge(PROMPT, said("a", "ccc", "bb", "dd"), seed=0)
    assert made.ranking == ((1,), (2, 3), (0,))
    assert made.annotator == "judge-1"
    orders = [answers_in(body) for body, _ in server.requests]
    assert orders == [["a", "ccc", "bb", "dd"], ["dd", "bb", "ccc", "a"]]
    assert all(key == "Bearer s3cret" for _, key in server.requests)
    assert all(body["model"] == "judge-1" and "why ?" in body["messages"][0]["content"] for body, _ in server.requests)


def test_what_it_takes_back_in_the_other_order_is_a_tie(judge: Endpoint, server: Server) -> None:
    server.reply = first_wins
    assert judge.judge(PROMPT, said("a", "b"), seed=0).ranking == ((0, 1),)
    assert judge.judge(PROMPT, said("a", "b", "c"), seed=0).ranking == ((0, 1, 2),)


def test_it_is_asked_again_after_a_while(judge: Endpoint, server: Server, waits: list[float]) -> None:
    troubles = iter([(503, {}, "busy"), (429, {"Retry-After": "7"}, "slow down")])

    def reply(body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        return next(troubles, None) or longest_wins(body)

    server.reply = reply
    assert judge.judge(PROMPT, said("a", "bb"), seed=0).ranking == ((1,), (0,))
    assert waits == [1.0, 7.0]  # the second as it was asked to, for 2 are less


def test_when_it_is_away(judge: Endpoint, server: Server, waits: list[float]) -> None:
    server.reply = lambda body: (500, {}, "oh no")
    with pytest.raises(EndpointError, match=r"is away \(HTTP 500, 4 tries\); run the same again"):
        judge.judge(PROMPT, said("a", "bb"), seed=0)
    assert waits == [1.0, 2.0, 4.0]
    nobody = replace(judge, url="http://127.0.0.1:9/v1")
    with pytest.raises(EndpointError, match="ConnectError"):
        nobody.judge(PROMPT, said("a", "bb"), seed=0)


def test_a_wrong_key_is_said_and_not_shown(judge: Endpoint, server: Server, waits: list[float]) -> None:
    server.reply = lambda body: (401, {}, "no")
    with pytest.raises(InputError, match="refuses the key in JUDGE_KEY") as error:
        judge.judge(PROMPT, said("a", "bb"), seed=0)
    assert waits == []
    assert "s3cret" not in str(error.value) + repr(judge)
    server.reply = lambda body: (404, {}, "no such model")
    with pytest.raises(EndpointError, match="no such model"):
        judge.judge(PROMPT, said("a", "bb"), seed=0)


def test_words_without_a_ranking(judge: Endpoint, server: Server) -> None:
    server.reply = lambda body: (200, {}, words([[1], [1]]))
    with pytest.raises(EndpointError, match="no ranking of prompt"):
        judge.judge(PROMPT, said("a", "bb"), seed=0)
    assert len(server.requests) == 4
    server.reply = lambda body: (200, {}, "<html>")
    with pytest.raises(EndpointError, match="no JSON"):
        judge.judge(PROMPT, said("a", "bb"), seed=0)


@pytest.mark.parametrize(
    ("text", "ranking"),
    [
        ('{"ranking": [[2], [1, 3]]}', [[1], [0, 2]]),
        ("first [[1],[2],[3]], no: [[3],[2],[1]]", [[2], [1], [0]]),
        ("[[1], [2]]", None),
        ("[[1], [2], [2]]", None),
        ("[[1], [], [2, 3]]", None),
        ("none of them", None),
    ],
)
def test_rankings_in_words(text: str, ranking: list[list[int]] | None) -> None:
    assert parse_ranking(text, 3) == ranking


def test_the_spending_limit(judge: Endpoint, server: Server, tmp_path: Path) -> None:
    """A call reads 100 tokens at $10 and writes 10 at $30 a million: $.0013. Two judgements are four calls: $.0052."""
    paid = replace(judge, dollars_per_million_read=10.0, dollars_per_million_written=30.0, dollars=0.005)
    tasks = [(prompt_of(f"{n} ?"), said("a\r", "bb")) for n in range(5)]  # a log is cleaned when it is read
    log = tmp_path / "judgements.jsonl"
    with pytest.raises(SpendingLimit, match=r"\$0.01 are spent, the limit is \$0.01"):
        collect_judgements(tasks, [paid], per_prompt=1, seed=0, path=log, costly=True)
    assert paid.spent == pytest.approx(0.0052)
    assert len(read_log(log)[0]) == 2  # what was paid for is kept
    # The same again, with more money: nothing is paid for twice.
    before = len(server.requests)
    heard = collect_judgements(tasks, [judge], per_prompt=1, seed=0, path=log, costly=True)
    assert len(server.requests) - before == 6
    assert len(read_log(log)[0]) == 5
    assert [one.id for one in heard] == [one.id for one in read_log(log)[0]]
    # What is asked for otherwise is another judgement, by another annotator.
    before = len(server.requests)
    brief = replace(judge, instructions="Prefer the shorter one.")
    assert brief.name.startswith(f"{judge.name} (")
    collect_judgements(tasks, [brief], per_prompt=1, seed=0, path=log, costly=True)
    assert len(server.requests) - before == 10
    assert {one.annotator for one in read_log(log)[0]} == {judge.name, brief.name}
