const STATE_WORDS = 624;
const SHIFT_WORDS = 397;

/** The 32-bit Mersenne Twister as torch's CPU generator runs it. */
export interface Mt19937 {
  /** The next 32-bit draw, as an unsigned integer. */
  nextUint32(): number;
  /** Moves on by `count` draws without computing them. */
  skip(count: number): void;
}

/**
 * The generator that `torch.manual_seed(seed)` sets up on the CPU. torch keeps only the low 32 bits of the seed.
 *
 * Matsumoto and Nishimura, "Mersenne Twister", 1998 (init_genrand and genrand_int32 of mt19937ar.c).
 *
 * @param seed an integer in [0, 2^53)
 */
export function createMt19937(seed: number): Mt19937 {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new RangeError(`internal: a seed must be an integer in [0, 2^53), got ${seed}`);
  }
  const state = new Uint32Array(STATE_WORDS);
  state[0] = seed % 2 ** 32;
  for (let i = 1; i < STATE_WORDS; i++) {
    const previous = state[i - 1]!;
    state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i;
  }
  let position = STATE_WORDS;

  function nextState(): void {
    for (let i = 0; i < STATE_WORDS; i++) {
      const next = state[i + 1 < STATE_WORDS ? i + 1 : 0]!;
      const mixed = (state[i]! & 0x80000000) | (next & 0x7fffffff);
      const far = i + SHIFT_WORDS;
      state[i] = state[far < STATE_WORDS ? far : far - STATE_WORDS]! ^ (mixed >>> 1) ^ (next & 1 ? 0x9908b0df : 0);
    }
    position = 0;
  }

  return {
    nextUint32(): number {
      if (position === STATE_WORDS) nextState();
      let word = state[position++]!;
      word ^= word >>> 11;
      word ^= (word << 7) & 0x9d2c5680;
      word ^= (word << 15) & 0xefc60000;
      word ^= word >>> 18;
      return word >>> 0;
    },
    skip(count: number): void {
      let left = count;
      while (left > STATE_WORDS - position) {
        left -= STATE_WORDS - position;
        nextState();
      }
      position += left;
    },
  };
}
