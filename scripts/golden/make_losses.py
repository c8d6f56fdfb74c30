#!/usr/bin/env python3
"""Three steps of every loss that TRL has, from one adapter on the same pairs, to test/golden/losses.json.

Kept per loss: the settings that differ, TRL's records, and per adapter tensor the norm at the end and how far it moved.
Micro-batches of 3, 2 to a step: losses that look at a whole micro-batch (aot, aot_unpaired, sft) show it.
"""
import os, shutil, tempfile
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer
from golden_io import GOLDEN, ROOT, write_json
from trl_dpo import describe_examples, load_policy, make_trainer, read_rows, save_adapter, versions, without_clock

COMMON = {
    "model": "test/golden/models/f16-one-kv", "dataset": "test/golden/data/losses.jsonl",
    "eval_dataset": "test/golden/data/plain-eval.jsonl", "prompt_template": "none", "max_length": 256,
    "lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0,
             "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]},
    "beta": 0.1, "learning_rate": 1e-2, "lr_scheduler_type": "constant", "per_device_train_batch_size": 3,
    "per_device_eval_batch_size": 3, "gradient_accumulation_steps": 2, "num_train_epochs": 1, "optim": "adamw",
    "weight_decay": 0, "eval_strategy": "steps", "eval_steps": 3, "logging_steps": 1, "shuffle": False, "seed": 9,
}
CASES = {
    "sigmoid": {"loss_type": "sigmoid"},
    "hinge": {"loss_type": "hinge"},
    "ipo": {"loss_type": "ipo"},
    "sigmoid_norm": {"loss_type": "sigmoid_norm", "beta": 2.0},
    "robust": {"loss_type": "robust", "label_smoothing": 0.1},
    "exo_pair": {"loss_type": "exo_pair", "label_smoothing": 0.05},
    "nca_pair": {"loss_type": "nca_pair"},
    "bco_pair": {"loss_type": "bco_pair"},
    "sppo_hard": {"loss_type": "sppo_hard"},
    "apo_zero": {"loss_type": "apo_zero"},
    "apo_down": {"loss_type": "apo_down"},
    "discopop": {"loss_type": "discopop"},
    "discopop-tau-0.2": {"loss_type": "discopop", "discopop_tau": 0.2},
    "aot": {"loss_type": "aot"},
    "aot-smoothed": {"loss_type": "aot", "label_smoothing": 0.1},
    "aot_unpaired": {"loss_type": "aot_unpaired"},
    "aot_unpaired-smoothed": {"loss_type": "aot_unpaired", "label_smoothing": 0.1},
    "sft": {"loss_type": "sft"},
    "sigmoid-forward_kl": {"loss_type": "sigmoid", "f_divergence_type": "forward_kl"},
    "sigmoid-js_divergence": {"loss_type": "sigmoid", "f_divergence_type": "js_divergence"},
    "sigmoid-alpha_divergence": {"loss_type": "sigmoid", "f_divergence_type": "alpha_divergence"},
    "sigmoid-alpha_divergence-1.5": {"loss_type": "sigmoid", "f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 1.5},
    "hinge-forward_kl": {"loss_type": "hinge", "f_divergence_type": "forward_kl"},
    "ipo-js_divergence": {"loss_type": "ipo", "f_divergence_type": "js_divergence"},
    "sigmoid-ld_alpha": {"loss_type": "sigmoid", "ld_alpha": 0.4},
    "ipo-ld_alpha-0": {"loss_type": "ipo", "ld_alpha": 0.0},
    "aot-ld_alpha": {"loss_type": "aot", "ld_alpha": 0.4},
    "sigmoid+sft": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1, 0.2]},
    "sigmoid+bco_pair+sft": {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]},
    "sigmoid+hinge": {"loss_type": ["sigmoid", "hinge"]},
}


def adapter_tensors(model, folder):
    save_adapter(model, folder)
    return load_file(os.path.join(folder, "adapter_model.safetensors"))


def run_case(settings, tokenizer, initial_dir):
    config = {**COMMON, **settings}
    local = lambda path: str(ROOT / path)
    model = load_policy(config, local)
    initial = load_file(os.path.join(initial_dir, "adapter_model.safetensors"))
    scratch = tempfile.mkdtemp()
    start = adapter_tensors(model, scratch)
    assert all(torch.equal(initial[name], start[name]) for name in initial)
    trainer = make_trainer(config, model, tokenizer, read_rows(local(config["dataset"]), "none"),
                           read_rows(local(config["eval_dataset"]), "none"), scratch)
    trainer.train()
    final = adapter_tensors(model, scratch)
    shutil.rmtree(scratch)
    size = lambda tensor: tensor.double().norm().item()
    return {"settings": settings, "log": [without_clock(r) for r in trainer.state.log_history],
            "final_norms": {name: size(final[name]) for name in sorted(final)},
            "moved_norms": {name: size(final[name].double() - initial[name].double()) for name in sorted(final)}}


def main():
    torch.set_num_threads(1); os.chdir(ROOT)
    local = lambda path: str(ROOT / path)
    tokenizer = AutoTokenizer.from_pretrained(local(COMMON["model"]))
    initial_dir = str(GOLDEN / "losses-initial-adapter")
    save_adapter(load_policy(COMMON, local), initial_dir)
    cases = {name: run_case(settings, tokenizer, initial_dir) for name, settings in CASES.items()}
    trainer = make_trainer(COMMON, load_policy(COMMON, local), tokenizer, read_rows(local(COMMON["dataset"]), "none"),
                           read_rows(local(COMMON["eval_dataset"]), "none"), tempfile.mkdtemp())
    write_json(GOLDEN / "losses.json", {
        "config": COMMON, "versions": versions(), "cases": cases,
        "examples": describe_examples(trainer.train_dataset, trainer.model, COMMON["max_length"], True),
        "eval_examples": describe_examples(trainer.eval_dataset, trainer.model, COMMON["max_length"], True)})


if __name__ == "__main__":
    main()
