/** A share of a whole: `71%`. */
export function formatPercent(share: number): string {
  return `${Number((100 * share).toFixed(1))}%`;
}
