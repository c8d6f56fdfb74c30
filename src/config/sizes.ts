/** A size as transformers writes it: `5GB` is 5·10⁹ bytes, `5GiB` is 5·2³⁰. */
export const SIZE = /^([1-9]\d{0,5})(KB|MB|GB|KiB|MiB|GiB)$/;

const UNIT_BYTES = { KB: 1e3, MB: 1e6, GB: 1e9, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 } as const;

/** The bytes of a valid `export.max_shard_size`. */
export function sizeBytes(size: string): number {
  const match = SIZE.exec(size);
  if (match === null) throw new Error(`internal: ${size} is not a size`);
  return Number(match[1]) * UNIT_BYTES[match[2] as keyof typeof UNIT_BYTES];
}
