"""The run's tokenizer, trunk and checkpoints, each loaded when it is first needed; and how they speak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

import torch

from plaudit.data.chat import Chat
from plaudit.material import Material
from plaudit.models.fitting import sampled_rows
from plaudit.models.fused import decoder_of
from plaudit.models.generate import Generated, generate, sample_key
from plaudit.models.loading import check_model_path, load_causal_lm
from plaudit.models.trunk import Trunk
from plaudit.progress import Journal
from plaudit.recipe import Recipe
from plaudit.rl.rollout import sampling_of
from plaudit.run_folder import RunFolder
from plaudit.types import InputError, Prompt, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Workshop:
    """What the acts share. `chat` and `trunk` are those of the model that Acts II and III start from."""

    def __init__(self, recipe: Recipe, material: Material, folder: RunFolder) -> None:
        self.recipe, self.material, self.folder = recipe, material, folder

    @property
    def sft_model(self) -> str:
        """Where the model that Acts II and III start from lies."""
        if self.recipe.sft is None:
            return self.material.base_model
        if self.folder.done("round_0/sft") is None:
            raise InputError(f"Act I is not done in {self.folder.path}: run `plaudit sft` first, or set sft: null")
        return str(self.folder.path / "round_0" / "sft" / "model")

    @cached_property
    def chat(self) -> Chat:
        return self.load_chat(self.sft_model)

    @cached_property
    def trunk(self) -> Trunk:
        return self.load_trunk(self.sft_model, self.recipe.model.split_depth)

    @property
    def ppo_sampling(self) -> Sampling:
        return sampling_of(self.recipe.ppo, self.recipe.seed)

    @property
    def evaluation_sampling(self) -> Sampling:
        config = self.recipe.evaluation
        return replace(self.ppo_sampling, temperature=config.temperature, top_p=config.top_p)

    @property
    def decoding_dtype(self) -> torch.dtype | None:
        """Of the products of decoding; None: the model's own."""
        name = self.recipe.model.decoding_dtype
        return None if name is None else getattr(torch, name)

    def load_chat(self, path: str) -> Chat:
        check_model_path(path)
        chat = Chat.load(path, self.recipe.model.chat_template)
        self.folder.say(*chat.repairs)
        return chat

    def load_trunk(self, path: str, split_depth: int) -> Trunk:
        config = self.recipe.model
        model = load_causal_lm(path, dtype=config.dtype, device=config.device, quantised=config.quantise == "nf4")
        trunk = Trunk(
            model,
            split_depth,
            activation_checkpointing=config.activation_checkpointing,
            boundary_gigabytes=config.boundary_gigabytes,
            boundary_disk_gigabytes=config.boundary_disk_gigabytes,
            decoding_dtype=self.decoding_dtype,
        )
        trunk.reading.say = self.folder.say
        self.folder.say(*trunk.notes)
        if trunk.fused is None:
            self.folder.say("this network runs through transformers' own modules, which is slower")
        return trunk

    def load_model(self, path: str) -> PreTrainedModel:
        return load_causal_lm(path, dtype=self.recipe.model.dtype, device=self.recipe.model.device)

    def speak(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        occasion: int,
        batch_size: int,
        journal: Journal,
    ) -> list[Generated]:
        """One response per prompt; the n-th time a prompt comes it gets its n-th sample.

        `occasion` (negative, where PPO's steps are not) keeps the random numbers of different uses apart.
        """
        times: dict[str, int] = {}
        keys: list[int] = []
        for prompt in prompts:
            times[prompt.id] = times.get(prompt.id, -1) + 1
            keys.append(sample_key(sampling.seed, occasion, prompt.id, times[prompt.id]))
        tokens = [self.chat.prompt_ids(p) for p in prompts]
        decoder = decoder_of(model, None if model.dtype == self.decoding_dtype else self.decoding_dtype)

        def attempt(rows: int) -> list[Generated]:
            with journal.bar("sampling", len(prompts)) as advance:
                return generate(
                    decoder,
                    tokens,
                    keys,
                    sampling,
                    eos_ids=self.chat.eos_ids,
                    stopped=self.chat.stopper(sampling.stop),
                    batch_size=rows,
                    on_progress=advance,
                )

        return sampled_rows(batch_size, journal.say).run(attempt, where="sampling")

    def complete(self, model: PreTrainedModel, texts: Sequence[str]) -> list[str]:
        """Greedy continuations of plain text."""
        tokens = [cast("list[int]", self.chat.tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts]
        said = generate(model, tokens, None, Sampling(max_new_tokens=12), eos_ids=self.chat.eos_ids)
        return [self.chat.decode(s.tokens) for s in said]
