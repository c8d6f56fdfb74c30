import type UPlot from "uplot";
import type { ChartData, LineData, ViewData } from "../page-data.ts";
import { createLegend, type Legend } from "./legend.ts";
import { formatMarks, formatNumber, paddedRange } from "./numbers.ts";
import { lineColor, styleOf } from "./palette.ts";
import { smooth } from "./smoothing.ts";
import type { Points } from "./store.ts";

/** Set by the library's own script. */
declare const uPlot: typeof UPlot;

/** A line with more points than this shows them where they are far enough apart. */
const FEW_POINTS = 60;
const POINT_SIZE_PX = 5;
const POINT_DISTANCE_PX = 10;
/** With more lines the one next to the pointer stands out. */
const LINES_WITHOUT_FOCUS = 6;
const FOCUS_DISTANCE_PX = 24;
const MARK_WIDTH_PX = 7;
/** Lines that the description of a chart names. */
const DESCRIBED_LINES = 6;
const STEP_DISTANCES = [1, 2, 5]
  .flatMap((digit) => [0, 1, 2, 3, 4, 5, 6, 7].map((zeros) => digit * 10 ** zeros))
  .sort((a, b) => a - b);

export interface Chart {
  /** The plot that is shown. */
  readonly plot: () => UPlot;
  /** Draws again, where one of its series is among those that have grown. */
  readonly update: (grown: ReadonlySet<number>) => void;
  /** Draws training averaged over its past: 0 as it is, towards 1 ever smoother. */
  readonly smooth: (weight: number) => void;
  /** Draws again in the colours of the page's scheme. */
  readonly recolor: () => void;
}

/** Fills a figure of the page with its plot and legend. */
export function createChart(figure: HTMLElement, { views }: ChartData, series: readonly Points[]): Chart {
  const place = figure.querySelector<HTMLElement>(".plot")!;
  const legendPlace = figure.querySelector<HTMLElement>(".legend")!;
  const choice = figure.querySelector<HTMLSelectElement>("select");
  const hidden = new Set<string>();
  let smoothing = 0;
  let plot: UPlot;
  let legend: Legend;

  const viewNow = () => views[Number(choice?.value ?? 0)]!;
  const dataNow = () => alignedData(viewNow().lines, series, smoothing);
  const describe = () => place.setAttribute("aria-label", description(viewNow(), series));
  const showLast = () => legend.showValues(viewNow().lines.map((line) => lastValue(series[line.series]!)));
  const build = () => {
    const view = viewNow();
    legend = createLegend(legendPlace, view.lines, hidden, () => {
      for (const [i, { label }] of view.lines.entries()) plot.setSeries(i + 1, { show: !hidden.has(label) });
    });
    showLast();
    const options = plotOptions(view, series, hidden, {
      onPoint: (values) => (values ? legend.showValues(values) : showLast()),
      onFocus: legend.point,
    });
    plot = new uPlot({ ...options, ...sizeOf(place) }, dataNow(), place);
    describe();
  };
  build();

  choice?.addEventListener("change", () => {
    plot.destroy();
    build();
  });
  new ResizeObserver(() => plot.setSize(sizeOf(place))).observe(place);
  return {
    plot: () => plot,
    smooth: (weight) => {
      smoothing = weight;
      replaceData(plot, dataNow());
    },
    update: (grown) => {
      if (!viewNow().lines.some((line) => grown.has(line.series))) return;
      replaceData(plot, dataNow());
      showLast();
      describe();
    },
    recolor: () => {
      legend.recolor();
      plot.redraw(false, true);
    },
  };
}

function sizeOf(place: HTMLElement): { width: number; height: number } {
  return { width: Math.max(1, place.clientWidth), height: Math.max(1, place.clientHeight) };
}

/** Draws other points: all of them, or the steps that the reader has chosen to look at. */
function replaceData(plot: UPlot, data: UPlot.AlignedData): void {
  const { min, max } = plot.scales.x!;
  const [steps] = plot.data;
  const isZoomed = min != null && max != null && (min > steps[0]! || max < steps.at(-1)!);
  plot.batch(() => {
    plot.setData(data, !isZoomed);
    if (isZoomed) plot.setScale("x", { min, max });
  });
}

/** All lines over the steps of any: undefined where a line has no record, null where its value is not finite. */
function alignedData(lines: readonly LineData[], series: readonly Points[], smoothing: number): UPlot.AlignedData {
  const tables = lines.map((line) => {
    const { steps, values, isEvaluation } = series[line.series]!;
    return [steps, isEvaluation ? values : smooth(values, smoothing)];
  });
  return tables.length === 0 ? [[]] : uPlot.join(tables as UPlot.AlignedData[]);
}

function lastValue({ values }: Points): number | null {
  return values.findLast((value) => value !== null) ?? null;
}

/** What the chart shows, for those who do not see it. */
function description({ label, lines }: ViewData, series: readonly Points[]): string {
  const steps = lines.flatMap((line) => series[line.series]!.steps.at(-1) ?? []);
  if (steps.length === 0) return `Line chart of ${label}, still without records.`;
  const named = lines
    .slice(0, DESCRIBED_LINES)
    .map((line) => `${line.label} ends at ${formatNumber(lastValue(series[line.series]!))}`);
  const more = lines.length > DESCRIBED_LINES ? [`and ${lines.length - DESCRIBED_LINES} more lines`] : [];
  return `Line chart of ${label} up to step ${Math.max(...steps)}: ${[...named, ...more].join(", ")}.`;
}

interface PlotEvents {
  /** The values at the pointer; null when it is elsewhere. */
  readonly onPoint: (values: (number | null | undefined)[] | null) => void;
  /** The number of the line that stands out. */
  readonly onFocus: (line: number | null) => void;
}

function plotOptions(
  view: ViewData,
  series: readonly Points[],
  hidden: ReadonlySet<string>,
  { onPoint, onFocus }: PlotEvents,
): Omit<UPlot.Options, "width" | "height"> {
  const font = "12px system-ui, sans-serif";
  const axis: UPlot.Axis = {
    stroke: () => styleOf("--text-muted"),
    grid: { stroke: () => styleOf("--grid"), width: 1 },
    ticks: { show: false },
    font,
  };
  return {
    legend: { show: false },
    cursor: {
      sync: { key: "steps", setSeries: false },
      ...(view.lines.length > LINES_WITHOUT_FOCUS ? { focus: { prox: FOCUS_DISTANCE_PX } } : {}),
    },
    focus: { alpha: 0.25 },
    scales: {
      x: { time: false, range: (_, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) },
      y: {
        range: (_, low, high) => {
          if (view.range) return [...view.range];
          // null where no line is shown.
          if (low === null || high === null) return [0, 1];
          return view.isFromZero && low >= 0 ? [0, paddedRange(0, high)[1]] : paddedRange(low, high);
        },
      },
    },
    axes: [
      {
        ...axis,
        label: "step",
        labelSize: 18,
        labelFont: font,
        size: 28,
        incrs: STEP_DISTANCES,
        values: (_, marks) => marks.map(String),
      },
      {
        ...axis,
        values: (_plot, marks, _axis, _space, distance) => formatMarks(marks, distance),
        size: (_, marks) => 16 + MARK_WIDTH_PX * Math.max(1, ...(marks ?? []).map((mark) => mark.length)),
      },
    ],
    series: [{}, ...view.lines.map((line) => plotSeries(line, series[line.series]!, !hidden.has(line.label)))],
    hooks: {
      setCursor: [
        ({ cursor, data }) => {
          const { idx, idxs } = cursor;
          const isInside = idx !== null && idx !== undefined;
          onPoint(isInside ? data.slice(1).map((values, i) => values[idxs?.[i + 1] ?? -1]) : null);
        },
      ],
      setSeries: [(_, number, change) => "focus" in change && onFocus(number === null ? null : number - 1)],
      ...(view.guide ? { draw: [(plot: UPlot) => drawGuide(plot, view.guide!)] } : {}),
    },
  };
}

function plotSeries(line: LineData, points: Points, isShown: boolean): UPlot.Series {
  const color = () => lineColor(line.color);
  return {
    label: line.label,
    show: isShown,
    stroke: color,
    width: line.isBold ? 3 : 1.5,
    ...(line.isDashed ? { dash: [6, 4] } : {}),
    points: { show: showsPoints(points), size: POINT_SIZE_PX, fill: color, stroke: color },
  };
}

/** Asked at each drawing: the line may grow. */
function showsPoints({ steps }: Points): UPlot.Series.Points.Show {
  return (plot, _, first, last) =>
    steps.length <= FEW_POINTS || (last - first) * POINT_DISTANCE_PX <= plot.bbox.width / devicePixelRatio;
}

/** A thin line across the plot, with its name, where the axis reaches it. */
function drawGuide(plot: UPlot, { value, label }: NonNullable<ViewData["guide"]>): void {
  const { min, max } = plot.scales.y!;
  if (min === undefined || max === undefined || min === null || max === null || value < min || value > max) return;
  const { ctx, bbox } = plot;
  const y = Math.round(plot.valToPos(value, "y", true)) + 0.5;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = styleOf("--text-muted");
  ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
  ctx.lineWidth = devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = "right";
  ctx.fillText(label, bbox.left + bbox.width - 2 * devicePixelRatio, y - 4 * devicePixelRatio);
  ctx.restore();
}
