"""The judge: an adapter and one scalar head per objective on the trunk, read at the EOS."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoModelForSequenceClassification

from plaudit.data.batching import token_budget_batches
from plaudit.data.chat import Chat
from plaudit.models.checkpoints import load_tensors, save_peft, save_tensors
from plaudit.models.heads import ScoreHead, ValueStart
from plaudit.models.sequences import bundle, last_states, shared_prompts
from plaudit.models.trunk import Trunk
from plaudit.recipe import Adapter
from plaudit.reward.familiarity import Familiarity
from plaudit.types import Bundle, InputError, Judged, Prompt

PAD = "<|pad|>"
"""A token for padding, where a tokenizer has none to spare."""


class RewardModel:
    """A trained judge as a `RewardFunction`: text in, scores_BO out, on the scale (raw - offset) / scale.

    `offset_EO` and `scale_EO` are the mean and deviation of each member's raw scores over the SFT model's own
    responses, so that a score of 0 is "as good as the model was", and 1 is one deviation better. The judge's score is
    the mean of its members'.
    """

    def __init__(
        self,
        trunk: Trunk,
        chat: Chat,
        objectives: Sequence[str],
        *,
        part: str,
        adapter: Adapter,
        members: int = 1,
        seed: int,
    ) -> None:
        self.trunk, self.chat, self.part, self.adapter = trunk, chat, part, adapter
        self.objectives = tuple(objectives)
        trunk.add_part(part, adapter.kind, rank=adapter.rank, alpha=adapter.alpha, seed=seed)
        self.head = ScoreHead(trunk.width, len(self.objectives), members=members, seed=seed).to(trunk.device)
        self.offset_EO = torch.zeros(members, len(self.objectives))
        self.scale_EO = torch.ones(members, len(self.objectives))
        self.familiarity: Familiarity | None = None

    @property
    def members(self) -> int:
        return len(self.offset_EO)

    def parameters(self) -> list[nn.Parameter]:
        return [*self.trunk.part(self.part).parameters(), *self.head.parameters()]

    def raw_scores(self, bundles: Sequence[Bundle]) -> Tensor:
        """Raw scores [B, E, O] of the responses in a micro-batch of bundles (gradients flow)."""
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

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        return self.judged(prompts, responses).scores_BEO.mean(dim=1)

    @torch.no_grad()
    def judged(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Judged:
        """Scores of each member on its own scale, and how strange the answers are: one pass through the network."""
        states_BD = self.states(prompts, responses)
        raw_BEO = self.head(states_BD.to(self.trunk.device)).cpu()
        return Judged(
            scores_BEO=(raw_BEO - self.offset_EO) / self.scale_EO,
            strange_B=None if self.familiarity is None else self.familiarity.strangeness(states_BD),
        )

    @torch.no_grad()
    def states(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """What the heads read, at the EOS of each response [B, D], on the CPU."""
        bundles = self.bundles(prompts, responses)

        def read(tokens_per_batch: int) -> dict[int, Tensor]:
            found: dict[int, Tensor] = {}
            for chosen in token_budget_batches([len(b) for b in bundles], tokens_per_batch):
                states_BD = last_states(self.trunk, [bundles[c] for c in chosen], part=self.part).float().cpu()
                found |= zip(chosen, states_BD.split([len(bundles[c].lengths) for c in chosen]), strict=True)
            return found

        found = self.trunk.reading.run(read, where="reading what the judge scores")
        return torch.cat([found[i] for i in range(len(bundles))]) if bundles else torch.zeros(0, self.trunk.width)

    def by_member(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor:
        """Scores [B, E, O] of each member on its own scale."""
        return self.judged(prompts, responses).scores_BEO

    def learn_what_is_usual(
        self, training: tuple[Sequence[Prompt], Sequence[str]], held_out: tuple[Sequence[Prompt], Sequence[str]]
    ) -> None:
        """Remember what the answers of training look like to this judge, and how far held-out ones are from them."""
        self.familiarity = Familiarity.of(self.states(*training), self.states(*held_out))

    def centre(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> None:
        """Set offset and scale so that these responses score 0 on average, with deviation 1, to each member."""
        self.offset_EO, self.scale_EO = torch.zeros_like(self.offset_EO), torch.ones_like(self.scale_EO)
        raw_BEO = self.by_member(prompts, responses)
        self.offset_EO = raw_BEO.mean(dim=0)
        deviation_EO = raw_BEO.std(dim=0, unbiased=False)
        # Responses that all score the same say nothing about the scale: leave it.
        self.scale_EO = torch.where(deviation_EO > 1e-6, deviation_EO, torch.ones_like(deviation_EO))

    def as_one(self) -> tuple[Tensor, Tensor]:
        """(weights [O, D], offsets [O]): the mean of the members is one linear head on the states."""
        per_raw_EO = 1 / self.scale_EO / len(self.scale_EO)
        weight_OD = torch.einsum("eo,eod->od", per_raw_EO.to(self.head.weight_EOD), self.head.weight_EOD).detach()
        return weight_OD, (per_raw_EO * self.offset_EO).sum(dim=0)

    def value_start(self, weights: Mapping[str, float]) -> ValueStart:
        """The value begins as the judge: V(s) = sum of w_o (head_o(s) - offset_o) / scale_o."""
        weights_O = torch.tensor([weights.get(o, 1.0) for o in self.objectives])
        weight_OD, offset_O = self.as_one()
        return ValueStart(
            part=self.part, weight_D=weights_O.to(weight_OD) @ weight_OD, bias=-float(weights_O @ offset_O)
        )

    # -- on disk ------------------------------------------------------------------------------------------------

    def save(self, folder: Path, *, export: bool = True) -> None:
        """`judge.safetensors` and `.json` are the truth; `model/`, where transformers has such a class for the family,
        opens with AutoModelForSequenceClassification."""
        tensors = {f"part.{k}": v for k, v in self.trunk.part(self.part).state_dict().items()}
        tensors |= {"head.weight_EOD": self.head.weight_EOD, "offset_EO": self.offset_EO, "scale_EO": self.scale_EO}
        tensors |= self.familiarity.tensors() if self.familiarity is not None else {}
        save_tensors(folder / "judge.safetensors", tensors, {"trunk": self.trunk.hash()})
        about = {"objectives": list(self.objectives), "adapter": self.adapter.model_dump(), "trunk": self.trunk.hash()}
        (folder / "judge.json").write_text(json.dumps(about, indent=2) + "\n")
        if export:
            save_peft(self.trunk, self.part, folder / "adapter", task="SEQ_CLS")
            if self.has_classifier:
                self.export(folder / "model")

    @property
    def has_classifier(self) -> bool:
        """Whether transformers has a sequence classifier for the trunk's family."""
        return type(self.trunk.model.config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    def export(self, folder: Path) -> None:
        """A merged sequence classifier: its logits less the offset in its config are the judge's scores of what ends
        with the EOS, without what a template writes behind it."""
        merged = self.trunk.decoding_copy(self.part)
        config = copy.deepcopy(merged.config)
        config.id2label = dict(enumerate(self.objectives))
        config.label2id = {o: i for i, o in enumerate(self.objectives)}
        weight_OD, offset_O = self.as_one()
        config.reward_offset, config.reward_scale = offset_O.tolist(), [1.0] * len(self.objectives)
        classifier = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
        classifier.base_model.load_state_dict(merged.base_model.state_dict())
        classifier.score.weight.data.copy_(weight_OD)
        tokenizer = copy.deepcopy(self.chat.tokenizer)
        if self.chat.pad_id in self.chat.eos_ids:  # the last token that is not padding is looked for
            tokenizer.add_special_tokens({"pad_token": PAD})
        if tokenizer.pad_token_id >= self.trunk.vocabulary:
            classifier.resize_token_embeddings(tokenizer.pad_token_id + 1, mean_resizing=False)
        classifier.config.pad_token_id = tokenizer.pad_token_id
        classifier.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(str(folder))

    @classmethod
    def load(cls, folder: Path, trunk: Trunk, chat: Chat, *, part: str = "reward") -> RewardModel:
        """Open a saved judge on the trunk it was trained on; it scores as it did, to the bit."""
        if not (folder / "judge.json").is_file():
            raise InputError(f"there is no judge in {folder}")
        about = json.loads((folder / "judge.json").read_text())
        tensors = load_tensors(folder / "judge.safetensors", trunk_hash=trunk.hash())
        members = len(tensors["offset_EO"])
        adapter = Adapter(**about["adapter"])
        judge = cls(trunk, chat, about["objectives"], part=part, adapter=adapter, members=members, seed=0)
        trunk.part(part).load_state_dict(
            {k.removeprefix("part."): v for k, v in tensors.items() if k.startswith("part.")}
        )
        judge.head.weight_EOD.data.copy_(tensors["head.weight_EOD"])
        judge.offset_EO, judge.scale_EO = tensors["offset_EO"], tensors["scale_EO"]
        judge.familiarity = Familiarity.from_tensors(tensors)
        return judge
