#!/usr/bin/env python3
"""Merge adapters into their base with PEFT in float32, round to bfloat16 and float16, and keep the merged tensors.

Two adapters a model: a run's final adapter, whose update is plain to see, and the same one scaled down until its update
is 1e-5 of the weights, which bfloat16 cannot hold. Written to test/golden/merge/: merge.json says how much was kept.
"""
import os
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from golden_io import GOLDEN, ROOT, write_json
from trl_dpo import save_adapter, versions

RUNS = {"gqa-llama3": "gqa-llama3-long", "f16-one-kv": "f16-one-kv-gate"}
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
TINY = 1e-5


def load_base(name):
    return AutoModelForCausalLM.from_pretrained(f"test/golden/models/{name}", dtype=torch.float32, attn_implementation="eager")


def lora_weights(model):
    """The merged weights that have an adapter: {name in the base model: float32 tensor}."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return {name.replace(".base_layer", ""): tensor for name, tensor in base.state_dict().items() if ".lora_" not in name}


def merge(name, adapter):
    before = lora_weights(load_base(name))
    merged = lora_weights(PeftModel.from_pretrained(load_base(name), adapter).merge_and_unload())
    targets = [k for k in sorted(merged) if any(k.startswith(p) for p in adapter_targets(adapter))]
    return {k: before[k] for k in targets}, {k: merged[k] for k in targets}


def adapter_targets(adapter):
    names = load_file(os.path.join(adapter, "adapter_model.safetensors"))
    return sorted({k.removeprefix("base_model.model.").split(".lora_")[0] + ".weight" for k in names})


def scaled_down(name, adapter, folder):
    before, merged = merge(name, adapter)
    ratio = (sum((merged[k] - before[k]).double().square().sum() for k in before) / sum(before[k].double().square().sum() for k in before)).sqrt()
    model = PeftModel.from_pretrained(load_base(name), adapter)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key: parameter.mul_(float(TINY / ratio))
    save_adapter(model, folder)


def report(name, adapter, out_dir):
    before, merged = merge(name, adapter)
    os.makedirs(out_dir, exist_ok=True)
    modules = {k: {"weight_norm": before[k].double().norm().item(), "delta_norm": (merged[k].double() - before[k].double()).norm().item()}
               for k in merged}
    for label, dtype in DTYPES.items():
        rounded = {k: merged[k].to(dtype).contiguous() for k in merged}
        path = os.path.join(out_dir, f"merged-{label}.safetensors")
        save_file(rounded, path, metadata={"format": "pt"}); os.chmod(path, 0o644)
        for k, tensor in rounded.items():
            delta = merged[k].double() - before[k].double()
            arrived = tensor.double() - before[k].to(dtype).double()
            modules[k][f"kept_{label}"] = ((arrived * delta).sum() / delta.square().sum()).item()
            modules[k][f"changed_{label}"] = (tensor.double() != before[k].to(dtype).double()).double().mean().item()
    return {"adapter": os.path.relpath(adapter), "modules": modules}


def main():
    torch.set_num_threads(1); os.chdir(ROOT)
    cases = {}
    for name, run in RUNS.items():
        visible, tiny = f"test/golden/runs/{run}/final_adapter", f"test/golden/merge/{name}-tiny/adapter"
        scaled_down(name, visible, tiny)
        cases[f"{name}-visible"] = {"model": f"test/golden/models/{name}", **report(name, visible, f"test/golden/merge/{name}-visible")}
        cases[f"{name}-tiny"] = {"model": f"test/golden/models/{name}", **report(name, tiny, f"test/golden/merge/{name}-tiny")}
    write_json(GOLDEN / "merge" / "merge.json", {"versions": versions(), "cases": cases})


if __name__ == "__main__":
    main()
