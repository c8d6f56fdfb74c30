#!/usr/bin/env python3
"""Time matrix products with PyTorch, which takes cuBLAS's on NVIDIA: f16 factors, f32 sums, by CUDA events.

    cublas.py PRODUCTS.json OUT.json

PRODUCTS.json: a list of {"use", "kernel", "m", "n", "k"}; "matmul/nt" has its right factor as (n, k), "matmul/nn" as (k, n),
and "matmul/tn" its left one as (k, m). OUT.json, whole after each product: {"complete", "device", "torch", "measured":
[the product with "tflops" added]}.
"""
import json, sys
import torch

SAMPLE_MS, SAMPLES, MAX_REPETITIONS = 80, 5, 512
products = json.load(open(sys.argv[1]))
if not torch.cuda.is_available():
    sys.exit("PyTorch finds no CUDA device")
torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
torch.manual_seed(0)


def time_ms(run, repetitions):
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(repetitions):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / repetitions


measured = []
for product in products:
    m, n, k = product["m"], product["n"], product["k"]
    uniform = lambda rows, columns, scale: ((torch.rand(rows, columns, device="cuda") - 0.5) * scale).half()
    left = uniform(k, m, 1).t() if product["kernel"] == "matmul/tn" else uniform(m, k, 1)
    right = uniform(n, k, 0.04).t() if product["kernel"] == "matmul/nt" else uniform(k, n, 0.04)
    out = torch.empty(m, n, device="cuda", dtype=torch.float16)
    run = lambda: torch.mm(left, right, out=out)
    time_ms(run, 3)
    repetitions = min(MAX_REPETITIONS, max(1, round(SAMPLE_MS / max(time_ms(run, 1), 1e-3))))
    time_ms(run, repetitions)
    ms = sorted(time_ms(run, repetitions) for _ in range(SAMPLES))[SAMPLES // 2]
    measured.append({**product, "tflops": 2 * m * n * k / ms / 1e9})
    print(f"{product['use']} {m}x{n}x{k}: {measured[-1]['tflops']:.1f} TFLOP/s", flush=True)
    with open(sys.argv[2], "w") as file:
        json.dump({"complete": len(measured) == len(products), "device": torch.cuda.get_device_name(),
                   "torch": torch.__version__, "measured": measured}, file)
