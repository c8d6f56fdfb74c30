import type { Workgroups } from "../gpu/commands.ts";

/** Workgroups in rows, because a large tensor needs more than one dimension may have. */
export function gridOf(workgroups: number): Workgroups {
  const x = Math.min(workgroups, 2 ** 15);
  return [x, Math.ceil(workgroups / x), 1];
}
