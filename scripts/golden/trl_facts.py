#!/usr/bin/env python3
"""Measure in a running TRL trainer what its documentation leaves open, and write the evidence to test/golden/trl-facts.json.

Each claim is asserted: where TRL changes its mind, this script fails. The claims in words are in test/golden/README.md.
"""
import os, tempfile
import torch, yaml
from transformers import AutoTokenizer, TrainerCallback
from trl import DPOTrainer
from golden_io import GOLDEN, ROOT, write_json
from trl_dpo import load_policy, make_trainer, read_rows, versions

PAIR_KEYS = ("input_ids", "attention_mask", "completion_mask")


def single_pair(inputs, pair):
    """A batch of one pair out of TRL's batch, in which all chosen rows come before all rejected rows."""
    pairs = len(inputs["input_ids"]) // 2
    return {key: inputs[key][[pair, pairs + pair]] for key in PAIR_KEYS}


class ProbedTrainer(DPOTrainer):
    """Notes every batch: its pairs, its loss and, in training, the mean gradient of its pairs, each taken alone."""

    def note(self, model, inputs, mode):
        metrics, tokens = {k: list(v) for k, v in self._metrics[mode].items()}, self._total_train_tokens
        trainable = [p for p in model.parameters() if p.requires_grad]
        losses, gradients, values = [], [], []
        for pair in range(len(inputs["input_ids"]) // 2):
            for key in self._metrics[mode]: self._metrics[mode][key] = []
            with torch.enable_grad():
                loss = self.compute_loss(model, single_pair(inputs, pair))
                if mode == "train": gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, trainable)]))
            losses.append(loss.item())
            values.append({key: value[-1] for key, value in self._metrics[mode].items()})
        self._metrics[mode].clear(); self._metrics[mode].update(metrics); self._total_train_tokens = tokens
        return {"mode": mode, "step": self.state.global_step, "pair_losses": losses, "pair_values": values,
                "tokens": int(inputs["attention_mask"].sum()), "gradients": gradients,
                "completion_tokens": [int(single_pair(inputs, i)["completion_mask"].sum()) for i in range(len(losses))]}

    def training_step(self, model, inputs, *args, **kwargs):
        model.train()
        self.batches.append(self.note(model, inputs, "train"))
        return super().training_step(model, inputs, *args, **kwargs)

    def prediction_step(self, model, inputs, *args, **kwargs):
        self.batches.append(self.note(model, inputs, "eval"))
        return super().prediction_step(model, inputs, *args, **kwargs)


class GradientAtStep(TrainerCallback):
    """Keeps the gradient that the optimizer is given, which is the clipped one."""

    def __init__(self): self.gradients = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]).clone())


def probe(name):
    config = yaml.safe_load(open(GOLDEN / "runs" / name / "config.yaml"))
    local = lambda path: str(ROOT / path)
    template = config.get("prompt_template", "none")
    model = load_policy(config, local)
    trainer = make_trainer(config, model, AutoTokenizer.from_pretrained(local(config["model"])),
                           read_rows(local(config["dataset"]), template), read_rows(local(config["eval_dataset"]), template),
                           tempfile.mkdtemp(), trainer_class=ProbedTrainer)
    trainer.batches, recorder = [], GradientAtStep()
    trainer.add_callback(recorder)
    trainer.train()
    return config, trainer, recorder.gradients


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def close(a, b, tolerance=2e-6): return abs(a - b) <= tolerance * max(1, abs(b))


def check_uneven_training(name):
    """The last micro-batch of an epoch holds fewer pairs than the others."""
    config, trainer, gradients = probe(name)
    records = {r["step"]: r for r in trainer.state.log_history if "loss" in r}
    per_epoch = -(-len(trainer.train_dataset) // config["per_device_train_batch_size"])
    evidence, tokens, micro_done = [], 0, 0
    for step, record in sorted(records.items()):
        micro = [b for b in trainer.batches if b["mode"] == "train" and b["step"] == step - 1]
        sizes = [len(b["pair_losses"]) for b in micro]
        by_micro = mean(mean(b["pair_losses"]) for b in micro)
        by_pair = mean(loss for b in micro for loss in b["pair_losses"])
        gradient_by_micro = sum(sum(b["gradients"]) / len(b["gradients"]) for b in micro) / len(micro)
        gradient_by_pair = sum(g for b in micro for g in b["gradients"]) / sum(sizes)
        assert close(record["loss"], by_micro)
        assert close(record["grad_norm"], gradient_by_micro.norm().item(), 1e-5)
        for key in ("rewards/margins", "rewards/accuracies", "logps/chosen"):
            assert close(record[key], mean(mean(v[key] for v in b["pair_values"]) for b in micro), 1e-5), key
        entropy = mean(sum(v["entropy"] * n for v, n in zip(b["pair_values"], b["completion_tokens"])) / sum(b["completion_tokens"])
                       for b in micro)
        assert close(record["entropy"], entropy, 1e-5)
        tokens += sum(b["tokens"] for b in micro); micro_done += len(micro)
        assert record["num_tokens"] == tokens
        assert close(record["epoch"], micro_done / per_epoch, 1e-12)
        limit = config.get("max_grad_norm", 1.0)
        scale = min(1, limit / (record["grad_norm"] + 1e-6)) if limit > 0 else 1
        given = gradients[step - 1]
        assert (given - scale * gradient_by_micro).norm() <= 1e-5 * given.norm()
        evidence.append({"step": step, "micro_batch_sizes": sizes, "logged_loss": record["loss"],
                         "loss_mean_of_micro_batches": by_micro, "loss_mean_of_pairs": by_pair, "logged_grad_norm": record["grad_norm"],
                         "grad_norm_mean_of_micro_batches": gradient_by_micro.norm().item(),
                         "grad_norm_mean_of_pairs": gradient_by_pair.norm().item(), "grad_norm_given_to_optimizer": given.norm().item(),
                         "epoch": record["epoch"], "num_tokens": record["num_tokens"]})
    return {"run": name, "max_grad_norm": config.get("max_grad_norm", 1.0), "steps": evidence}, trainer


def check_evaluation(name, trainer):
    evidence, history = [], trainer.state.log_history
    for position, record in enumerate(history):
        if "eval_loss" not in record: continue
        batches = [b for b in trainer.batches if b["mode"] == "eval" and b["step"] == record["step"]]
        by_pair = mean(loss for b in batches for loss in b["pair_losses"])
        by_batch = mean(mean(b["pair_losses"]) for b in batches)
        assert close(record["eval_loss"], by_pair)
        for key in ("rewards/margins", "rewards/accuracies", "rewards/chosen", "logps/rejected"):
            assert close(record[f"eval_{key}"], mean(mean(v[key] for v in b["pair_values"]) for b in batches), 1e-5), key
        before = history[position - 1]
        assert before["step"] == record["step"] and "loss" in before and before["epoch"] == record["epoch"]
        assert record["eval_num_tokens"] == before["num_tokens"]
        evidence.append({"step": record["step"], "batch_sizes": [len(b["pair_losses"]) for b in batches],
                         "logged_eval_loss": record["eval_loss"], "loss_mean_of_pairs": by_pair, "loss_mean_of_batches": by_batch,
                         "logged_eval_rewards_margins": record["eval_rewards/margins"],
                         "margins_mean_of_pairs": mean(v["rewards/margins"] for b in batches for v in b["pair_values"]),
                         "margins_mean_of_batches": mean(mean(v["rewards/margins"] for v in b["pair_values"]) for b in batches)})
    # The evaluation at the end has the weights of final_adapter: evaluating once more gives the same numbers.
    again = trainer.evaluate()
    assert close(again["eval_loss"], evidence[-1]["logged_eval_loss"], 0)
    return {"run": name, "evaluations": evidence, "eval_loss_of_the_final_adapter": again["eval_loss"]}


def main():
    torch.set_num_threads(1); os.chdir(ROOT)
    uneven, trainer = check_uneven_training("mha-tied-uneven")
    assert {s["grad_norm_given_to_optimizer"] < 0.999 * s["logged_grad_norm"] for s in uneven["steps"]} == {True, False}
    evaluation = check_evaluation("mha-tied-uneven", trainer)
    short, _ = check_uneven_training("f16-one-kv-gate")
    unclipped, _ = check_uneven_training("gqa-llama3-long")
    assert max(s["logged_grad_norm"] for s in unclipped["steps"]) > 1
    write_json(GOLDEN / "trl-facts.json", {"versions": versions(), "training": [uneven, short, unclipped], "evaluation": evaluation})


if __name__ == "__main__":
    main()
