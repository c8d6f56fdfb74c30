#!/usr/bin/env python3
"""Run a DPO config through Hugging Face TRL on the CPU in float32 and write what happened, as a reference to test against.

    python trl_dpo.py CONFIG.yaml OUT_DIR [--merge] [--token-logps] [--override key=value ...]

CONFIG.yaml uses the keys of `dpo-train` (which are TRL's and PEFT's own names). Its paths are relative to its folder or,
where nothing is there, to the working directory. Rows are trained in file order unless it says `shuffle: true`.
Writes to OUT_DIR:
    oracle.json          versions, the tokenized examples in file order with the reference's log-probabilities (also per
                         completion token with --token-logps), and every record that TRL logged (train steps and
                         evaluations). With shuffle, `order`: per epoch, the indices into `examples` in training order.
    initial_adapter/     the PEFT adapter before the first step (lora_B = 0, or init_adapter's weights): start from it to
                         reproduce the run
    final_adapter/       the PEFT adapter after the last step
    merged/              with --merge: the merged model in bfloat16, as save_pretrained writes it
What depends on the clock or the machine's folders is left out of all files.
"""
import argparse, json, os, platform, shutil, tempfile
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
import datasets, peft, torch, transformers, trl, yaml
from datasets import Dataset
from peft import LoraConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import DPOConfig, DPOTrainer
from golden_io import read_jsonl, write_json

PROMPT_TEMPLATES = {
    "alpaca": "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
              "### Instruction:\n{}\n\n### Response:\n",
    "none": "{}",
}
TRAINING_KEYS = ("beta loss_type label_smoothing learning_rate lr_scheduler_type warmup_steps per_device_train_batch_size "
                 "per_device_eval_batch_size gradient_accumulation_steps num_train_epochs max_steps optim weight_decay "
                 "max_grad_norm eval_strategy eval_steps max_length seed precompute_ref_log_probs adam_beta1 adam_beta2 "
                 "adam_epsilon ld_alpha f_divergence_type f_alpha_divergence_coef discopop_tau loss_weights").split()
EXAMPLE_KEYS = ("prompt_ids", "chosen_ids", "rejected_ids")
CLOCK_KEYS = ("runtime", "samples_per_second", "steps_per_second")


def read_rows(path, template):
    rows = read_jsonl(path) if path.endswith(".jsonl") else json.load(open(path, encoding="utf-8"))
    return [format_row(row, template) for row in rows]


def format_row(row, template):
    if not isinstance(row["prompt"], str): return row
    if template == "chat":
        return {"prompt": [{"role": "user", "content": row["prompt"]}],
                **{side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")}}
    return {"prompt": PROMPT_TEMPLATES[template].replace("{}", row["prompt"]), "chosen": row["chosen"], "rejected": row["rejected"]}


def load_policy(config, local):
    """The base model in float32 with the run's adapter: fresh from the seed, or init_adapter's."""
    set_seed(config.get("seed", 0))
    model = AutoModelForCausalLM.from_pretrained(local(config["model"]), dtype=torch.float32, attn_implementation="eager")
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **config["lora"]))
    if config.get("init_adapter"):
        set_peft_model_state_dict(model, load_peft_weights(local(config["init_adapter"]), device="cpu"))
    return model


def make_trainer(config, model, tokenizer, train, test, output_dir, trainer_class=DPOTrainer):
    training = {key: config[key] for key in TRAINING_KEYS if key in config}
    training.setdefault("optim", "adamw_torch")
    if training["optim"] in ("adamw", "adamw_8bit"): training["optim"] = "adamw_torch"
    if isinstance(training.get("eval_steps"), float) and training["eval_steps"] >= 1: training["eval_steps"] = int(training["eval_steps"])
    trainer = trainer_class(
        model=model, processing_class=tokenizer, train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(test) if test else None,
        args=DPOConfig(output_dir=output_dir, logging_steps=1, report_to="none", save_strategy="no",
                       train_sampling_strategy="random" if config.get("shuffle") else "sequential",
                       gradient_checkpointing=False, bf16=False, fp16=False, use_cpu=True, disable_tqdm=True, **training))
    # Given a PEFT model, TRL takes a copy of its adapter as the reference. The reference here is the bare base.
    model.delete_adapter("ref")
    return trainer


@torch.no_grad()
def reference_token_logps(model, example, side, max_length):
    """Log-probabilities of a completion's tokens under the base, cut to max_length; log-softmax in float64."""
    ids = (example["prompt_ids"] + example[side])[:max_length]
    x = torch.tensor([ids])
    with model.disable_adapter():
        logp = torch.log_softmax(model(input_ids=x).logits[0, :-1].double(), -1)
    picked = logp[torch.arange(len(ids) - 1), x[0, 1:]]
    return picked[len(example["prompt_ids"]) - 1:]


def describe_examples(dataset, model, max_length, token_logps):
    examples = []
    for row in dataset:
        example = {key: row[key] for key in EXAMPLE_KEYS}
        per_token = {side: reference_token_logps(model, example, f"{side}_ids", max_length) for side in ("chosen", "rejected")}
        for side, logps in per_token.items(): example[f"ref_{side}_logps"] = logps.sum().item()
        if token_logps:
            for side, logps in per_token.items():
                example[f"ref_{side}_token_logps"] = [float(f"{value:.9g}") for value in logps.tolist()]
        examples.append(example)
    return examples


def record_order(trainer):
    """Note which examples each training batch is made of. Only for datasets without equal rows."""
    key = lambda example: tuple(tuple(example[k]) for k in EXAMPLE_KEYS)
    index = {key(example): i for i, example in enumerate(trainer.train_dataset)}
    assert len(index) == len(trainer.train_dataset), "two examples have the same tokens"
    order, collate = [], trainer.data_collator
    def recording(batch):
        order.extend(index[key(example)] for example in batch)
        return collate(batch)
    trainer.data_collator = recording
    return order


def save_adapter(model, folder):
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "README.md"))           # PEFT's empty model card
    path = os.path.join(folder, "adapter_config.json")
    config = json.load(open(path))
    config["target_modules"] = sorted(config["target_modules"])   # a set: its order changes from run to run
    config["base_model_name_or_path"] = os.path.relpath(config["base_model_name_or_path"])
    with open(path, "w") as file: file.write(json.dumps(config, indent=2, sort_keys=True) + "\n")
    os.chmod(os.path.join(folder, "adapter_model.safetensors"), 0o644)


def without_clock(record):
    return {key: value for key, value in record.items() if not key.endswith(CLOCK_KEYS)}


def versions():
    return {m.__name__: m.__version__ for m in (torch, transformers, peft, trl, datasets)} | {"python": platform.python_version()}


def resolver(config_path):
    base = os.path.dirname(os.path.abspath(config_path))
    def local(path):
        beside = os.path.normpath(os.path.join(base, path))
        return beside if os.path.isabs(path) or os.path.exists(beside) else os.path.abspath(path)
    return local


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("config"); parser.add_argument("out_dir")
    parser.add_argument("--merge", action="store_true")
    parser.add_argument("--token-logps", action="store_true")
    parser.add_argument("--override", nargs="*", default=[])
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = yaml.safe_load(open(args.config))
    for item in args.override:
        key, value = item.split("=", 1); config[key] = yaml.safe_load(value)
    local = resolver(args.config)
    template = config.get("prompt_template", "none")

    tokenizer = AutoTokenizer.from_pretrained(local(config["model"]))
    model = load_policy(config, local)
    out = lambda name: os.path.join(args.out_dir, name)
    os.makedirs(args.out_dir, exist_ok=True)
    save_adapter(model, out("initial_adapter"))
    train = read_rows(local(config["dataset"]), template)
    test = read_rows(local(config["eval_dataset"]), template) if config.get("eval_dataset") else None
    if config.get("max_train_samples"): train = train[: config["max_train_samples"]]

    scratch = tempfile.mkdtemp()
    trainer = make_trainer(config, model, tokenizer, train, test, scratch)
    result = {"config": config, "versions": versions()}
    max_length = trainer.args.max_length
    result["examples"] = describe_examples(trainer.train_dataset, model, max_length, args.token_logps)
    if test: result["eval_examples"] = describe_examples(trainer.eval_dataset, model, max_length, args.token_logps)
    order = record_order(trainer) if config.get("shuffle") else None
    trainer.train()
    if order:
        per_epoch = len(trainer.train_dataset)
        result["order"] = [order[i : i + per_epoch] for i in range(0, len(order), per_epoch)]
    result["log"] = [without_clock(record) for record in trainer.state.log_history]
    save_adapter(model, out("final_adapter"))
    if args.merge:
        merged = model.merge_and_unload().to(torch.bfloat16)
        merged.save_pretrained(out("merged")); tokenizer.save_pretrained(out("merged"))
    shutil.rmtree(scratch)
    write_json(out("oracle.json"), result)


if __name__ == "__main__":
    main()
