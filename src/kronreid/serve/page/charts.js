// Counts as small charts: bars per camera, columns over time. Pressing one filters by it.

import { count, h, moment, plural, s } from "./dom.js";

const HOUR = 3_600_000;
/** The hours that one column may stand for, and the name of that time. */
const STEPS = [
  [1, "hour"],
  [24, "day"],
  [24 * 7, "week"],
  [24 * 28, "four weeks"],
];
const MOST_COLUMNS = 96;

/**
 * Bars, one per camera, as buttons.
 * @param {{value: string|null, count: number}[]} cameras
 * @param {Set<string>} chosen
 * @param {(camera: string) => void} press
 */
export function cameraChart(cameras, chosen, press) {
  const most = Math.max(1, ...cameras.map((camera) => camera.count));
  return h(
    "ul.bars",
    { "aria-label": "Pictures per camera" },
    ...cameras.map(({ value, count: number }) => {
      const bar = h("i", { "aria-hidden": "true" });
      bar.style.width = `${(100 * number) / most}%`;
      const inside = [
        h("span.bar-name", {}, value ?? "unknown"),
        h("span.bar-track", {}, bar),
        h("span.bar-count", {}, count(number)),
      ];
      if (value === null) return h("li", {}, h("span.bar-row", {}, ...inside));
      return h(
        "li",
        {},
        h(
          "button.bar-row",
          {
            type: "button",
            "aria-pressed": String(chosen.has(value)),
            "aria-label": `Camera ${value}, ${plural(number, "picture")}`,
            on: { click: () => press(value) },
          },
          ...inside,
        ),
      );
    }),
  );
}

/**
 * Columns over time. Hours without pictures are gaps; a long time is shown by day or week.
 * @param {{value: string|null, count: number}[]} hours In order.
 * @param {(from: Date, until: Date) => void} press
 */
export function hourChart(hours, press) {
  const known = hours
    .filter(({ value }) => value !== null)
    .map(({ value, count: number }) => [Date.parse(value), number]);
  if (!known.length) return h("p.hint", {}, "No times are known.");
  const [first, last] = [known[0][0], known.at(-1)[0]];
  const [step, name] =
    STEPS.find(([length]) => (last - first) / (length * HOUR) < MOST_COLUMNS) ?? STEPS.at(-1);
  const start = step === 1 ? first : Math.floor(first / (24 * HOUR)) * 24 * HOUR;
  const columns = new Array(Math.floor((last - start) / (step * HOUR)) + 1).fill(0);
  for (const [time, number] of known) columns[Math.floor((time - start) / (step * HOUR))] += number;
  const most = Math.max(...columns);
  const busiest = new Date(start + columns.indexOf(most) * step * HOUR).toISOString();
  const label = `Pictures per ${name}, from ${moment(known[0][0])} to ${moment(last)}; most, ${count(most)}, in the ${name} of ${moment(busiest)}`;
  const svg = s("svg", {
    viewBox: `0 0 ${columns.length} 100`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
  });
  const caption = h("p.chart-caption", {});
  const plain = `most in one ${name}: ${count(most)}`;
  caption.textContent = plain;
  const span = (i) => [new Date(start + i * step * HOUR), new Date(start + (i + 1) * step * HOUR - 60_000)];
  columns.forEach((number, i) => {
    const high = number ? Math.max(3, (96 * number) / most) : 0;
    const column = s(
      "g",
      { class: "column" },
      s("rect", { class: "reach", x: i, y: 0, width: 1, height: 100 }),
      s("rect", { x: i + 0.1, y: 100 - high, width: 0.8, height: high }),
    );
    column.addEventListener(
      "pointerenter",
      () =>
        (caption.textContent = `${moment(span(i)[0].toISOString(), step === 1)}: ${plural(number, "picture")}`),
    );
    column.addEventListener("click", () => press(...span(i)));
    svg.append(column);
  });
  svg.addEventListener("pointerleave", () => (caption.textContent = plain));
  return h(
    "div.hours",
    {},
    svg,
    h(
      "div.axis",
      { "aria-hidden": "true" },
      h("span", {}, moment(known[0][0], step === 1)),
      h("span", {}, moment(last, step === 1)),
    ),
    caption,
  );
}
