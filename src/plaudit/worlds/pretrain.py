"""Rebuilds the base model: `python -m plaudit.worlds.pretrain OUT`, about ten minutes on two cores.

Text of all voices (chats), plain statements of every fact, and sums; one pass over fresh text.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from plaudit.worlds import facts
from plaudit.worlds.language import LARGEST, draw_prompt
from plaudit.worlds.voices import CORPUS

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 20
STEPS = 4600
DOCUMENTS_PER_STEP = 64
PEAK_RATE = 4e-3
WARM_UP = 100
VOCABULARY = 1280
TOKENIZER_DOCUMENTS = 60_000
WIDTH, LAYERS = 128, 4
CHAT_SHARE = 0.65
"""The rest is plain text: three quarters of it statements of facts, one quarter sums."""

PAD, END = "<|pad|>", "<|end|>"
ANSWER = "<|assistant|>"
SPECIAL = (PAD, END, "<|system|>", "<|user|>", ANSWER)
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def statement(rng: Random) -> str:
    """One plain sentence that is true: any recorded fact, those that splits hold out among them, or a sum."""
    if rng.random() < 0.25:
        a, b = rng.randint(1, LARGEST), rng.randint(1, LARGEST)
        return f"{a} plus {b} is {a + b}."
    attribute, thing = rng.choice(facts.pairs(True))
    text = rng.choice(facts.ATTRIBUTE[attribute].statements).format(x=thing, v=facts.value_of(attribute, thing))
    return text[0].upper() + text[1:]


def chat(rng: Random) -> tuple[str, str]:
    """A prompt of the pre-training part and an answer in any voice of the corpus."""
    ask, text = draw_prompt(rng, "pretraining")
    return text, CORPUS.answer(rng, ask)


def documents(seed: int) -> Iterator[str]:
    """The corpus without end, one marked-up document at a time."""
    rng = Random(f"pretraining {seed}")
    while True:
        if rng.random() < CHAT_SHARE:
            question, answer = chat(rng)
            yield f"<|user|>{question}{END}<|assistant|>{answer}{END}"
        else:
            yield statement(rng) + END


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text can be written in it, and frequent words of the world are one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw: Any = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator((piece for text in texts for piece in _without_marks(text)), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(SPECIAL[2:]),
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _without_marks(text: str) -> list[str]:
    for mark in SPECIAL:
        text = text.replace(mark, "\n")
    return [piece for piece in text.split("\n") if piece]


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    pad: Any = tokenizer.pad_token_id
    end: Any = tokenizer.eos_token_id
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=pad,
        eos_token_id=end,
        bos_token_id=None,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=WIDTH // 32,
        intermediate_size=352,
    )
    return LlamaForCausalLM(config)


def _rate(step: int, steps: int) -> float:
    return min((step + 1) / WARM_UP, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int) -> None:
    """One pass of AdamW over `steps` fresh batches; a line of progress to stderr now and then."""
    import torch

    network: Any = model
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    corpus = documents(SEED)
    pad: Any = tokenizer.pad_token_id
    answer: Any = tokenizer.convert_tokens_to_ids(ANSWER)
    start, running = time.monotonic(), 0.0
    network.train()
    for step in range(steps):
        texts = [next(corpus) for _ in range(DOCUMENTS_PER_STEP)]
        encoded: Any = tokenizer(texts)
        loss_sum, count = 0.0, sum(len(ids) - first_learnt(ids, answer) for ids in encoded["input_ids"])
        # Halves of similar lengths: hardly any padding is computed.
        rows: list[list[int]] = sorted(encoded["input_ids"], key=len)
        for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            loss = _loss_sum(network, half, answer, pad) / count
            loss.backward()
            loss_sum += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        running = loss_sum if step == 0 else 0.98 * running + 0.02 * loss_sum
        if step % 250 == 0 or step == steps - 1:
            sys.stderr.write(f"step {step} loss {running:.3f} {time.monotonic() - start:.0f} s\n")
    network.eval()


def first_learnt(row: list[int], answer: int) -> int:
    """The first token that is learnt: of a chat that of the answer, of a statement the second."""
    return row.index(answer) + 1 if answer in row else 1


def _loss_sum(network: Any, rows: list[list[int]], answer: int, pad: int) -> Any:
    """Summed cross-entropy of the learnt tokens."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    lengths, starts = torch.tensor([[len(row), first_learnt(row, answer)] for row in rows]).T
    places = torch.arange(width)
    learnt = ((places >= starts[:, None]) & (places < lengths[:, None]))[:, 1:]
    # Padding is on the right: under causal attention no real token sees it, so no attention mask is needed.
    hidden = network.model(ids[:, :-1]).last_hidden_state[learnt]
    return torch.nn.functional.cross_entropy(network.lm_head(hidden).float(), ids[:, 1:][learnt], reduction="sum")


def build(out: Path, steps: int = STEPS) -> None:
    """Writes a Hugging Face folder: configuration, weights, tokenizer with chat template."""
    corpus = documents(SEED + 1)
    tokenizer = build_tokenizer([next(corpus) for _ in range(TOKENIZER_DOCUMENTS)])
    model = build_model(tokenizer)
    train(model, tokenizer, steps)
    generation: Any = model.generation_config
    generation.pad_token_id, generation.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python -m plaudit.worlds.pretrain OUT [STEPS]")
    build(Path(sys.argv[1]), *map(int, sys.argv[2:]))
