"""What is measured: the sizes on each kind of machine, the sides, and the rows that set them against each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Sizes of the tasks. Lengths are in tokens; prompts have from half of `prompt` up to `prompt` tokens."""

    dtype: str
    batch: int
    prompt: int
    response: int
    micro_batch: int
    epochs: int = 4
    updates: int = 3
    """PPO updates of each process; the first one warms up and is dropped."""
    generation_batch: int = 32
    generation_limit: int = 64
    long_limit: int = 256
    """Of longer answers, in rows of their own: the more is said, the less of the time goes to reading prompts."""
    generation_calls: int = 3
    """Measured calls of each process, behind one that warms up."""
    examples: int = 64
    training_batch: int = 16
    max_tokens: int = 128
    """Longer pairs are left out (demonstrations: twice as long)."""


@dataclass(frozen=True, kw_only=True)
class CardScale(Scale):
    """On a card, whose memory is another for each side."""

    peer_micro_batch: int
    """Rows of TRL's PPO at a time: it trains two whole networks."""


CPU = Scale(dtype="float32", batch=16, prompt=64, response=32, micro_batch=16)
CUDA = CardScale(
    dtype="bfloat16",
    batch=64,
    prompt=256,
    response=256,
    micro_batch=64,
    peer_micro_batch=8,
    generation_calls=2,
    generation_limit=256,
    long_limit=1024,
    examples=512,
    max_tokens=512,
)
QUICK = Scale(
    dtype="float32",
    batch=4,
    prompt=12,
    response=6,
    micro_batch=4,
    epochs=2,
    updates=2,
    generation_batch=4,
    generation_limit=8,
    long_limit=16,
    generation_calls=1,
    examples=8,
    training_batch=4,
    max_tokens=48,
)

RANDOM_MODELS: dict[str, dict[str, Any]] = {
    "tiny-llama": {
        "kind": "llama",
        "vocab_size": 512,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    },
    "small-llama": {
        "kind": "llama",
        "vocab_size": 8192,
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    },
    "smollm2-135m": {
        "kind": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "qwen2-1.5b": {
        "kind": "qwen2",
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
    },
}


@dataclass(frozen=True, kw_only=True)
class Side:
    """One program under measurement, in a process of its own."""

    module: str
    side: str
    trl: str | None = None
    """The version of TRL in whose environment it runs; None: Plaudit's own."""
    options: dict[str, Any] = field(default_factory=dict)


OUR_DEPTH = {"depth": "default"}
FULL_DEPTH = {"depth": "full"}
LONG = {"limit": "long_limit"}
BFLOAT16 = {"decoding_dtype": "bfloat16"}
SEVERAL = {"asked": "several_prompts"}
QUEUE = {"asked": "many_prompts"}
QUEUED = 4
"""Times the rows that are generated at a time, in the rows of generation in which prompts wait."""
ANSWERS = 4
"""To each prompt in the rows of generation that are as Act II: so many times fewer prompts, and as many rows."""
SIDES: dict[str, Side] = {
    "ppo": Side(module="ours", side="ppo", options=OUR_DEPTH),
    "ppo_full_depth": Side(module="ours", side="ppo", options=FULL_DEPTH),
    "trl_ppo": Side(module="peers.trl_ppo", side="ppo", trl="1.12.0"),
    "trl_ppo_lora": Side(module="peers.trl_ppo", side="ppo", trl="1.12.0", options={"lora": True}),
    "trl_ppo_tuned": Side(module="peers.trl_ppo", side="ppo", trl="1.12.0", options={"tuned": True}),
    "trl_ppo_tuned_lora": Side(module="peers.trl_ppo", side="ppo", trl="1.12.0", options={"lora": True, "tuned": True}),
    "generate": Side(module="ours", side="generation"),
    "generate_bfloat16": Side(module="ours", side="generation", options=BFLOAT16),
    "hf_generate": Side(module="peers.hf_generate", side="generation"),
    "hf_generate_bfloat16": Side(module="peers.hf_generate", side="generation", options=BFLOAT16),
    "hf_continuous": Side(module="peers.hf_generate", side="continuous"),
    "generate_long": Side(module="ours", side="generation", options=LONG),
    "generate_long_bfloat16": Side(module="ours", side="generation", options=LONG | BFLOAT16),
    "hf_generate_long": Side(module="peers.hf_generate", side="generation", options=LONG),
    "generate_several": Side(module="ours", side="generation", options=SEVERAL),
    "generate_several_bfloat16": Side(module="ours", side="generation", options=SEVERAL | BFLOAT16),
    "hf_generate_several": Side(module="peers.hf_generate", side="generation", options=SEVERAL),
    "generate_several_long": Side(module="ours", side="generation", options=SEVERAL | LONG),
    "generate_several_long_bfloat16": Side(module="ours", side="generation", options=SEVERAL | LONG | BFLOAT16),
    "hf_generate_several_long": Side(module="peers.hf_generate", side="generation", options=SEVERAL | LONG),
    "generate_queue": Side(module="ours", side="generation", options=QUEUE),
    "generate_queue_bfloat16": Side(module="ours", side="generation", options=QUEUE | BFLOAT16),
    "hf_generate_queue": Side(module="peers.hf_generate", side="generation", options=QUEUE),
    "ppo_memory": Side(module="ours", side="ppo_memory", options=OUR_DEPTH),
    "sft_memory": Side(module="ours", side="sft_memory", options=OUR_DEPTH),
    "sft": Side(module="ours", side="sft", options=OUR_DEPTH),
    "sft_full_depth": Side(module="ours", side="sft", options=FULL_DEPTH),
    "trl_sft": Side(module="peers.trl_trainers", side="sft", trl="1.16.0"),
    "reward": Side(module="ours", side="reward", options=OUR_DEPTH),
    "reward_full_depth": Side(module="ours", side="reward", options=FULL_DEPTH),
    "trl_reward": Side(module="peers.trl_trainers", side="reward", trl="1.16.0"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """Rows whose sides take turns."""

    unit: str
    sizes: tuple[str, ...]
    """Which of the scale's sizes its rows show."""

    @property
    def lower_is_better(self) -> bool:
        return self.unit in ("s/update", "GB")


USEFUL = "useful tokens/s"
PPO = Family(unit="s/update", sizes=("batch", "prompt", "response", "epochs", "micro_batch", "updates"))
GENERATION, GENERATION_SEVERAL, GENERATION_QUEUE = (
    Family(unit=USEFUL, sizes=("generation_batch", "prompt", "generation_limit", "generation_calls")) for _ in range(3)
)
GENERATION_LONG, GENERATION_SEVERAL_LONG = (
    Family(unit=USEFUL, sizes=("generation_batch", "prompt", "long_limit", "generation_calls")) for _ in range(2)
)
MEMORY = Family(unit="GB", sizes=("batch", "prompt", "response", "micro_batch", "examples"))
SFT = Family(unit="training tokens/s", sizes=("examples", "training_batch"))
REWARD = Family(unit="training tokens/s", sizes=("examples", "training_batch", "max_tokens"))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    name: str
    family: Family
    ours: str
    peer: str
    about: tuple[str, str]
    """In words: our side, the peer's."""


LORA = "LoRA r=16"
TUNED = "logits of response tokens alone, drawn log-probs kept instead of all scores, no hidden states, no cache"
TRL_PPO = "TRL 1.12.0, full fine-tune (its default)"
TRL_LORA = f"TRL 1.12.0, peft {LORA} on policy and value, all layers"
TRL_16 = f"TRL 1.16.0, peft {LORA}, all layers"
OURS, OURS_FULL = f"{LORA} above two thirds of the layers", f"{LORA}, all layers"
ROWS: tuple[Row, ...] = (
    Row(name="ppo_update", family=PPO, ours="ppo", peer="trl_ppo", about=(OURS, TRL_PPO)),
    Row(name="ppo_update_trl_lora", family=PPO, ours="ppo", peer="trl_ppo_lora", about=(OURS, TRL_LORA)),
    Row(name="ppo_update_full_depth", family=PPO, ours="ppo_full_depth", peer="trl_ppo", about=(OURS_FULL, TRL_PPO)),
    Row(
        name="ppo_update_full_depth_trl_lora",
        family=PPO,
        ours="ppo_full_depth",
        peer="trl_ppo_lora",
        about=(OURS_FULL, TRL_LORA),
    ),
    Row(
        name="ppo_update_trl_tuned",
        family=PPO,
        ours="ppo",
        peer="trl_ppo_tuned",
        about=(OURS, f"{TRL_PPO}; patched: {TUNED}"),
    ),
    Row(
        name="ppo_update_trl_tuned_lora",
        family=PPO,
        ours="ppo",
        peer="trl_ppo_tuned_lora",
        about=(OURS, f"{TRL_LORA}; patched: {TUNED}"),
    ),
    Row(
        name="generation",
        family=GENERATION,
        ours="generate",
        peer="hf_generate",
        about=("plaudit.models.generate", "transformers' generate"),
    ),
    Row(
        name="generation_bfloat16",
        family=GENERATION,
        ours="generate_bfloat16",
        peer="hf_generate_bfloat16",
        about=("plaudit.models.generate, products in bfloat16", "transformers' generate, all in bfloat16"),
    ),
    Row(
        name="generation_bfloat16_for_float32",
        family=GENERATION,
        ours="generate_bfloat16",
        peer="hf_generate",
        about=("plaudit.models.generate, products in bfloat16", "transformers' generate in float32"),
    ),
    Row(
        name="generation_continuous",
        family=GENERATION,
        ours="generate",
        peer="hf_continuous",
        about=("plaudit.models.generate", "transformers' continuous batching (generate_batch)"),
    ),
    Row(
        name="generation_long",
        family=GENERATION_LONG,
        ours="generate_long",
        peer="hf_generate_long",
        about=("plaudit.models.generate", "transformers' generate"),
    ),
    Row(
        name="generation_long_bfloat16_for_float32",
        family=GENERATION_LONG,
        ours="generate_long_bfloat16",
        peer="hf_generate_long",
        about=("plaudit.models.generate, products in bfloat16", "transformers' generate in float32"),
    ),
    Row(
        name="generation_several",
        family=GENERATION_SEVERAL,
        ours="generate_several",
        peer="hf_generate_several",
        about=(f"plaudit.models.generate, {ANSWERS} answers a prompt", "transformers' generate"),
    ),
    Row(
        name="generation_several_bfloat16_for_float32",
        family=GENERATION_SEVERAL,
        ours="generate_several_bfloat16",
        peer="hf_generate_several",
        about=(
            f"plaudit.models.generate, {ANSWERS} answers a prompt, products in bfloat16",
            "transformers' generate in float32",
        ),
    ),
    Row(
        name="generation_several_long",
        family=GENERATION_SEVERAL_LONG,
        ours="generate_several_long",
        peer="hf_generate_several_long",
        about=(f"plaudit.models.generate, {ANSWERS} answers a prompt", "transformers' generate"),
    ),
    Row(
        name="generation_several_long_bfloat16_for_float32",
        family=GENERATION_SEVERAL_LONG,
        ours="generate_several_long_bfloat16",
        peer="hf_generate_several_long",
        about=(
            f"plaudit.models.generate, {ANSWERS} answers a prompt, products in bfloat16",
            "transformers' generate in float32",
        ),
    ),
    Row(
        name="generation_queue",
        family=GENERATION_QUEUE,
        ours="generate_queue",
        peer="hf_generate_queue",
        about=("plaudit.models.generate, prompts waiting for a row", "transformers' generate, batch after batch"),
    ),
    Row(
        name="generation_queue_bfloat16_for_float32",
        family=GENERATION_QUEUE,
        ours="generate_queue_bfloat16",
        peer="hf_generate_queue",
        about=(
            "plaudit.models.generate, prompts waiting for a row, products in bfloat16",
            "transformers' generate in float32, batch after batch",
        ),
    ),
    Row(
        name="ppo_memory_as_sft",
        family=MEMORY,
        ours="ppo_memory",
        peer="sft_memory",
        about=(f"PPO, {LORA} above two thirds of the layers", "our own SFT, the same depth and tokens at a time"),
    ),
    Row(name="sft", family=SFT, ours="sft_full_depth", peer="trl_sft", about=(OURS_FULL, TRL_16)),
    Row(name="sft_default_depth", family=SFT, ours="sft", peer="trl_sft", about=(OURS, TRL_16)),
    Row(name="reward", family=REWARD, ours="reward_full_depth", peer="trl_reward", about=(OURS_FULL, TRL_16)),
    Row(name="reward_default_depth", family=REWARD, ours="reward", peer="trl_reward", about=(OURS, TRL_16)),
)
