"""Judges that exist already, by one name in the recipe (`ppo.reward`): a Python function, a reward model of
transformers with a tokenizer of its own, or a service over HTTP. All of them pass one check: a score for every response
and objective, each a finite number.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import httpx
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from plaudit.answers import ask
from plaudit.data.batching import token_budget_batches
from plaudit.data.chat import Chat
from plaudit.models.costs import tokens_at_a_time
from plaudit.models.fitting import tokens_read
from plaudit.models.loading import choose_device, may_be_model
from plaudit.plugins import resolve_plugin
from plaudit.types import OVERALL, InputError, PlauditError, Prompt, RewardFunction

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP answers that may be others the next time."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds before the first retry; each further one is twice as long."""


class RewardAway(PlauditError):
    """A reward service does not answer, or not as it should; the run goes on from its last step."""


def open_reward(name: str, *, device: str = "auto") -> RewardFunction:
    """The reward of that name: `package.module:function` (called without arguments, it gives the reward), the URL of a
    service, or a folder or Hugging Face name of a sequence classifier."""
    if re.fullmatch(r"https?://\S+", name):
        return Checked(Service(url=name), name)
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
        reward = resolve_plugin(name)()
        if not isinstance(reward, RewardFunction):
            raise InputError(
                f"{name} gave {type(reward).__name__}: a reward function has `objectives` "
                "and is called with prompts and responses"
            )
        return Checked(reward, name)
    if may_be_model(name):
        return Checked(Classifier.open(name, device=device), name)
    raise InputError(
        f"{name!r} is no reward: expected package.module:function, the URL of a service, a folder that is there, "
        "or a Hugging Face name (owner/name)"
    )


class Checked:
    """A reward whose answers are looked at before anything is made of them."""

    def __init__(self, reward: RewardFunction, name: str) -> None:
        self.reward, self.name, self.objectives = reward, name, tuple(reward.objectives)
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise InputError(f"{name}: a reward names its objectives, each once; got {list(self.objectives)}")

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        return ask(self.reward, prompts, responses, name=self.name).scores_BEO.mean(dim=1)


# -- a model --------------------------------------------------------------------------------------------------------


class Classifier:
    """A sequence classifier with its own tokenizer and chat template, which it reads conversations by.

    One label is one objective; several are named as its configuration names them. An offset and a scale in the
    configuration, which Plaudit's own exports have, are applied, and a response then ends with its EOS, as the judge
    has learned it, whatever the template writes behind that.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str) -> None:
        config: Any = model.config
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.reading = tokens_read(tokens_at_a_time(model.device))
        count = int(config.num_labels)
        labels = [str(config.id2label[i]) for i in range(count)]
        plain = count == 1 and labels[0].upper().startswith("LABEL_")
        self.objectives = (OVERALL,) if plain else tuple(labels)
        self.offset_O = torch.tensor(getattr(config, "reward_offset", [0.0] * count))
        self.scale_O = torch.tensor(getattr(config, "reward_scale", [1.0] * count))
        self.context = int(getattr(config.get_text_config(), "max_position_embeddings", 1 << 30))
        if not tokenizer.chat_template:
            raise InputError(f"{name}: its tokenizer has no chat template, so it cannot be shown a conversation")
        self.chat = Chat(tokenizer) if hasattr(config, "reward_offset") else None
        if config.pad_token_id is None:
            pad = tokenizer.pad_token_id
            config.pad_token_id = tokenizer.eos_token_id if pad is None else pad

    @classmethod
    def open(cls, name: str, *, device: str = "auto") -> Classifier:
        """From safetensors alone (no pickle)."""
        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
            model = AutoModelForSequenceClassification.from_pretrained(name, use_safetensors=True)
        except (OSError, ValueError, KeyError) as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise InputError(f"{name!r} cannot be loaded as a sequence classifier in safetensors: {first}") from error
        cast(torch.nn.Module, model).to(choose_device(device)).eval().requires_grad_(False)
        return cls(model, tokenizer, name=name)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        rows = [self._tokens(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
        scores_BO = self.reading.run(partial(self._scores, rows), where=f"reading what {self.name} scores")
        return (scores_BO - self.offset_O) / self.scale_O

    def _scores(self, rows: Sequence[Sequence[int]], tokens_per_batch: int) -> Tensor:
        """[B, O], before offset and scale."""
        scores_BO = torch.zeros(len(rows), len(self.objectives))
        device, pad = self.model.device, int(cast(Any, self.model.config).pad_token_id)
        for chosen in token_budget_batches([len(row) for row in rows], tokens_per_batch):
            longest = max(len(rows[i]) for i in chosen)
            ids = torch.full((len(chosen), longest), pad)
            mask = torch.zeros_like(ids)
            for place, i in enumerate(chosen):
                ids[place, : len(rows[i])], mask[place, : len(rows[i])] = torch.tensor(rows[i]), 1
            logits = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
            scores_BO[chosen] = logits.float().cpu()
        return scores_BO

    def _tokens(self, prompt: Prompt, response: str) -> list[int]:
        if self.chat is not None:
            tokens = list(self.chat.encode(prompt, response).tokens)
        else:
            turns = [{"role": turn.role, "content": turn.content} for turn in prompt.messages]
            turns.append({"role": "assistant", "content": response})
            text = cast(str, self.tokenizer.apply_chat_template(turns, tokenize=False))
            tokens = cast(list[int], self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if len(tokens) > self.context:
            raise InputError(
                f"{self.name}: a prompt with its response has {len(tokens)} tokens, its context is {self.context}"
            )
        return tokens


# -- a service ------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Service:
    """POST {"prompts": [[{"role", "content"}, …]], "responses": ["…"]} -> {"objectives": ["…"], "scores": [[…]]}.

    It is asked once without prompts, for its objectives. What passes (a full queue, a restart) is tried again.
    """

    url: str
    timeout: float = 120.0
    retries: int = 5
    sleep: Callable[[float], None] = time.sleep
    objectives: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.objectives = ()
        found = self._post([], []).get("objectives")
        if not isinstance(found, list) or not all(isinstance(one, str) for one in cast(list[object], found)):
            raise InputError(f'{self.url}: asked without prompts it must name its "objectives", got {found!r}')
        self.objectives = tuple(cast(list[str], found))

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        if not responses:
            return torch.zeros(0, len(self.objectives))
        scores: object = self._post(prompts, responses).get("scores")
        try:
            found = torch.tensor(scores, dtype=torch.float32)
            # One objective may come as a plain list; anything else keeps its shape, which is looked at.
            return found.unsqueeze(1) if found.dim() == len(self.objectives) == 1 else found
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f'{self.url}: "scores" must hold {len(responses)} rows of {len(self.objectives)} numbers ({error})'
            ) from error

    def _post(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> dict[str, Any]:
        conversations = [[{"role": m.role, "content": m.content} for m in prompt.messages] for prompt in prompts]
        body = {"prompts": conversations, "responses": list(responses)}
        wait, reason = FIRST_WAIT, ""
        for attempt in range(self.retries + 1):
            try:
                answer = httpx.post(self.url, json=body, timeout=self.timeout)
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if answer.is_success:
                    return _object(answer, self.url)
                reason = f"HTTP {answer.status_code}: {answer.text[:200]}"
                if answer.status_code not in PASSING:
                    raise RewardAway(f"{self.url} refuses what it was asked ({reason})")
            if attempt < self.retries:
                self.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
        raise RewardAway(
            f"{self.url} is away ({reason}, {self.retries + 1} tries); run the same again when it is back: "
            "it goes on from its last step"
        )


def _object(answer: httpx.Response, url: str) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError as error:
        raise RewardAway(f"{url}: the answer is no JSON") from error
    if not isinstance(body, dict):
        raise RewardAway(f"{url}: the answer is no JSON object")
    return cast(dict[str, Any], body)
