// Where somebody was and when: one row per camera, one bar per time.

import { DAY, h, plural, s, shortMoment } from "./dom.js";

/** A bar is at least this share of the width, so that a few seconds of a long day can be seen. */
const LEAST = 0.006;
/** Milliseconds: below the first, ticks have seconds; above the second, they are days. */
const [MINUTES, DAYS] = [10 * 60_000, 3 * 86_400_000];

const SECONDS = new Intl.DateTimeFormat("en-GB", {
  timeZone: "UTC",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});

/** A moment as it is said on an axis of that length, both in milliseconds. */
function tick(time, length) {
  if (length < MINUTES) return SECONDS.format(time);
  return length > DAYS ? DAY.format(time) : shortMoment(new Date(time).toISOString());
}

/** "cam 3" of a number, any other name as it is. */
export const cameraName = (camera) =>
  camera === null ? "no camera" : /^\d+$/.test(camera) ? `cam ${camera}` : camera;

/** From when to when somebody was seen: "1 May 10:00 to 1 May 10:42". */
export const spanWords = (first, last) =>
  first ? (shortMoment(first) === shortMoment(last) ? shortMoment(first) : `${shortMoment(first)} to ${shortMoment(last)}`) : "";

/**
 * The range of several timelines, so that they can be compared; in milliseconds.
 * @param {{start: string, end: string}[][]} timelines
 */
export function rangeOf(timelines) {
  const all = timelines.flat().filter(({ start }) => start);
  const from = Math.min(...all.map(({ start }) => Date.parse(start)));
  const to = Math.max(...all.map(({ end }) => Date.parse(end)));
  return all.length ? [from, Math.max(to, from + 1000)] : null;
}

/**
 * A timeline as a figure.
 * @param {{camera: string|null, start: string, end: string, id?: string}[]} spans
 * @param {{range: [number, number]|null, most?: number, axis?: boolean, press?: (id: string) => void}} options
 *   `most`: rows; `axis`: whether the times are written below; `press`: called with the id of a pressed bar.
 */
export function timeline(spans, { range, most = Infinity, axis = true, press }) {
  const rows = new Map();
  for (const span of spans) {
    if (!rows.has(span.camera)) rows.set(span.camera, []);
    if (span.start) rows.get(span.camera).push(span);
  }
  const cameras = [...rows.keys()];
  const shown = cameras.slice(0, cameras.length > most ? most - 1 : most);
  const words = cameras.map((camera) => {
    const own = rows.get(camera);
    const times = own.length ? `, ${spanWords(own[0].start, own.at(-1).end)}` : "";
    return `${cameraName(camera)}: ${plural(own.length, "time")}${times}`;
  });
  const length = range ? range[1] - range[0] : 1;
  const place = (time) => (Date.parse(time) - range[0]) / length;
  const bars = (camera) =>
    rows.get(camera).map((span) => {
      const wide = Math.max(LEAST, place(span.end) - place(span.start));
      const bar = s("rect", { x: 1000 * Math.min(place(span.start), 1 - wide), y: 1, width: 1000 * wide, height: 10 });
      bar.append(s("title", {}, `${cameraName(camera)}, ${SECONDS.format(new Date(span.start))} to ${SECONDS.format(new Date(span.end))}`));
      if (press) {
        bar.classList.add("pressable");
        bar.addEventListener("click", () => press(span.id));
      }
      return bar;
    });
  return h(
    "div.timeline",
    { role: "img", "aria-label": `Timeline. ${words.join("; ")}` },
    ...shown.map((camera) =>
      h(
        "div.lane",
        { "aria-hidden": "true" },
        h("span", {}, cameraName(camera)),
        s("svg", { viewBox: "0 0 1000 12", preserveAspectRatio: "none" }, ...(range ? bars(camera) : [])),
      ),
    ),
    shown.length < cameras.length &&
      h("small", { "aria-hidden": "true" }, `and ${plural(cameras.length - shown.length, "more camera")}`),
    axis && range && ticks(range),
  );
}

/** The times of a range, as the last row of a timeline. */
export function ticks(range) {
  const length = range[1] - range[0];
  return h(
    "div.lane.ticks",
    { "aria-hidden": "true" },
    h("span"),
    h("div", {}, ...[0, 0.5, 1].map((share) => h("span", {}, tick(range[0] + share * length, length)))),
  );
}
