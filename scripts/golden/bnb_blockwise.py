"""bitsandbytes' blockwise 8-bit AdamW as its CUDA kernels compute it, written anew in numpy float32.

Read in csrc/kernels.cu of github.com/bitsandbytes-foundation/bitsandbytes (MIT License, Copyright (c) Facebook, Inc. and
its affiliates), commit 95f9af309d4d5793847169c39288dcd3fcbdf564 (version 0.50.2.dev0):
    quantize_2D                            the search for a code, lines 221 to 267
    kOptimizerStatic8bit2StateBlockwise    the step for tensors with 8-bit state, lines 914 to 1147
    kOptimizer32bit2State                  the step for tensors with 32-bit state, lines 605 to 727
Left out: FMA contraction and the approximate __fdividef, __powf and sqrtf of --use_fast_math, which move a value by a few
units in the last place and the bias corrections of the first steps by up to about 1e-4 (1 - __powf(0.999, 1) cancels).
"""
import numpy as np

BLOCK_SIZE = 256
MIN_8BIT_SIZE = 4096          # optim/optimizer.py, init_state: a tensor with fewer elements has 32-bit state
f32 = np.float32


def corrections(beta1, beta2, step):
    power = lambda beta: f32(float(f32(beta)) ** step)
    return f32(1) - power(beta1), np.sqrt(f32(1) - power(beta2))


def dequantize(codes, absmax, quantiles):
    return quantiles[codes] * np.repeat(absmax, BLOCK_SIZE)[: len(codes)]


def block_absmax(values):
    return np.array([np.abs(values[i : i + BLOCK_SIZE]).max() for i in range(0, len(values), BLOCK_SIZE)], f32)


def quantize_2d(quantiles, x, signed):
    """The code nearest to each x, by a binary search whose last pivot is even: halfway between two codes, the even one."""
    pivot, upper_pivot, lower_pivot = np.full(x.shape, 127), np.full(x.shape, 255), np.zeros(x.shape, int)
    lower, upper = np.full(x.shape, -1 if signed else 0, f32), np.ones(x.shape, f32)
    value = quantiles[pivot]
    for i in (64, 32, 16, 8, 4, 2, 1):
        above = x > value                                 # false for NaN
        lower_pivot, lower = np.where(above, pivot, lower_pivot), np.where(above, value, lower)
        upper_pivot, upper = np.where(above, upper_pivot, pivot), np.where(above, upper, value)
        pivot = pivot + np.where(above, i, -i)
        value = quantiles[pivot]
    above = x > value
    to_upper = above & (x > (upper + value) * f32(0.5))
    to_lower = ~above & (x < (lower + value) * f32(0.5))
    return np.where(to_upper, upper_pivot, np.where(to_lower, lower_pivot, pivot)).astype(np.uint8)


def quantize_signed(values, absmax, quantiles):
    """As quantize_2D, then corrected so that no value changes its sign: a negative one is never stored as 0."""
    with np.errstate(invalid="ignore"):                   # a block of zeros: 0 / 0
        codes = quantize_2d(quantiles, values / np.repeat(absmax, BLOCK_SIZE)[: len(values)], True)
    other_sign = np.signbit(quantiles[codes]) != np.signbit(values)
    with np.errstate(over="ignore"):                      # a block of zeros: 0 - 1 = 255, which absmax 0 makes 0 again
        return np.where(other_sign, np.where(values > 0, codes + np.uint8(1), codes - np.uint8(1)), codes)


def quantize_unsigned(values, absmax, quantiles):
    with np.errstate(invalid="ignore"):
        return quantize_2d(quantiles, values / np.repeat(absmax, BLOCK_SIZE)[: len(values)], False)


def step_8bit(p, g, state, quantiles1, quantiles2, lr, beta1, beta2, eps, weight_decay, step):
    """One step on flat float32 arrays. state: codes1, absmax1 (m), codes2, absmax2 (v). Returns the new p and state."""
    b1, b2, lr, eps, decay = f32(beta1), f32(beta2), f32(lr), f32(eps), f32(weight_decay)
    correction1, correction2 = corrections(beta1, beta2, step)
    v = dequantize(state["codes2"], state["absmax2"], quantiles2) * b2 + (f32(1) - b2) * g * g
    m = dequantize(state["codes1"], state["absmax1"], quantiles1) * b1 + (f32(1) - b1) * g
    absmax1, absmax2 = block_absmax(m), block_absmax(v)
    p = p + (-lr * correction2 / correction1) * (m / (np.sqrt(v) + correction2 * eps))
    if weight_decay > 0: p = p * (f32(1) - lr * decay)
    return p, {"codes1": quantize_signed(m, absmax1, quantiles1), "absmax1": absmax1,
               "codes2": quantize_unsigned(v, absmax2, quantiles2), "absmax2": absmax2}


def step_32bit(p, g, state, lr, beta1, beta2, eps, weight_decay, step):
    """As step_8bit, for a tensor of fewer than MIN_8BIT_SIZE elements. state: m, v."""
    b1, b2, lr, eps, decay = f32(beta1), f32(beta2), f32(lr), f32(eps), f32(weight_decay)
    correction1, correction2 = corrections(beta1, beta2, step)
    m, v = state["m"] * b1 + (f32(1) - b1) * g, state["v"] * b2 + (f32(1) - b2) * (g * g)
    p = p + (-lr * correction2 / correction1) * (m / (np.sqrt(v) + eps * correction2))
    if weight_decay > 0: p = p * (f32(1) - lr * decay)
    return p, {"m": m, "v": v}
