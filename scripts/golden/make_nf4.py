#!/usr/bin/env python3
"""bitsandbytes' NF4 with double quantization of a few matrices, to test/golden/nf4.*.

What is there to know about the package's backends (read in bitsandbytes 0.50.2's backends/{cpu,default,cuda}/ops.py and,
at the commit that bnb_blockwise.py names, csrc/{kernels.cu,cpu_ops.cpp}; asserted below where a CPU can):

quantize_4bit, to codes and absmax
    CPU     x * (1 / absmax) in float32, compared with the float32 midpoints of the 16 values, `x > midpoint`. A last block
            that is not whole is divided by absmax instead. A block of zeros gets the codes 7, which are 0.
    CUDA    x * (1 / absmax) everywhere, the same midpoints; 1 / x is the approximate one of --use_fast_math. A block of
            zeros gets NaN and so the codes 0: -1 * absmax.
quantize_blockwise, of absmax - absmax.mean()
    CPU     through a table of 65,536 bins over [-1, 1], as for the optimizer's states.
    CUDA    a binary search for the nearest code (dQuantize), x * (1 / absmax2) everywhere. Codes 0 where absmax2 is 0.
    torch's mean adds in another order on each device, so the last bits of the offset are nobody's.
dequantize_blockwise and dequantize_4bit: map[code] * absmax2, + offset, value[code] * absmax, each rounded to float32; then
    rounded to the dtype. The CPU's dequantize_4bit takes wrong absmax (AVX-512) where the columns are a multiple of 16 but
    not of 64, because it counts blocks by rows; so it is given the matrix as one row here, where it is right.

Written are: codes and absmax of a real run on the CPU; absmax codes of the CUDA kernel's search, ported (bnb_blockwise.py),
and beside them those of a real run on the CPU; and what the real dequantize_4bit makes of the former.
"""
import copy, os

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # the package compiles some of its own functions where it can
import bitsandbytes
import numpy as np
import torch
from bitsandbytes.functional import create_dynamic_map, dequantize_4bit, get_4bit_type, quantize_4bit
from safetensors.torch import save_file
import bnb_blockwise as bnb
from golden_io import GOLDEN, write_json

BLOCK, ABSMAX_BLOCK = 64, 256
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
f32 = np.float32
VALUES = get_4bit_type("nf4", device="cpu").numpy()
MIDPOINTS = (VALUES[:-1] + VALUES[1:]) / f32(2)
TREE = np.array([-0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544, -0.23460740596055984,
                 -0.13791173323988914, -0.045525018125772476, 0.03979014977812767, 0.1202552504837513, 0.2035212516784668,
                 0.2920137718319893, 0.3893125355243683, 0.5016634166240692, 0.6427869200706482, 0.8614784181118011], f32)
MAP = create_dynamic_map(signed=True).numpy()


def plain(generator, shape, deviation=0.02):
    return generator.standard_normal(shape) * deviation


def mixed(generator, shape):
    """Blocks of sizes from 1e-6 to 10, outliers, zeros among the elements, and blocks 2 and 5 of zeros."""
    size = int(np.prod(shape))
    block = np.arange(size) // BLOCK
    x = generator.standard_normal(size) * 10 ** generator.uniform(-6, 1, block.max() + 1)[block]
    x[generator.random(size) < 0.02] *= 50
    x[generator.random(size) < 0.05] = 0
    x[(block == 2) | (block == 5)] = 0
    return x.reshape(shape)


def at_thresholds(generator, shape):
    """Each midpoint times absmax, and the three numbers on either side of it; two blocks for each of several absmax."""
    rows = []
    for absmax in np.append([1, 0.75, 3, 0.1], np.abs(generator.standard_normal(12)) * 0.05).astype(f32):
        values = []
        for midpoint in MIDPOINTS:
            x = f32(midpoint * absmax)
            below, above = [x], [x]
            for _ in range(3):
                below.append(np.nextafter(below[-1], f32(-np.inf)))
                above.append(np.nextafter(above[-1], f32(np.inf)))
            values += below[1:] + above
        values = np.array(values + [0] * 21, f32)
        rows += [np.append(values[:63], -absmax), np.append(values[63:], absmax)]
    return np.concatenate(rows).reshape(shape)


def equal(generator, shape):
    """All absmax are 0.75: what is left of them without the mean is 0."""
    x = generator.uniform(-0.75, 0.75, shape)
    x[:, ::BLOCK] = 0.75
    return x


# name: values, dtype, shape, what is odd about it
CASES = {
    "whole": (plain, "bf16", (64, 256), "256 blocks: one block of absmax"),
    "two-blocks": (plain, "bf16", (300, 80), "375 blocks, which cross rows; columns a multiple of 16 but not of 64"),
    "crossing": (plain, "f16", (48, 88), "columns a multiple of 8 but not of 16"),
    "odd": (mixed, "f32", (37, 113), "elements odd, a last block of 21"),
    "odd-f16": (plain, "f16", (9, 35), "elements odd in 16 bits, rows no multiple of 8"),
    "mixed-bf16": (mixed, "bf16", (16, 192), "blocks of all sizes"),
    "mixed-f16": (mixed, "f16", (24, 128), "blocks of all sizes, subnormals among them"),
    "small": (lambda generator, shape: plain(generator, shape, 2e-5), "bf16", (26, 72), "subnormals of f16"),
    "thresholds": (at_thresholds, "f32", (32, 64), "values at the decision thresholds and the numbers around them"),
    "equal": (equal, "f32", (8, 64), "absmax2 is 0"),
    "zeros": (lambda generator, shape: np.zeros(shape), "bf16", (4, 64), "nothing but zeros"),
    "one": (plain, "f32", (1, 1), "one element"),
}


def unpack(codes, elements):
    return np.stack([codes >> 4, codes & 15], -1).reshape(-1)[:elements]


def first_level(x):
    """The codes with 1 / absmax rounded to nearest and no division by absmax: the CUDA kernel's but for a block of zeros."""
    absmax = np.array([np.abs(x[i : i + BLOCK]).max() for i in range(0, len(x), BLOCK)], f32)
    inverse = np.divide(f32(1), absmax, out=np.zeros_like(absmax), where=absmax > 0)
    scaled = x * np.repeat(inverse, BLOCK)[: len(x)]
    return (scaled[:, None] > TREE).sum(1).astype(np.uint8), absmax


def second_level(absmax, offset):
    difference = absmax - offset
    absmax2 = bnb.block_absmax(difference)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = difference * np.repeat(f32(1) / absmax2, ABSMAX_BLOCK)[: len(absmax)]
    return bnb.quantize_2d(MAP, x, True), absmax2, x


def check_cpu_codes(codes, cpu_codes, x):
    """Where the CPU's table leads to another code, it is the neighbour, and x is within half a bin of the halfway."""
    other = (codes != cpu_codes) & np.isfinite(x)
    middle = (MAP[np.minimum(codes, cpu_codes)].astype(float) + MAP[np.maximum(codes, cpu_codes)]) / 2
    assert (np.abs(codes.astype(int) - cpu_codes)[other] == 1).all()
    assert (np.abs(x - middle)[other] < 0.51 * 2 / 65535).all()
    return int(other.sum())


def quantize(values):
    elements = values.numel()
    packed, plain_state = quantize_4bit(values, quant_type="nf4", blocksize=BLOCK)
    again, state = quantize_4bit(values, quant_type="nf4", blocksize=BLOCK, compress_statistics=True)
    assert torch.equal(packed, again)
    codes, absmax = first_level(values.float().numpy().reshape(-1))
    assert np.array_equal(codes, unpack(packed.numpy().reshape(-1), elements))
    assert np.array_equal(absmax, plain_state.absmax.numpy())
    offset = f32(state.offset.item())
    absmax_codes, absmax2, x = second_level(absmax, offset)
    assert np.array_equal(absmax2, state.state2.absmax.numpy())
    differing = check_cpu_codes(absmax_codes, state.absmax.numpy(), x)
    exact = f32(absmax.astype(float).mean())
    assert np.abs(offset.view(np.int32) - exact.view(np.int32)) <= 2
    tensors = {"values": values, "codes": packed.reshape(-1), "absmax": plain_state.absmax, "offset": state.offset.reshape(1),
               "absmax_codes": torch.from_numpy(absmax_codes), "absmax_codes_cpu": state.absmax, "absmax2": state.state2.absmax}
    for name, dtype in DTYPES.items():
        tensors[f"dequantized_{name}"] = dequantize(packed, state, absmax_codes, dtype, values.shape)
    return tensors, {"codes_that_the_cpu_table_moves": differing, "offset_is_the_mean_rounded_once": bool(offset == exact)}


def dequantize(packed, state, absmax_codes, dtype, shape):
    state = copy.deepcopy(state)
    state.absmax, state.dtype, state.shape = torch.from_numpy(absmax_codes), dtype, torch.Size([1, shape.numel()])
    return dequantize_4bit(packed, state).reshape(shape)


def main():
    torch.set_num_threads(1)
    assert np.array_equal(MIDPOINTS, TREE), "the tree of the CUDA kernel is made of the same midpoints"
    generator, tensors, cases = np.random.default_rng(4), {}, {}
    for name, (draw, dtype, shape, about) in CASES.items():
        values = torch.from_numpy(np.ascontiguousarray(draw(generator, shape))).to(DTYPES[dtype])
        made, facts = quantize(values)
        tensors |= {f"{name}/{key}": value.contiguous() for key, value in made.items()}
        cases[name] = {"dtype": dtype, "shape": list(shape), "about": about, **facts}
    path = GOLDEN / "nf4.safetensors"
    save_file(tensors, path); os.chmod(path, 0o644)
    write_json(GOLDEN / "nf4.json", {
        "versions": {"bitsandbytes": bitsandbytes.__version__, "torch": torch.__version__, "numpy": np.__version__},
        "block_size": BLOCK, "absmax_block_size": ABSMAX_BLOCK, "values": VALUES.tolist(), "cases": cases})


if __name__ == "__main__":
    main()
