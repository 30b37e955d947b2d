"""Judges that exist already: an exported classifier, a service over real HTTP, a function; and what they get wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from plaudit.recipe import Adapter
from plaudit.reward.model import RewardModel
from plaudit.reward.ready import Checked, RewardAway, Service, open_reward
from plaudit.types import InputError, Prompt, RewardFunction

Reply = Callable[[dict[str, Any]], tuple[int, Any]]


@pytest.fixture
def serve() -> Iterator[Callable[[Reply], str]]:
    """Starts a service whose answers a function gives; returns its URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(reply: Reply) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = reply(body)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/score"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def lengths(body: dict[str, Any]) -> tuple[int, Any]:
    """Words of the response, and turns of the prompt."""
    rows = zip(body["prompts"], body["responses"], strict=True)
    return 200, {"objectives": ["words", "turns"], "scores": [[len(r.split()), len(p)] for p, r in rows]}


# -- a model --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_an_exported_judge_scores_as_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened by its folder alone: own tokenizer, template, offset and scale; ragged, in batches of any size."""
    judge = RewardModel(
        tiny.trunk(), tiny.chat(), ["helpful", "kind"], part="reward", adapter=Adapter(rank=4, alpha=8.0), seed=5
    )
    tiny.move(judge.trunk, "reward", by=0.05)
    prompts, texts = tiny.questions(7), tiny.answers(7)
    judge.centre(prompts, texts)
    judge.save(tmp_path)
    for budget in (1, 30, 4096):
        monkeypatch.setattr("plaudit.reward.ready.tokens_at_a_time", lambda _device, budget=budget: budget)
        opened = open_reward(str(tmp_path / "model"), device="cpu")
        assert isinstance(opened, RewardFunction)
        assert opened.objectives == ("helpful", "kind")
        torch.testing.assert_close(opened(prompts, texts), judge(prompts, texts), atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="its context is 64"):
        opened([tiny.asked("what")], ["yes " * 70])
    tokenizer = tmp_path / "model" / "tokenizer_config.json"
    (tmp_path / "model" / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads(tokenizer.read_text())
    settings.pop("chat_template", None)
    tokenizer.write_text(json.dumps(settings))
    with pytest.raises(InputError, match="no chat template"):
        open_reward(str(tmp_path / "model"), device="cpu")


def test_what_is_no_classifier(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="cannot be loaded as a sequence classifier"):
        open_reward(str(tmp_path / "empty"))
    with pytest.raises(InputError, match="is no reward: expected"):
        open_reward("./nowhere")


# -- a service ------------------------------------------------------------------------------------------------------


def test_a_service_is_asked_over_http(serve: Callable[[Reply], str]) -> None:
    reward = open_reward(serve(lengths))
    assert reward.objectives == ("words", "turns")
    found = reward([tiny.asked("what"), tiny.asked("why")], ["yes yes no", ""])
    assert found.tolist() == [[3.0, 1.0], [0.0, 1.0]]
    assert reward([], []).shape == (0, 2)


def test_what_passes_is_tried_again(serve: Callable[[Reply], str]) -> None:
    left = [503, 429]
    waits: list[float] = []

    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        return (left.pop(), {}) if body["prompts"] and left else lengths(body)

    service = Service(url=serve(reply), sleep=waits.append)
    assert service([tiny.asked("what")], ["yes"]).tolist() == [[1.0, 1.0]]
    assert waits == [1.0, 2.0]


def test_a_service_that_is_away_or_refuses(serve: Callable[[Reply], str]) -> None:
    with pytest.raises(RewardAway, match=r"is away \(ConnectError"):
        Service(url="http://127.0.0.1:9/score", retries=1, sleep=lambda _: None)
    with pytest.raises(RewardAway, match=r"refuses what it was asked \(HTTP 404"):
        Service(url=serve(lambda _: (404, {"no": "such"})))
    with pytest.raises(RewardAway, match="is no JSON"):
        Service(url=serve(lambda _: (200, b"<html>")))
    with pytest.raises(InputError, match='must name its "objectives", got None'):
        Service(url=serve(lambda _: (200, {"scores": []})))


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        ([[1.0, 2.0]], r"expected \(2, 2\) \(responses, objectives\)"),
        ([1.0, 2.0], r"expected \(2, 2\) \(responses, objectives\)"),
        ([[1.0, 2.0], [1.0, None]], '"scores" must hold 2 rows of 2 numbers'),
        ([[1.0, 2.0], [1.0]], '"scores" must hold 2 rows of 2 numbers'),
        ("none", '"scores" must hold 2 rows of 2 numbers'),
        ([[1.0, 2.0], [1.0, float("nan")]], r"returned \[nan\] as 'turns' for the response 'two'"),
    ],
)
def test_an_answer_that_cannot_be_used(scores: object, says: str, serve: Callable[[Reply], str]) -> None:
    reward = open_reward(serve(lambda b: (200, {"objectives": ["words", "turns"], "scores": scores})))
    with pytest.raises(InputError, match=says):
        reward([tiny.asked("what")] * 2, ["one", "two"])


# -- a function -----------------------------------------------------------------------------------------------------


class Odd:
    def __init__(self, *objectives: str, gives: Any = None) -> None:
        self.objectives, self.gives = objectives, gives

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        return self.gives


def test_a_function_is_checked_too() -> None:
    reward = open_reward("tiny:count_yes")
    assert reward([tiny.asked("what")], ["yes yes"]).tolist() == [[2.0]]
    with pytest.raises(InputError, match="must be finite"):
        open_reward("tiny:not_a_number")([tiny.asked("what")], ["yes"])
    with pytest.raises(InputError, match="gave dict: a reward function has"):
        open_reward("builtins:dict")
    with pytest.raises(InputError, match="each once; got"):
        Checked(Odd("a", "a"), "odd")
    with pytest.raises(InputError, match="each once; got"):
        Checked(Odd(), "odd")
    with pytest.raises(InputError, match=r"odd returned shape \(1,\), expected \(1, 1\)"):
        Checked(Odd("a", gives=[1.0]), "odd")([tiny.asked("what")], ["yes"])
    with pytest.raises(InputError, match="odd returned str, which is no table of numbers"):
        Checked(Odd("a", gives="much"), "odd")([tiny.asked("what")], ["yes"])
