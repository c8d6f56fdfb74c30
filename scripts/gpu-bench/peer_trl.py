#!/usr/bin/env python3
"""Time the same DPO run with Hugging Face TRL + PEFT, to set beside dpo-train on the same machine.

    peer_trl.py MODEL_DIR PAIRS.jsonl OUT.json [--steps 6] [--tuned] [--batch 2] [--accumulation 8] [--max-length 1024]

Plain: the book's recipe (LoRA r=32 on all seven projections, beta 0.5, batch 2 x 8, bf16, gradient checkpointing as TRL
defaults). --tuned: the fastest that TRL offers for it here: no checkpointing, Liger kernels if importable, and the largest
batch that fits the card, the pairs of an optimizer step being the same. OUT.json, written anew after each step: seconds of
each optimizer step after the first, tokens TRL fed (padding excluded), peak bytes, and what did not fit or failed on the way.
"""
import argparse, gc, importlib.util, json, tempfile, time
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer
import transformers, trl

parser = argparse.ArgumentParser()
parser.add_argument("model"); parser.add_argument("pairs"); parser.add_argument("out")
parser.add_argument("--steps", type=int, default=6); parser.add_argument("--tuned", action="store_true")
parser.add_argument("--batch", type=int, default=2); parser.add_argument("--accumulation", type=int, default=8)
parser.add_argument("--max-length", type=int, default=1024); parser.add_argument("--rank", type=int, default=32)
args = parser.parse_args()
cuda = torch.cuda.is_available()
ALPACA = ("Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
          "### Instruction:\n{}\n\n### Response:\n")
pairs_per_step = args.batch * args.accumulation
tokenizer = AutoTokenizer.from_pretrained(args.model)
if tokenizer.pad_token is None: tokenizer.pad_token = tokenizer.eos_token
with open(args.pairs, encoding="utf-8") as file:
    rows = [json.loads(line) for line in file if line.strip()]
rows = (rows * (1 + args.steps * pairs_per_step // len(rows)))[: args.steps * pairs_per_step]
dataset = Dataset.from_list([{"prompt": ALPACA.format(r["prompt"]), "chosen": r["chosen"], "rejected": r["rejected"]} for r in rows])


def train(batch, liger, failed):
    """Trains, and writes what is known after each step."""
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16 if cuda else torch.float32,
                                                 attn_implementation="sdpa", device_map="cuda" if cuda else "cpu")
    model = get_peft_model(model, LoraConfig(r=args.rank, lora_alpha=args.rank, lora_dropout=0, task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))
    ends = []

    def write(complete, log):
        fed = [e["num_tokens"] for e in log if "num_tokens" in e]
        with open(args.out, "w") as out:
            json.dump({"complete": complete, "peer": "trl" + (" tuned" if args.tuned else "") + (" liger" if liger else ""),
                "batch": batch, "accumulation": pairs_per_step // batch, "gradient_checkpointing": not args.tuned,
                # Of steps 2, 3 and so on: the first one begins before it can be seen.
                "step_seconds": [b - a for a, b in zip(ends, ends[1:])],
                "tokens_fed_per_step": fed[-1] / len(fed) if fed else None,
                "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
                "peak_reserved_bytes": torch.cuda.max_memory_reserved() if cuda else None,
                "losses": [e["loss"] for e in log if "loss" in e], "failed": failed,
                "torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__,
                "device": torch.cuda.get_device_name() if cuda else "cpu"}, out, indent=1)

    class Clock(TrainerCallback):
        def on_step_end(self, _, state, *__, **___):
            if cuda: torch.cuda.synchronize()
            ends.append(time.perf_counter())
            write(False, state.log_history)
            print(f"step {len(ends)} of {args.steps}", flush=True)

    if cuda: torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as output:
        trainer = DPOTrainer(model=model, processing_class=tokenizer, train_dataset=dataset, callbacks=[Clock()], args=DPOConfig(
            output_dir=output, beta=0.5, learning_rate=2e-6, lr_scheduler_type="linear", warmup_steps=10, max_steps=args.steps,
            per_device_train_batch_size=batch, gradient_accumulation_steps=pairs_per_step // batch, max_length=args.max_length,
            gradient_checkpointing=not args.tuned, bf16=cuda, use_cpu=not cuda, weight_decay=0.01, optim="adamw_torch", seed=0,
            train_sampling_strategy="sequential", report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True,
            **({"use_liger_kernel": True} if liger else {})))
        trainer.train()
    write(True, trainer.state.log_history)


attempts = [(args.batch, False)]
if args.tuned:
    halves = [pairs_per_step >> i for i in range(pairs_per_step.bit_length()) if pairs_per_step % (1 << i) == 0]
    with_liger = [True] if cuda and importlib.util.find_spec("liger_kernel") else []
    attempts = [(batch, liger) for liger in [*with_liger, False] for batch in halves]
failed = []
while attempts:
    batch, liger = attempts.pop(0)
    try:
        train(batch, liger, failed)
        break
    except torch.OutOfMemoryError:
        failed.append(f"batch {batch}{' with liger' if liger else ''}: out of memory")
    except Exception as error:
        if not liger: raise
        failed.append(f"liger: {type(error).__name__}: {error}"[:300])
        attempts = [attempt for attempt in attempts if not attempt[1]]
    print(failed[-1], flush=True)
    gc.collect()
    if cuda: torch.cuda.empty_cache()
else:
    raise SystemExit("; ".join(failed))
