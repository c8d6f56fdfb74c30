#!/usr/bin/env python3
"""Six steps of AdamW on given gradients, to test/golden/adamw*.

adamw8bit.json, adamw8bit.safetensors    bitsandbytes' blockwise 8-bit AdamW, twice: `cuda`, the kernel that every GPU user
                                         runs, ported (bnb_blockwise.py), and `cpu`, a real run of the package's CPU backend,
                                         which differs (test/golden/README.md says where)
adamw.safetensors                        torch.optim.AdamW on the same gradients
"""
import os
import bitsandbytes
import numpy as np
import torch
from bitsandbytes.functional import create_dynamic_map
from safetensors.numpy import save_file
import bnb_blockwise as bnb
from golden_io import GOLDEN, write_json

SHAPES = {"exact": (64, 64), "partial": (37, 113), "small": (33, 31)}    # 16 blocks; 16 blocks and 85 elements; 32-bit state
LEARNING_RATES = [0.0, 1e-3, 2e-3, 1.5e-3, 1e-3, 5e-4]
BETAS, EPS, WEIGHT_DECAYS = (0.9, 0.999), 1e-8, (0.0, 0.01)
MARGIN = 3e-5           # no quantized value is closer to a rounding boundary than this share of itself
SIGNED, UNSIGNED = (create_dynamic_map(signed=signed).numpy() for signed in (True, False))
f32 = np.float32


def draw_gradients(name, generator):
    """Gradients of mixed scale, one list of steps. Blocks 3 to 9 of a tensor are the special cases listed in BLOCKS."""
    size, steps = int(np.prod(SHAPES[name])), len(LEARNING_RATES)
    block = np.arange(size) // bnb.BLOCK_SIZE
    scale = 10 ** generator.uniform(-6, 1, block.max() + 1)[block] * 10 ** generator.uniform(-2, 0, size)
    gradients = (generator.standard_normal((steps, size)) * scale).astype(f32)
    in_block = lambda number: block == number
    gradients[:, in_block(3)] = 0
    gradients[:3, in_block(4)] = 0
    gradients[3:, in_block(5)] = 0
    gradients[:, in_block(6)] = f32(0.25)
    gradients[:, in_block(7)] *= 10 ** generator.uniform(-9, 0, in_block(7).sum()).astype(f32)
    first = np.flatnonzero(in_block(8))[:1]
    gradients[:, first] = f32(1e4)
    sparse = in_block(9) & (generator.random(size) < 0.1)
    gradients[1::2, sparse] = 0
    return gradients


BLOCKS = {"3": "zero in all steps", "4": "zero until step 3", "5": "zero from step 4 on", "6": "one constant value",
          "7": "nine orders of magnitude within the block", "8": "one element far above the rest",
          "9": "a tenth of the elements is zero in every second step"}


def boundary_distance(x, quantiles):
    """Distance of |x| to the nearest rounding boundary, as a share of |x|. Zero is on none."""
    middles = (quantiles[1:] + quantiles[:-1]) * f32(0.5)
    after = np.clip(np.searchsorted(middles, x), 1, len(middles) - 1)
    distance = np.minimum(np.abs(x - middles[after - 1]), np.abs(x - middles[after]))
    return np.where(x == 0, np.inf, distance / np.maximum(np.abs(x), 1e-30))


def near_boundary(g, state):
    """Elements whose new m or v is so close to a rounding boundary that float32 rounding decides the code."""
    _, new = bnb.step_8bit(np.zeros_like(g), g, state, SIGNED, UNSIGNED, 0, *BETAS, EPS, 0, 1)
    near = np.zeros(len(g), bool)
    for codes, absmax, quantiles, beta, power in (("codes1", "absmax1", SIGNED, BETAS[0], 1), ("codes2", "absmax2", UNSIGNED, BETAS[1], 2)):
        old = bnb.dequantize(state[codes], state[absmax], quantiles).astype(float)
        value = old * float(f32(beta)) + (1 - float(f32(beta))) * g.astype(float) ** power
        largest = np.repeat(new[absmax].astype(float), bnb.BLOCK_SIZE)[: len(g)]
        x = np.divide(value, largest, out=np.zeros_like(value), where=largest > 0)
        near |= boundary_distance(x, quantiles.astype(float)) < MARGIN
    return near, new


def empty_state(size):
    blocks = -(-size // bnb.BLOCK_SIZE)
    zeros = lambda n, dtype: np.zeros(n, dtype)
    return {"codes1": zeros(size, np.uint8), "absmax1": zeros(blocks, f32), "codes2": zeros(size, np.uint8), "absmax2": zeros(blocks, f32)}


def move_off_boundaries(gradients):
    """Nudges gradients, so that every code has one right answer in float32, however it is computed."""
    state, moved = empty_state(gradients.shape[1]), 0
    for g in gradients:
        near, new = near_boundary(g, state)
        while near.any():
            moved += near.sum()
            g[near] = np.where(g[near] == 0, 0, g[near] * f32(1.003))
            assert (g[near] != 0).all(), "a gradient of 0 leaves a value on a rounding boundary: take another seed"
            near, new = near_boundary(g, state)
        state = new
    return int(moved)


def run_cuda_port(name, p, gradients, weight_decay):
    eight_bit = p.size >= bnb.MIN_8BIT_SIZE
    state = empty_state(p.size) if eight_bit else {"m": np.zeros(p.size, f32), "v": np.zeros(p.size, f32)}
    for step, (g, lr) in enumerate(zip(gradients, LEARNING_RATES), 1):
        if eight_bit: p, state = bnb.step_8bit(p, g, state, SIGNED, UNSIGNED, lr, *BETAS, EPS, weight_decay, step)
        else: p, state = bnb.step_32bit(p, g, state, lr, *BETAS, EPS, weight_decay, step)
        yield step, p, state


def run_optimizer(optimizer_class, p, gradients, weight_decay):
    """The package's own optimizer on the CPU, step by step."""
    parameter = torch.nn.Parameter(torch.from_numpy(p.copy()))
    optimizer = optimizer_class([parameter], lr=1.0, betas=BETAS, eps=EPS, weight_decay=weight_decay)
    for step, (g, lr) in enumerate(zip(gradients, LEARNING_RATES), 1):
        optimizer.param_groups[0]["lr"] = lr
        parameter.grad = torch.from_numpy(g.copy())
        optimizer.step()
        yield step, parameter.detach().numpy().copy(), optimizer.state[parameter]


def bnb_state(state):
    numpy = {key: state[key].numpy().copy() for key in ("state1", "state2")}
    if state["state1"].dtype != torch.uint8: return {"m": numpy["state1"], "v": numpy["state2"]}
    return {"codes1": numpy["state1"], "absmax1": state["absmax1"].numpy().copy(),
            "codes2": numpy["state2"], "absmax2": state["absmax2"].numpy().copy()}


def quantize_cpu(values, quantiles):
    """The CPU backend's quantization (csrc/cpu_ops.cpp, build_quantize_lut and quantize_cpu_impl): through a table of 65,536 bins."""
    middles = f32(0.5) * (quantiles[:-1] + quantiles[1:])
    bins = f32(-1) + (f32(2) * np.arange(65536, dtype=f32)) / f32(65535)
    table = np.searchsorted(middles, bins, side="left").astype(np.uint8)
    absmax = bnb.block_absmax(values)
    largest = np.repeat(absmax, bnb.BLOCK_SIZE)[: len(values)]
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.clip(np.nan_to_num(values * (f32(1) / largest)), -1, 1).astype(f32)
    index = ((x + f32(1)) * f32(0.5) * f32(65535) + f32(0.5)).astype(np.uint16)
    return np.where(largest > 0, table[index], 0).astype(np.uint8), absmax


def check_cpu_run(p, gradients, weight_decay, records):
    """The real CPU run is explained by the port with two changes: its quantization, and decay before the update."""
    b1, b2 = (f32(beta) for beta in BETAS)
    state = empty_state(p.size)
    for (step, after, real), g, lr in zip(records, gradients, LEARNING_RATES):
        m = bnb.dequantize(state["codes1"], state["absmax1"], SIGNED) * b1 + f32(1 - BETAS[0]) * g
        v = bnb.dequantize(state["codes2"], state["absmax2"], UNSIGNED) * b2 + f32(1 - BETAS[1]) * g * g
        update = -lr / (1 - BETAS[0] ** step) * m.astype(float) / (np.sqrt(v.astype(float)) / np.sqrt(1 - BETAS[1] ** step) + EPS)
        expected = p.astype(float) * (1 - lr * weight_decay) + update
        assert (np.abs(after - expected) <= 1e-6 * (np.abs(p) + np.abs(update))).all(), step
        for values, quantiles, codes, absmax in ((m, SIGNED, "codes1", "absmax1"), (v, UNSIGNED, "codes2", "absmax2")):
            mine, largest = quantize_cpu(values, quantiles)
            assert np.allclose(largest, real[absmax], rtol=1e-6, atol=0)
            assert (mine != real[codes]).mean() < 1e-3 and np.abs(mine.astype(int) - real[codes]).max() <= 1
        p, state = after, real


def main():
    torch.set_num_threads(1)
    generator = np.random.default_rng(11)
    tensors, plain, moved = {}, {}, {}
    for name, shape in SHAPES.items():
        p = (generator.standard_normal(int(np.prod(shape))) * 0.05).astype(f32)
        gradients = draw_gradients(name, generator)
        moved[name] = move_off_boundaries(gradients)
        tensors[f"{name}/p/0"] = plain[f"{name}/p/0"] = p.reshape(shape)
        for step, g in enumerate(gradients, 1): tensors[f"{name}/grad/{step}"] = g.reshape(shape)
        for weight_decay in WEIGHT_DECAYS:
            for step, after, state in run_cuda_port(name, p, gradients, weight_decay):
                tensors[f"cuda/{name}/decay-{weight_decay:g}/p/{step}"] = after.reshape(shape)
                if weight_decay == 0: tensors |= {f"cuda/{name}/{key}/{step}": value for key, value in state.items()}
            for step, after, _ in run_optimizer(torch.optim.AdamW, p, gradients, weight_decay):
                plain[f"{name}/decay-{weight_decay:g}/p/{step}"] = after.reshape(shape)
            real = [(step, after, bnb_state(state)) for step, after, state in run_optimizer(bitsandbytes.optim.AdamW8bit, p, gradients, weight_decay)]
            if p.size >= bnb.MIN_8BIT_SIZE: check_cpu_run(p, gradients, weight_decay, real)
            if weight_decay == 0: continue                # the states are the same, and p tells nothing new
            for step, after, state in real:
                tensors[f"cpu/{name}/decay-{weight_decay:g}/p/{step}"] = after.reshape(shape)
                if p.size >= bnb.MIN_8BIT_SIZE: tensors |= {f"cpu/{name}/{key}/{step}": value for key, value in state.items()}
    for file, content in (("adamw8bit", tensors), ("adamw", plain)):
        path = GOLDEN / f"{file}.safetensors"
        save_file({key: np.ascontiguousarray(value) for key, value in content.items()}, path); os.chmod(path, 0o644)
    write_json(GOLDEN / "adamw8bit.json", {
        "versions": {"bitsandbytes": bitsandbytes.__version__, "torch": torch.__version__, "numpy": np.__version__},
        "block_size": bnb.BLOCK_SIZE, "min_8bit_size": bnb.MIN_8BIT_SIZE, "shapes": {k: list(v) for k, v in SHAPES.items()},
        "learning_rates": LEARNING_RATES, "betas": list(BETAS), "eps": EPS, "weight_decays": list(WEIGHT_DECAYS),
        "special_blocks": BLOCKS, "gradients_moved_off_boundaries": moved, "boundary_margin": MARGIN,
        "signed_map": SIGNED.tolist(), "unsigned_map": UNSIGNED.tolist()})


if __name__ == "__main__":
    main()
