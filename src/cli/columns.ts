const GAP = " │ ";

/** Two texts beside each other in so many columns, each under its heading, broken at words. */
export function sideBySide(left: readonly [string, string], right: readonly [string, string], width: number): string[] {
  const each = Math.floor((width - GAP.length) / 2);
  const [leftLines, rightLines] = [left, right].map(([heading, text]) => [
    ...wrap(heading, each),
    "─".repeat(each),
    ...text.split("\n").flatMap((line) => wrap(line, each)),
  ]) as [string[], string[]];
  return Array.from({ length: Math.max(leftLines.length, rightLines.length) }, (_, i) =>
    `${pad(leftLines[i] ?? "", each)}${GAP}${rightLines[i] ?? ""}`.trimEnd(),
  );
}

/** A line in pieces of at most so many characters, words being kept whole where they fit. */
function wrap(line: string, width: number): string[] {
  const lines: string[] = [];
  let current: string[] = [];
  for (const word of line.split(" ")) {
    let rest = [...word];
    if (current.length > 0 && current.length + 1 + rest.length > width) {
      lines.push(current.join(""));
      current = [];
    }
    for (; rest.length > width; rest = rest.slice(width)) lines.push(rest.slice(0, width).join(""));
    current = [...current, ...(current.length > 0 ? [" "] : []), ...rest];
  }
  return [...lines, current.join("")];
}

function pad(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - [...text].length));
}
