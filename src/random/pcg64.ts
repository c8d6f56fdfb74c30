const MASK_32 = 0xffff_ffffn;
const MASK_64 = (1n << 64n) - 1n;
const MASK_128 = (1n << 128n) - 1n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;
const POOL_WORDS = 4;

/** The generator behind numpy's `default_rng`. */
export interface Pcg64 {
  /** The next 32 bits: the low, then the high half of each 64-bit output, as numpy hands them out. */
  nextUint32(): number;
  /** A uniform integer in [0, limit], limit below 2^32, by masking and rejection: numpy's `random_interval`. */
  nextInterval(limit: number): number;
}

/**
 * numpy's `default_rng(seed)`: SeedSequence hashes the seed, PCG64 (XSL-RR 128/64) runs from it.
 *
 * O'Neill, "PCG", HMC-CS-2014-0905; numpy/random/bit_generator.pyx and _pcg64.pyx.
 *
 * @param seed an integer in [0, 2^53)
 */
export function createPcg64(seed: number): Pcg64 {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new RangeError(`internal: a seed must be an integer in [0, 2^53), got ${seed}`);
  }
  const [stateHigh, stateLow, sequenceHigh, sequenceLow] = seedSequenceWords(seed) as [bigint, bigint, bigint, bigint];
  const increment = ((((sequenceHigh << 64n) | sequenceLow) << 1n) | 1n) & MASK_128;
  let state = increment;
  state = (state + ((stateHigh << 64n) | stateLow)) & MASK_128;
  state = (state * MULTIPLIER + increment) & MASK_128;
  let bufferedHalf: number | undefined;

  function nextUint32(): number {
    if (bufferedHalf !== undefined) {
      const half = bufferedHalf;
      bufferedHalf = undefined;
      return half;
    }
    state = (state * MULTIPLIER + increment) & MASK_128;
    const folded = (state >> 64n) ^ (state & MASK_64);
    const rotation = state >> 122n;
    const output = ((folded >> rotation) | (folded << (64n - rotation))) & MASK_64;
    bufferedHalf = Number(output >> 32n);
    return Number(output & MASK_32);
  }

  function nextInterval(limit: number): number {
    if (limit === 0) return 0;
    const mask = 0xffff_ffff >>> Math.clz32(limit);
    for (;;) {
      const value = (nextUint32() & mask) >>> 0;
      if (value <= limit) return value;
    }
  }

  return { nextUint32, nextInterval };
}

/** numpy's `SeedSequence(seed).generate_state(4, uint64)`. */
function seedSequenceWords(seed: number): bigint[] {
  const entropy = [seed % 2 ** 32];
  if (seed >= 2 ** 32) entropy.push(Math.floor(seed / 2 ** 32));

  let hashConstant = 0x43b0d7e5;
  const hash = (value: number): number => {
    let hashed = value ^ hashConstant;
    hashConstant = Math.imul(hashConstant, 0x931e8875);
    hashed = Math.imul(hashed, hashConstant);
    return (hashed ^ (hashed >>> 16)) >>> 0;
  };
  const mix = (x: number, y: number): number => {
    const mixed = Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y);
    return (mixed ^ (mixed >>> 16)) >>> 0;
  };
  const pool = Array.from({ length: POOL_WORDS }, (_, i) => hash(entropy[i] ?? 0));
  for (let source = 0; source < POOL_WORDS; source++) {
    for (let target = 0; target < POOL_WORDS; target++) {
      if (source !== target) pool[target] = mix(pool[target]!, hash(pool[source]!));
    }
  }

  let outputConstant = 0x8b51f9dd;
  const words = Array.from({ length: 8 }, (_, i) => {
    let word = pool[i % POOL_WORDS]! ^ outputConstant;
    outputConstant = Math.imul(outputConstant, 0x58f38ded);
    word = Math.imul(word, outputConstant);
    return BigInt((word ^ (word >>> 16)) >>> 0);
  });
  return Array.from({ length: 4 }, (_, i) => words[2 * i]! | (words[2 * i + 1]! << 32n));
}
