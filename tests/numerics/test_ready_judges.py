"""Judges that exist already: an exported classifier, a service over real HTTP, a function; and what they get wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

import tiny
from plaudit.data.chat import Chat
from plaudit.models.trunk import Trunk
from plaudit.recipe import Adapter
from plaudit.reward.model import RewardModel
from plaudit.reward.ready import Checked, Classifier, RewardAway, Service, open_reward
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


def mended(*, special: tuple[str, ...], template: str = tiny.TEMPLATE) -> Chat:
    """A chat on tiny's words with fewer special tokens, or another template."""
    core = Tokenizer(WordLevel({word: i for i, word in enumerate(tiny.VOCABULARY)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")
    made.chat_template = template
    return Chat(made)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "chat",
    [
        mended(special=tiny.SPECIAL, template=tiny.TEMPLATE.replace("<end> ", "<end> blue ")),
        mended(special=("<end>",)),  # no token is free to pad with
        mended(special=("<end>", "<user>", "<bot>", "<unk>")),  # the one that is free has the id 0
    ],
    ids=["a tail behind the EOS", "no spare token", "a pad whose id is 0"],
)
def test_an_exported_judge_reads_at_the_eos(chat: Chat, tmp_path: Path) -> None:
    judge = RewardModel(tiny.trunk(), chat, ["overall"], part="reward", adapter=Adapter(rank=4, alpha=8.0), seed=5)
    tiny.move(judge.trunk, "reward", by=0.05)
    prompts, texts = tiny.questions(7), tiny.answers(7)
    judge.centre(prompts, texts)
    judge.save(tmp_path)
    opened = open_reward(str(tmp_path / "model"), device="cpu")
    torch.testing.assert_close(opened(prompts, texts), judge(prompts, texts), atol=1e-4, rtol=1e-4)
    # Transformers alone, on a padded batch of what ends with the EOS.
    theirs: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    rows = [list(chat.encode(p, t).tokens) for p, t in zip(prompts, texts, strict=True)]
    batch = tokenizer.pad({"input_ids": rows}, return_tensors="pt")
    assert not bool(batch["attention_mask"].all())
    with torch.no_grad():
        logits = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    found = (logits - torch.tensor(theirs.config.reward_offset)) / torch.tensor(theirs.config.reward_scale)
    torch.testing.assert_close(found, judge(prompts, texts), atol=1e-4, rtol=1e-4)
    # A configuration that knows no padding takes the tokenizer's, be its id 0.
    theirs.config.pad_token_id = None
    assert Classifier(theirs, tokenizer, name="theirs").model.config.pad_token_id == tokenizer.pad_token_id  # pyright: ignore


def test_a_judge_of_a_family_without_a_classifier_is_saved(tmp_path: Path) -> None:
    ids: dict[str, Any] = {"bos_token_id": None, "eos_token_id": tiny.END, "pad_token_id": tiny.PAD}
    shape = tiny.COMMON | {"num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": len(tiny.VOCABULARY)}
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model("granite", **shape, **ids)).eval()
    judge, again = (
        RewardModel(Trunk(deepcopy(network)), tiny.chat(), ["overall"], part="reward", adapter=Adapter(rank=4), seed=5)
        for _ in range(2)
    )
    judge.save(tmp_path)
    assert not (tmp_path / "model").exists()
    again = RewardModel.load(tmp_path, again.trunk, tiny.chat(), part="again")
    prompts, texts = tiny.questions(3), tiny.answers(3)
    assert torch.equal(again(prompts, texts), judge(prompts, texts))


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
        ([[1.0, 2.0, 3.0, 4.0]], r"expected \(2, 2\) \(responses, objectives\)"),
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


def test_scores_that_stand_objective_by_objective_are_not_taken_for_rows(serve: Callable[[Reply], str]) -> None:
    sideways = [[0.0, 1.0, 2.0, 3.0], [100.0, 101.0, 102.0, 103.0]]
    reward = open_reward(serve(lambda b: (200, {"objectives": ["words", "turns"], "scores": sideways})))
    with pytest.raises(InputError, match=r"expected \(4, 2\) \(responses, objectives\)"):
        reward([tiny.asked("what")] * 4, ["one", "two", "three", "four"])


def test_one_objective_may_come_as_a_plain_list(serve: Callable[[Reply], str]) -> None:
    reward = open_reward(serve(lambda b: (200, {"objectives": ["words"], "scores": [3.0, 1.0]})))
    assert reward([tiny.asked("what")] * 2, ["one", "two"]).tolist() == [[3.0], [1.0]]


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
