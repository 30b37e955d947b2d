"""TRL 1.12.0's PPO, timed update by update; runs in TRL's environment.

The reward and value heads are random: only the cost is measured. `tuned` mends what a user could mend from outside.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from datasets import Dataset
from meter import lora_targets, medians, peak_gb, serve, synchronise
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer


@dataclass
class Clock:
    """Marks of one update, and what they say of the updates that are done."""

    began: float = field(default_factory=time.perf_counter)
    generated: float = 0.0
    training: float = 0.0
    updates: list[dict[str, float]] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    """Mean tokens of the responses, EOS included, by update."""
    peak: float = 0.0

    def now(self) -> float:
        synchronise()
        return time.perf_counter()

    def finish(self) -> None:
        now = self.now()
        phases = {
            "generate": self.generated - self.began,
            "score": self.training - self.generated,
            "train": now - self.training,
        }
        self.updates.append({"value": now - self.began, **phases})
        self.began, self.training, self.peak = now, 0.0, peak_gb()


def ppo(task: dict[str, Any]) -> dict[str, Any]:
    if task.get("tuned"):
        tune()
    trainer = trainer_of(task)
    clock = Clock()
    watch(trainer, clock)
    clock.began = clock.now()
    trainer.train()
    middle = medians(clock.updates[1:])
    return {
        "value": middle.pop("value"),
        "updates": [update["value"] for update in clock.updates],
        "phases": middle,
        "response_length": statistics.median(clock.lengths[1:]),
        "memory_gb": clock.peak,
    }


def trainer_of(task: dict[str, Any], reward: nn.Module | None = None) -> PPOTrainer:
    """The trainer as the task wants it; without a reward of the caller's, a random network gives one."""
    tokenizer = AutoTokenizer.from_pretrained(task["model"], padding_side="left")
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(task["pad_id"])
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(task["eos_id"])
    lora = bool(task.get("lora"))
    policy = load(AutoModelForCausalLM, task)
    value = load(AutoModelForSequenceClassification, task, num_labels=1)
    settings: dict[str, Any] = {}
    if lora:
        settings["peft_config"] = adapter(policy, task_type="CAUSAL_LM")
        # In place: the trainer reaches into the value model by the names that a wrapper would hide.
        value = inject_adapter_in_model(adapter(value), value)
        value.score.requires_grad_(True)
    rows = Dataset.from_list([{"input_ids": p} for p in task["prompts"]])
    return PPOTrainer(
        args=config_of(task),
        processing_class=tokenizer,
        model=policy,
        # With an adapter, switching it off gives the reference: no copy is needed.
        ref_model=None if lora else load(AutoModelForCausalLM, task),
        reward_model=load(AutoModelForSequenceClassification, task, num_labels=1) if reward is None else reward,
        value_model=value,
        train_dataset=rows,
        eval_dataset=rows.select(range(4)),
        **settings,
    )


def load(kind: Any, task: dict[str, Any], **more: Any) -> Any:
    dtype = getattr(torch, task["scale"]["dtype"])
    model = kind.from_pretrained(task["model"], dtype=dtype, attn_implementation="sdpa", **more)
    model.config.pad_token_id = task["pad_id"]
    return model


def adapter(model: nn.Module, **more: Any) -> LoraConfig:
    return LoraConfig(r=16, lora_alpha=32, target_modules=lora_targets(model), **more)


def config_of(task: dict[str, Any]) -> PPOConfig:
    scale = task["scale"]
    batch, micro = scale["batch"], scale.get("peer_micro_batch", scale["micro_batch"])
    settings: dict[str, Any] = {"missing_eos_penalty": 1.0} | task.get("settings", {})
    return PPOConfig(
        output_dir=task["folder"],
        seed=task["run"],
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=batch // micro,
        num_mini_batches=1,
        num_ppo_epochs=scale["epochs"],
        total_episodes=batch * scale["updates"],
        response_length=scale["response"],
        local_rollout_forward_batch_size=batch,
        stop_token="eos",
        temperature=1.0,
        num_sample_generations=0,
        gradient_checkpointing=False,
        # Ignored by this version on transformers 5; the weights are loaded in the type that is wanted.
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        disable_tqdm=True,
        save_strategy="no",
        report_to="none",
        **settings,
    )


def watch(trainer: PPOTrainer, clock: Clock) -> None:
    """Mark the ends of generation, of scoring and of each update."""
    generate, forward, log = ppo_trainer.batch_generation, ppo_trainer.forward, trainer.log

    def marked_generation(*args: Any, **kwargs: Any) -> Any:
        out = generate(*args, **kwargs)
        clock.generated = clock.now()
        clock.lengths.append(mean_length(out[0][:, args[1].shape[1] :], trainer.stop_token_id))
        return out

    def marked_forward(model: nn.Module, *args: Any) -> Any:
        if not clock.training and torch.is_grad_enabled():
            clock.training = clock.now()
        return forward(model, *args)

    def marked_log(*args: Any, **kwargs: Any) -> None:
        clock.finish()
        log(*args, **kwargs)

    ppo_trainer.batch_generation, ppo_trainer.forward = marked_generation, marked_forward
    trainer.log = marked_log


def mean_length(responses_BT: Tensor, stop: int) -> float:
    ended_BT = responses_BT == stop
    return ((ended_BT.long().cumsum(1) - ended_BT.long()) == 0).sum(1).float().mean().item()


# -- the tuned peer -------------------------------------------------------------------------------------------------


class DrawnLogprobs(LogitsProcessor):
    """Keeps the log-prob of each drawn token instead of every step's scores."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        self.drawn: list[Tensor] = []
        self.last: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.take(input_ids[:, -1])
        self.last = scores.float() / self.temperature
        return scores

    def take(self, tokens_B: Tensor) -> None:
        """Read the token that was drawn from the last scores."""
        if self.last is not None:
            chosen_B = self.last.gather(1, tokens_B.unsqueeze(1)).squeeze(1)
            self.drawn.append(chosen_B - self.last.logsumexp(1))


class ResponseLogits:
    """Logits that were computed for the response alone; the trainer's slice that would choose them gives them."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def __getitem__(self, key: object) -> Tensor:
        return self.logits[:, :-1]


@dataclass
class ResponseOutput:
    logits: ResponseLogits


def tune() -> None:
    """Three patches: no stored scores; logits of the response alone; no hidden states and no cache in a forward."""
    context = {"length": 0}
    read_off = ppo_trainer.selective_log_softmax

    def generate(model: nn.Module, queries: Tensor, pad_token_id: int, generation_config: GenerationConfig) -> Any:
        context["length"] = length = queries.shape[1]
        mask = queries != pad_token_id
        logprobs = DrawnLogprobs(generation_config.temperature)
        sequences = model.generate(
            input_ids=queries.masked_fill(~mask, 0),
            attention_mask=mask,
            generation_config=generation_config,
            logits_processor=LogitsProcessorList([logprobs]),
        )
        responses = sequences[:, length:]
        logprobs.take(responses[:, -1])
        return torch.cat([queries, responses], 1), torch.stack(logprobs.drawn[: responses.shape[1]], 1)

    def logprobs_of(logits: Tensor, index: Tensor) -> Tensor:
        return logits if logits.dim() == 2 else read_off(logits, index)

    def forward(model: nn.Module, query_responses: Tensor, pad_token_id: int) -> Any:
        mask = query_responses != pad_token_id
        arguments = {
            "input_ids": query_responses.masked_fill(~mask, 0),
            "attention_mask": mask,
            "position_ids": mask.cumsum(1) - mask.long(),
            "use_cache": False,
            "logits_to_keep": query_responses.shape[1] - context["length"] + 1,
        }
        if isinstance(model, ppo_trainer.PolicyAndValueWrapper):
            logits, values = model(**arguments)
            return ResponseOutput(ResponseLogits(logits)), values
        return ResponseOutput(ResponseLogits(model(**arguments).logits))

    def both(self: Any, *, logits_to_keep: int, **arguments: Any) -> tuple[Tensor, Tensor]:
        values = self.value_model.score(self.critic_backbone(**arguments).last_hidden_state)
        return self.policy(logits_to_keep=logits_to_keep, **arguments).logits, values

    ppo_trainer.generate, ppo_trainer.forward = generate, forward
    ppo_trainer.selective_log_softmax = logprobs_of
    ppo_trainer.PolicyAndValueWrapper.forward = both


if __name__ == "__main__":
    serve({"ppo": ppo})
