#!/usr/bin/env python3
"""Greedy answers of the golden models and of twin-tiny by transformers, in float32, with and without an adapter.

Written to test/golden/: generate.json has prompts, tokens and texts, generate.safetensors the logits of the first two
tokens of each first prompt. At every step the best token leads the second by more than MARGIN, so that rounding elsewhere
cannot make another answer.
"""
import os
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from golden_io import GOLDEN, ROOT, TEST_ROWS, read_jsonl, write_json
from trl_dpo import versions

MODELS = {
    "mha-tied": ("test/golden/models/mha-tied", "test/golden/runs/mha-tied-uneven/final_adapter", "alpaca"),
    "gqa-llama3": ("test/golden/models/gqa-llama3", "test/golden/runs/gqa-llama3-long/final_adapter", "chat"),
    "f16-one-kv": ("test/golden/models/f16-one-kv", "test/golden/runs/f16-one-kv-gate/final_adapter", "alpaca"),
    "twin-tiny": ("examples/twin-tiny/model", "test/golden/twin-tiny/final_adapter", "alpaca"),
}
PROMPT_TEMPLATES = {
    "alpaca": "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
              "### Instruction:\n{}\n\n### Response:\n",
    "none": "{}",
}
MAX_NEW_TOKENS = 24
LOGGED_STEPS = 2
MARGIN = 1e-3


def prompts(template):
    """A question in the model's template, letters of several bytes, and a text longer than a chunk of the prompt."""
    long_text = " ".join(row["prompt"] + " " + row["chosen"] for row in read_jsonl(TEST_ROWS)[:8])
    return [(template, "Write a paragraph to introduce supervised fine-tuning."), ("none", "Größe: 你好 🦙 "), ("none", long_text)]


def encode(tokenizer, template, prompt):
    if template == "chat":
        messages = [{"role": "user", "content": prompt}]
        return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    return tokenizer(PROMPT_TEMPLATES[template].replace("{}", prompt))["input_ids"]


def answer(model, tokenizer, ids):
    with torch.no_grad():
        out = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
                             max_new_tokens=MAX_NEW_TOKENS, return_dict_in_generate=True, output_logits=True)
    logits = torch.stack([step[0] for step in out.logits])
    best = logits.topk(2).values
    margin = (best[:, 0] - best[:, 1]).min().item()
    tokens = out.sequences[0, len(ids):].tolist()
    assert margin > MARGIN and logits.argmax(-1).tolist() == tokens, margin
    return tokens, logits, margin


def main():
    torch.set_num_threads(1); os.chdir(ROOT)
    cases, logged = [], {}
    for name, (folder, adapter, template) in MODELS.items():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for adapter_folder in (None, adapter):
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
            if adapter_folder: model = PeftModel.from_pretrained(model, adapter_folder).eval()
            for number, (prompt_template, prompt) in enumerate(prompts(template)):
                ids = encode(tokenizer, prompt_template, prompt)
                tokens, logits, margin = answer(model, tokenizer, ids)
                if number == 0: logged[f"{name}/{'adapter' if adapter_folder else 'base'}"] = logits[:LOGGED_STEPS].clone()
                cases.append({"name": name, "model": folder, "adapter": adapter_folder, "prompt_template": prompt_template, "prompt": prompt,
                              "prompt_ids": ids, "new_tokens": tokens, "text": tokenizer.decode(tokens, skip_special_tokens=True),
                              "smallest_margin": margin})
    for name in MODELS:
        base, adapted = ([case["new_tokens"] for case in cases if case["name"] == name and bool(case["adapter"]) is on] for on in (False, True))
        print(name, "answers that the adapter changes:", sum(a != b for a, b in zip(base, adapted)), "of", len(base))
        assert (logged[f"{name}/base"][0] - logged[f"{name}/adapter"][0]).abs().max() > 0.01
    write_json(GOLDEN / "generate.json", {"versions": versions(), "max_new_tokens": MAX_NEW_TOKENS, "cases": cases})
    save_file(logged, GOLDEN / "generate.safetensors", metadata={"format": "pt"}); os.chmod(GOLDEN / "generate.safetensors", 0o644)


if __name__ == "__main__":
    main()
