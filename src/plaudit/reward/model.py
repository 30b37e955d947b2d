"""The judge: an adapter and one scalar head per objective on the trunk, read at the EOS."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from plaudit.data.batching import token_budget_batches
from plaudit.data.chat import Chat
from plaudit.models.checkpoints import load_tensors, save_peft, save_tensors
from plaudit.models.heads import ScoreHead, ValueStart
from plaudit.models.sequences import bundle, last_states, shared_prompts
from plaudit.models.trunk import Trunk
from plaudit.recipe import Adapter
from plaudit.types import Bundle, InputError, Prompt


class RewardModel:
    """A trained judge as a `RewardFunction`: text in, scores_BO out, on the scale (raw - offset) / scale.

    `offset_O` and `scale_O` are the mean and deviation of its raw scores over the SFT model's own responses, so
    that a score of 0 is "as good as the model was", and 1 is one deviation better.
    """

    def __init__(
        self, trunk: Trunk, chat: Chat, objectives: Sequence[str], *, part: str, adapter: Adapter, seed: int
    ) -> None:
        self.trunk, self.chat, self.part, self.adapter = trunk, chat, part, adapter
        self.objectives = tuple(objectives)
        trunk.add_part(part, adapter.kind, rank=adapter.rank, alpha=adapter.alpha, seed=seed)
        self.head = ScoreHead(trunk.width, len(self.objectives), seed=seed).to(trunk.device)
        self.offset_O = torch.zeros(len(self.objectives))
        self.scale_O = torch.ones(len(self.objectives))

    def parameters(self) -> list[nn.Parameter]:
        return [*self.trunk.part(self.part).parameters(), *self.head.parameters()]

    def raw_scores(self, bundles: Sequence[Bundle]) -> Tensor:
        """Raw scores [B, O] of the responses in a micro-batch of bundles (gradients flow)."""
        return self.head(last_states(self.trunk, bundles, part=self.part))

    def bundles(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[Bundle]:
        """Prompts and responses with their EOS as token ids; neighbours with one prompt share it where that pays."""
        encoded = [self.chat.encode(p, r) for p, r in zip(prompts, responses, strict=True)]
        longest = max((len(e.tokens) for e in encoded), default=0)
        if longest > self.trunk.context:
            raise InputError(
                f"a prompt with its response has {longest} tokens, the judge's context is {self.trunk.context}"
            )
        asked = [torch.tensor(e.tokens[: e.num_prompt]) for e in encoded]
        said = [torch.tensor(e.tokens[e.num_prompt :]) for e in encoded]
        groups = shared_prompts(self.trunk, asked, [len(s) for s in said])
        return [bundle(asked[rows[0]], [said[r] for r in rows]) for rows in groups]

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        bundles = self.bundles(prompts, responses)
        scores: dict[int, Tensor] = {}
        for chosen in token_budget_batches([len(b) for b in bundles], self.trunk.tokens_per_batch):
            found_BO = self.raw_scores([bundles[c] for c in chosen]).cpu()
            scores |= zip(chosen, found_BO.split([len(bundles[c].lengths) for c in chosen]), strict=True)
        raw_BO = (
            torch.cat([scores[i] for i in range(len(bundles))]) if bundles else torch.zeros(0, len(self.objectives))
        )
        return (raw_BO - self.offset_O) / self.scale_O

    def centre(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> None:
        """Set offset and scale so that these responses score 0 on average, with deviation 1."""
        self.offset_O, self.scale_O = torch.zeros_like(self.offset_O), torch.ones_like(self.scale_O)
        raw_BO = self(prompts, responses)
        self.offset_O = raw_BO.mean(dim=0)
        deviation_O = raw_BO.std(dim=0, unbiased=False)
        # Responses that all score the same say nothing about the scale: leave it.
        self.scale_O = torch.where(deviation_O > 1e-6, deviation_O, torch.ones_like(deviation_O))

    def value_start(self, weights: Mapping[str, float]) -> ValueStart:
        """The value begins as the judge: V(s) = sum of w_o (head_o(s) - offset_o) / scale_o."""
        weights_O = torch.tensor([weights.get(o, 1.0) for o in self.objectives])
        per_raw_O = weights_O / self.scale_O
        weight_D = (per_raw_O.to(self.head.weight) @ self.head.weight).detach()
        return ValueStart(part=self.part, weight_D=weight_D, bias=-float((per_raw_O * self.offset_O).sum()))

    # -- on disk ------------------------------------------------------------------------------------------------

    def save(self, folder: Path, *, export: bool = True) -> None:
        """`judge.safetensors` and `.json` are the truth; `model/` opens with AutoModelForSequenceClassification."""
        tensors = {f"part.{k}": v for k, v in self.trunk.part(self.part).state_dict().items()}
        tensors |= {"head.weight": self.head.weight, "offset_O": self.offset_O, "scale_O": self.scale_O}
        save_tensors(folder / "judge.safetensors", tensors, {"trunk": self.trunk.hash()})
        about = {"objectives": list(self.objectives), "adapter": self.adapter.model_dump(), "trunk": self.trunk.hash()}
        (folder / "judge.json").write_text(json.dumps(about, indent=2) + "\n")
        if export:
            save_peft(self.trunk, self.part, folder / "adapter", task="SEQ_CLS")
            self.export(folder / "model")

    def export(self, folder: Path) -> None:
        """A merged sequence classifier: its logits are our raw scores; offset and scale stand in its config."""
        merged = self.trunk.decoding_copy(self.part)
        config = copy.deepcopy(merged.config)
        config.id2label = dict(enumerate(self.objectives))
        config.label2id = {o: i for i, o in enumerate(self.objectives)}
        config.pad_token_id = self.chat.pad_id
        config.reward_offset, config.reward_scale = self.offset_O.tolist(), self.scale_O.tolist()
        classifier = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
        classifier.base_model.load_state_dict(merged.base_model.state_dict())
        classifier.score.weight.data.copy_(self.head.weight.data)
        classifier.save_pretrained(folder, safe_serialization=True)
        self.chat.save(folder)

    @classmethod
    def load(cls, folder: Path, trunk: Trunk, chat: Chat, *, part: str = "reward") -> RewardModel:
        """Open a saved judge on the trunk it was trained on; it scores as it did, to the bit."""
        if not (folder / "judge.json").is_file():
            raise InputError(f"there is no judge in {folder}")
        about = json.loads((folder / "judge.json").read_text())
        tensors = load_tensors(folder / "judge.safetensors", trunk_hash=trunk.hash())
        judge = cls(trunk, chat, about["objectives"], part=part, adapter=Adapter(**about["adapter"]), seed=0)
        trunk.part(part).load_state_dict(
            {k.removeprefix("part."): v for k, v in tensors.items() if k.startswith("part.")}
        )
        judge.head.weight.data.copy_(tensors["head.weight"])
        judge.offset_O, judge.scale_O = tensors["offset_O"], tensors["scale_O"]
        return judge
