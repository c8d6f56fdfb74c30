#!/usr/bin/env python3
"""Golden values for learning-rate schedules and for when to log, evaluate and save: test/train/schedules.jsonl.

    pip install torch==2.13.0 transformers==5.18.0 accelerate
    python scripts/golden/schedules.py

Three kinds of lines after the first, which says how the file was made: learning rates of transformers.get_scheduler
after k steps; TrainingArguments.get_warmup_steps for a share of the run; and whole runs of a real Trainer on a one-weight model, with the
order of its logs, evaluations and saves and the learning rates it logged. One JSON object a line.
"""
import json, platform, tempfile
from pathlib import Path

import torch
import transformers
from transformers import Trainer, TrainerCallback, TrainingArguments, get_scheduler

OUT = Path(__file__).resolve().parents[2] / "test" / "train" / "schedules.jsonl"
PEAK = 3e-4


def learning_rates(name, warmup, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)
    rates = []
    for _ in range(total):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


class OneWeight(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, labels=None):
        return {"loss": (self.weight * x).pow(2).mean(), "logits": x}


class Recorder(TrainerCallback):
    def __init__(self):
        self.events, self.rates = [], []

    def on_log(self, args, state, control, logs=None, **_):
        if "loss" in logs:  # not an evaluation's record, nor the summary at the end
            self.events.append(["log", state.global_step])
            self.rates.append(logs["learning_rate"])

    def on_evaluate(self, args, state, control, **_):
        self.events.append(["evaluate", state.global_step])

    def on_save(self, args, state, control, **_):
        self.events.append(["save", state.global_step])


class NoFiles(Trainer):
    def _save_checkpoint(self, model, trial):
        pass


def run(pairs, batch, accumulation, length, **settings):
    rows = [{"x": torch.ones(1), "labels": torch.ones(1)} for _ in range(pairs)]
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, use_cpu=True,
            learning_rate=PEAK, report_to="none", disable_tqdm=True, save_strategy="steps", optim="sgd", **length, **settings)
        trainer = NoFiles(model=OneWeight(), args=arguments, train_dataset=rows, eval_dataset=rows[:2], callbacks=[recorder])
        trainer.train()
    return {"pairs": pairs, "batch": batch, "accumulation": accumulation, "length": length, "settings": settings,
            "totalSteps": trainer.state.max_steps, "events": recorder.events, "learningRates": recorder.rates}


def lines():
    yield {"made_by": "scripts/golden/schedules.py", "torch": torch.__version__, "transformers": transformers.__version__,
           "python": platform.python_version()}
    for name in ("linear", "cosine", "constant", "constant_with_warmup"):
        for warmup, total in ((0, 1), (0, 7), (1, 1), (3, 10), (10, 37), (10, 10), (12, 5), (9, 10)):
            yield {"type": name, "warmup": warmup, "total": total, "learningRates": learning_rates(name, warmup, total)}
    for share in (0, 0.001, 0.05, 0.07, 0.1, 0.2, 0.5, 0.999):
        for total in (1, 7, 35, 100, 193):
            arguments = TrainingArguments(output_dir="unused", warmup_steps=share, use_cpu=True, report_to="none")
            yield {"share": share, "total": total, "steps": arguments.get_warmup_steps(total)}
    epochs = lambda value: {"num_train_epochs": value}
    steps = dict(logging_steps=1, save_steps=500, eval_strategy="steps")
    yield run(20, 2, 1, epochs(1), **steps, eval_steps=0.2)
    yield run(21, 2, 2, epochs(1), **steps, eval_steps=0.2)
    yield run(21, 2, 2, epochs(3), **steps, eval_steps=0.3, warmup_steps=4, lr_scheduler_type="cosine")
    yield run(14, 1, 1, epochs(1), logging_steps=5, save_steps=4, eval_strategy="steps", eval_steps=7)
    yield run(14, 1, 1, epochs(1), logging_steps=0.25, save_steps=0.5, eval_strategy="steps", eval_steps=0.25)
    yield run(10, 2, 2, epochs(2.5), logging_steps=2, save_steps=3, eval_strategy="epoch")
    yield run(10, 2, 2, epochs(0.5), logging_steps=1, save_steps=0.07, eval_strategy="epoch", warmup_steps=0.1)
    yield run(10, 2, 2, {"max_steps": 7}, logging_steps=3, save_steps=5, eval_strategy="epoch")
    yield run(10, 2, 2, {"max_steps": 2}, logging_steps=1, save_steps=2, eval_strategy="epoch")
    yield run(9, 4, 8, epochs(4), logging_steps=1, save_steps=2, eval_strategy="steps", eval_steps=3, warmup_steps=2,
              lr_scheduler_type="constant_with_warmup")
    yield run(3, 1, 1, epochs(1), logging_steps=10, save_steps=10, eval_strategy="no")
    yield run(100, 1, 1, epochs(1), logging_steps=0.07, save_steps=0.29, eval_strategy="steps", eval_steps=0.14)


if __name__ == "__main__":
    with open(OUT, "w", encoding="utf-8") as file:
        for line in lines():
            file.write(json.dumps(line, allow_nan=False) + "\n")
