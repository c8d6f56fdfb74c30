#!/usr/bin/env python3
"""Golden rotary tables: transformers' LlamaRotaryEmbedding in float32, to test/golden/rope.json.

    pip install torch==2.13.0 transformers==5.18.0
    python scripts/golden/rope.py

Each case holds the module's inverse frequencies and, for some positions, (cos, sin) of every pair as the model applies
them. Every number is a float32, written with all its digits.
"""
import torch
import transformers
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from golden_io import GOLDEN, write_json

POSITIONS = [0, 1, 63, 1000, 8191, 8192, 100_000, 131_071]
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
CASES = {
    "default": {"rope_type": "default", "rope_theta": 10_000.0},
    "llama3": {**LLAMA3, "rope_theta": 500_000.0, "original_max_position_embeddings": 8192},
    "llama3, short context": {**LLAMA3, "rope_theta": 10_000.0, "original_max_position_embeddings": 64},
}


def golden(rope_parameters, head_dim):
    config = LlamaConfig(head_dim=head_dim, max_position_embeddings=131_072, rope_parameters=dict(rope_parameters))
    module = LlamaRotaryEmbedding(config)
    assert module.attention_scaling == 1.0
    cos, sin = module(torch.zeros(1, dtype=torch.float32), torch.tensor([POSITIONS]))
    half = head_dim // 2  # the second half of each row repeats the first
    assert torch.equal(cos[..., :half], cos[..., half:]) and torch.equal(sin[..., :half], sin[..., half:])
    return {
        "inverse_frequencies": module.inv_freq.tolist(),
        "cos": cos[0, :, :half].tolist(),
        "sin": sin[0, :, :half].tolist(),
    }


write_json(GOLDEN / "rope.json", {
    "made_by": "scripts/golden/rope.py",
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    "positions": POSITIONS,
    "cases": [
        {"name": name, "head_dim": head_dim, "rope_parameters": parameters, **golden(parameters, head_dim)}
        for name, parameters in CASES.items() for head_dim in (10, 128)
    ],
})
