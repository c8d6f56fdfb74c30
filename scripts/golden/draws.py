"""Golden values for src/random, src/data/split.ts, shuffle.ts and microbatches.ts, from torch, numpy, datasets, PEFT and TRL.

    pip install torch==2.13.0 trl==1.13.0 peft==0.21.0 transformers==5.18.0
    python scripts/golden/draws.py > test/random/golden/draws.jsonl

One JSON object a line, named by its `kind`; the first line gives the versions. Long sequences are kept as the SHA-256 of their little-endian bytes, 4 bytes an element.
"""
import contextlib, hashlib, json, math, os, pathlib, sys, tempfile
os.environ["HF_HUB_OFFLINE"] = "1"
import accelerate, datasets, numpy, peft, torch, transformers, trl
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import DPOConfig, DPOTrainer

MODEL = pathlib.Path(__file__).parents[2] / "examples" / "twin-tiny" / "model"
PROJECTIONS = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split()


def digest(values, dtype):
    return hashlib.sha256(numpy.ascontiguousarray(values, dtype=dtype).tobytes()).hexdigest()


def short_or_digest(values):
    return values if len(values) <= 16 else digest(values, "<u4")


def mt19937(seed):
    """Draws modulo 2^27: over a wider range torch would take 64 bits for each."""
    draws = torch.empty(2000, dtype=torch.int64).random_(0, 2**27, generator=torch.Generator().manual_seed(seed)).tolist()
    return {"seed": seed, "first": draws[:4], "sha256": digest(draws, "<u4")}


def permutation(n, seed):
    return {"n": n, "seed": seed, "order": short_or_digest(torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist())}


def split(n, test_size, seed):
    parts = Dataset.from_dict({"i": list(range(n))}).train_test_split(test_size=test_size, seed=seed)
    return {"n": n, "test_size": test_size, "seed": seed, "train": short_or_digest(list(parts["train"]["i"])), "test": short_or_digest(list(parts["test"]["i"]))}


def kaiming(rows, fan_in, seed):
    torch.manual_seed(seed)
    tensor = torch.nn.init.kaiming_uniform_(torch.empty(rows, fan_in), a=math.sqrt(5))
    return {"rows": rows, "fan_in": fan_in, "seed": seed, "sha256": digest(tensor.numpy(), "<f4")}


def peft_init(seed, rank, targets):
    set_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=rank, target_modules=targets))
    modules = []
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            a = module.lora_A["default"].weight
            modules.append({"name": name.removeprefix("base_model.model."), "in": module.in_features, "out": module.out_features,
                            "sha256": digest(a.detach().numpy(), "<f4")})
    return {"seed": seed, "rank": rank, "modules": modules}


class RecordingTrainer(DPOTrainer):
    """Records which rows each micro-batch holds, in place of training on them."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        in_prompt = inputs["attention_mask"].bool() & ~inputs["completion_mask"].bool()
        prompts = [tuple(ids[mask].tolist()) for ids, mask in zip(inputs["input_ids"], in_prompt)]
        self.seen.append([self.row_of[prompt] for prompt in prompts[: len(prompts) // 2]])
        return torch.tensor(0.0)


def schedule(pairs, batch, accumulation, seed, shuffle, **length):
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    rows = [{"prompt": f"{i:03d}", "chosen": "yes", "rejected": "no"} for i in range(pairs)]
    with tempfile.TemporaryDirectory() as folder:
        trainer = RecordingTrainer(
            model=model, processing_class=tokenizer, train_dataset=Dataset.from_list(rows),
            peft_config=LoraConfig(task_type="CAUSAL_LM", r=1, target_modules=["q_proj"]),
            args=DPOConfig(output_dir=folder, use_cpu=True, bf16=False, report_to="none", save_strategy="no", logging_steps=1,
                           disable_tqdm=True, gradient_checkpointing=False, per_device_train_batch_size=batch,
                           gradient_accumulation_steps=accumulation, seed=seed,
                           train_sampling_strategy="random" if shuffle else "sequential", **length))
        trainer.seen = []
        trainer.row_of = {tuple(row["prompt_ids"]): i for i, row in enumerate(trainer.train_dataset)}
        assert len(trainer.row_of) == pairs
        trainer.train()
    epochs = [record["epoch"] for record in trainer.state.log_history if "loss" in record]
    return {"pairs": pairs, "batch": batch, "accumulation": accumulation, "seed": seed, "shuffle": shuffle, **length,
            "total_steps": trainer.state.max_steps, "epochs": epochs, "micro_batches": trainer.seen}


def records():
    versions = {m.__name__: m.__version__ for m in (torch, numpy, datasets, accelerate, transformers, peft, trl)}
    yield {"kind": "versions", "script": "scripts/golden/draws.py", **versions}
    for seed in (0, 1, 42, 2**32 - 1, 2**32 + 5, 2**53 - 1):
        yield {"kind": "mt19937", **mt19937(seed)}
    for n, seed in [(0, 0), (1, 0), (2, 0), (3, 1), (10, 0), (16, 42), (381, 0), (381, 1), (65535, 3), (65536, 3), (65537, 3),
                    (300000, 2**32 + 7)]:
        yield {"kind": "permutation", **permutation(n, seed)}
    for n, size, seed in [(2, 0.5, 0), (2, 1, 0), (10, 0.05, 0), (16, 0.3, 42), (11, 5, 7), (381, 0.05, 0), (381, 0.05, 1),
                          (1000, 0.1, 2**32), (1000, 999, 2**32 - 1), (65537, 0.29, 3), (100000, 0.05, 2**53 - 1)]:
        yield {"kind": "split", **split(n, size, seed)}
    for rows, fan_in, seed in [(1, 1, 0), (3, 7, 1), (16, 192, 0), (5, 513, 2), (32, 14336, 3), (7, 3, 2**32 - 1)]:
        yield {"kind": "kaiming", **kaiming(rows, fan_in, seed)}
    yield {"kind": "peft_init", **peft_init(0, 16, PROJECTIONS)}
    yield {"kind": "peft_init", **peft_init(123, 3, ["q_proj", "v_proj", "down_proj"])}
    yield {"kind": "schedule", **schedule(13, 2, 3, 0, True, num_train_epochs=2)}
    yield {"kind": "schedule", **schedule(13, 2, 3, 1, True, num_train_epochs=2.5)}
    yield {"kind": "schedule", **schedule(13, 2, 3, 7, False, num_train_epochs=1.1)}
    yield {"kind": "schedule", **schedule(8, 2, 4, 42, True, num_train_epochs=0.5)}
    yield {"kind": "schedule", **schedule(16, 2, 2, 42, True, num_train_epochs=0.3)}
    yield {"kind": "schedule", **schedule(5, 8, 4, 3, True, max_steps=3)}
    yield {"kind": "schedule", **schedule(13, 3, 2, 3, True, max_steps=4)}
    yield {"kind": "schedule", **schedule(1, 1, 1, 0, True, num_train_epochs=3)}
    yield {"kind": "schedule", **schedule(7, 1, 1, 5, False, max_steps=9)}


# TRL prints while it trains; only the records go to standard output.
with contextlib.redirect_stdout(sys.stderr):
    lines = [json.dumps(record) for record in records()]
print("\n".join(lines))
