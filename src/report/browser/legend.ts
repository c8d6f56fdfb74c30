import type { LineData } from "../page-data.ts";
import { formatNumber } from "./numbers.ts";
import { lineColor } from "./palette.ts";

/** With more lines there are buttons for all of them. */
const LINES_WITHOUT_BUTTONS = 4;

export interface Legend {
  /** The values that stand behind the names, null for none, in the order of the lines. */
  readonly showValues: (values: readonly (number | null | undefined)[]) => void;
  /** Marks the line that is pointed at. */
  readonly point: (line: number | null) => void;
  readonly recolor: () => void;
}

/**
 * Fills `container` with a button for each line, which shows and hides it.
 *
 * @param hidden the labels of the lines that are not shown; kept up to date
 */
export function createLegend(
  container: HTMLElement,
  lines: readonly LineData[],
  hidden: Set<string>,
  onToggle: () => void,
): Legend {
  const items = lines.map((line) => {
    const button = makeButton("legend-item");
    const swatch = makeSpan("swatch");
    if (line.isDashed) swatch.classList.add("dashed");
    const value = makeSpan("value");
    button.append(swatch, makeSpan("name", line.label), value);
    button.addEventListener("click", () => {
      if (!hidden.delete(line.label)) hidden.add(line.label);
      toggled();
    });
    return { button, swatch, value, line };
  });

  const showPressed = () => {
    for (const { button, line } of items) button.setAttribute("aria-pressed", String(!hidden.has(line.label)));
  };
  const toggled = () => {
    showPressed();
    onToggle();
  };
  const recolor = () => {
    for (const { swatch, line } of items) swatch.style.borderColor = lineColor(line.color);
  };
  const setAll = (text: string, isShown: boolean) => {
    const button = makeButton("legend-all", text);
    button.addEventListener("click", () => {
      for (const { label } of lines) isShown ? hidden.delete(label) : hidden.add(label);
      toggled();
    });
    return button;
  };

  container.replaceChildren(
    ...(lines.length > LINES_WITHOUT_BUTTONS ? [setAll("Show all", true), setAll("Hide all", false)] : []),
    ...items.map(({ button }) => button),
  );
  recolor();
  showPressed();
  return {
    recolor,
    showValues: (values) => {
      for (const [i, { value }] of items.entries()) {
        const shown = values[i] === null || values[i] === undefined ? "" : formatNumber(values[i]);
        if (value.textContent !== shown) value.textContent = shown;
      }
    },
    point: (pointed) => {
      for (const [i, { button }] of items.entries()) button.classList.toggle("pointed", i === pointed);
      if (pointed !== null) scrollTo(container, items[pointed]!.button);
    },
  };
}

/** Scrolls a container, and nothing around it, to where a part of it is seen. */
function scrollTo(container: HTMLElement, { offsetTop, offsetHeight }: HTMLElement): void {
  const least = offsetTop + offsetHeight - container.clientHeight;
  container.scrollTop = Math.min(offsetTop, Math.max(container.scrollTop, least));
}

function makeButton(className: string, text = ""): HTMLButtonElement {
  const button = document.createElement("button");
  button.type = "button";
  button.className = className;
  button.textContent = text;
  return button;
}

function makeSpan(className: string, text = ""): HTMLSpanElement {
  const span = document.createElement("span");
  span.className = className;
  span.textContent = text;
  return span;
}
