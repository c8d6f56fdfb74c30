/** Colours that the style sheet has, for light and dark: `--line-0` and so on. */
const NAMED_COLORS = 8;
/** Hues this far apart, in degrees, stay apart however many there are. */
const GOLDEN_ANGLE = 137.508;

/** The colour of a line as the page's scheme, light or dark, has it now. */
export function lineColor(number: number): string {
  if (number < NAMED_COLORS) return styleOf(`--line-${number}`);
  return `hsl(${((number * GOLDEN_ANGLE) % 360).toFixed(0)} 60% ${styleOf("--line-lightness")})`;
}

/** A property of the page's style sheet. */
export function styleOf(property: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(property).trim();
}
