// The cameras: what each has seen, and whether kronreid track follows it now.

import { api } from "./api.js";
import { count, h, icon, moment, notice, peopleWords, plural } from "./dom.js";
import { state } from "./state.js";
import { cameraName } from "./timeline.js";

/** How often the view asks again while it is open, in milliseconds. */
const AGAIN = 5000;

export class CamerasView {
  constructor(root) {
    this.root = root;
    this.title = h("h1", { id: "title-cameras", tabindex: "-1" }, "Cameras");
    this.total = h("p.total", { role: "status" });
    this.trouble = h("div");
    this.list = h("ul.cameras", { "aria-label": "Cameras" });
    this.cards = new Map();
    root.append(
      h(
        "div.rail",
        {},
        this.title,
        h("p.hint", {}, "What the cameras have seen, and which of them kronreid track follows now. Times are UTC."),
      ),
      h("div.results", {}, h("div.results-head", {}, this.total), this.trouble, this.list),
    );
    document.addEventListener("visibilitychange", () => this.seen && this.load());
  }

  /** Whether somebody looks at this view. */
  get seen() {
    return !this.root.hidden && !document.hidden;
  }

  async show() {
    state.paste = null;
    await this.load();
  }

  async load() {
    clearTimeout(this.timer);
    const turn = (this.turn = (this.turn ?? 0) + 1);
    try {
      const { cameras, time } = await api.cameras();
      if (turn !== this.turn) return;
      this.trouble.replaceChildren();
      this.draw(cameras, time);
    } catch (error) {
      if (turn !== this.turn) return;
      this.trouble.replaceChildren(notice(error.message, { again: () => this.load() }));
      return;
    }
    this.timer = setTimeout(() => this.seen && this.load(), AGAIN);
  }

  draw(cameras, time) {
    const running = cameras.filter((camera) => camera.running).length;
    const words = `${plural(cameras.length, "camera")}, ${running ? `${count(running)} running` : "none running"}`;
    if (this.total.textContent !== words) this.total.textContent = words;
    const cards = new Map();
    for (const camera of cameras) {
      const text = JSON.stringify(camera);
      const known = this.cards.get(camera.camera);
      if (known?.text === text && !camera.running) cards.set(camera.camera, known);
      else cards.set(camera.camera, { text, element: this.card(camera, time) });
    }
    const focused = document.activeElement?.closest?.(".camera")?.dataset.name;
    this.cards = cards;
    this.list.replaceChildren(...[...cards.values()].map(({ element }) => element));
    if (focused !== undefined)
      [...this.list.children].find((card) => card.dataset.name === focused)?.querySelector("a")?.focus({ preventScroll: true });
    if (!cameras.length) this.list.append(nobody());
  }

  card(camera, time) {
    const name = cameraName(camera.camera);
    const fact = (term, value) => h("div", {}, h("dt", {}, term), h("dd", {}, value));
    const people = camera.people
      ? h("a", { href: `#/people?camera=${encodeURIComponent(camera.camera ?? "")}`, "aria-label": `${peopleWords(camera.people)} seen by ${name}` }, count(camera.people))
      : "0";
    return h(
      "li.camera",
      { data: { name: camera.camera ?? "" } },
      h(
        "div.camera-head",
        {},
        h("h2", {}, name),
        h(`span.camera-state${camera.running ? ".running" : ""}`, {}, camera.running ? "Running" : "Not running"),
      ),
      h(
        "dl.camera-facts",
        {},
        fact("First seen", camera.first ? moment(camera.first) : "nobody yet"),
        fact("Last seen", camera.last ? moment(camera.last) : "nobody yet"),
        fact("Tracklets", count(camera.tracklets)),
        fact("People", people),
      ),
      camera.recordings.length > 0 &&
        h("ul.recordings", { "aria-label": `Recordings of ${name}` }, ...camera.recordings.map((one) => recording(one, time))),
      camera.more > 0 && h("p.hint", {}, `and ${plural(camera.more, "other recording")}`),
    );
  }
}

/** A recording: its source, what it does, and its counts. */
function recording(one, time) {
  const facts = [
    one.frames_per_second > 0 && `${one.frames_per_second.toFixed(1)} frames/s${one.running ? "" : " on average"}`,
    plural(one.frames, "frame"),
    (one.live || one.dropped > 0) && `${count(one.dropped)} dropped`,
    one.damaged > 0 && `${count(one.damaged)} damaged`,
  ];
  return h(
    "li",
    {},
    h("b", {}, one.source),
    h("span", {}, words(one, time)),
    h("small", {}, facts.filter(Boolean).join(", ")),
    one.error && h("small.recording-error", {}, icon("alert"), h("span", {}, one.error)),
  );
}

/** What a recording does: "running for 2 h", "ended 4 Mar 2026, 10:41". */
function words(one, time) {
  if (one.running) return `${one.live ? "live, " : ""}running for ${long((Date.parse(time) - Date.parse(one.began)) / 1000)}`;
  return `${one.finished ? "ended" : "stopped before its end"} ${moment(one.updated)}`;
}

/** Seconds as "40 s", "12 min", "3 h" or "5 days". */
function long(seconds) {
  const steps = [
    [86_400 * 2, 86_400, " days"],
    [3600 * 2, 3600, " h"],
    [120, 60, " min"],
    [-Infinity, 1, " s"],
  ];
  const [, unit, name] = steps.find(([least]) => seconds >= least);
  return `${count(Math.max(0, Math.round(seconds / unit)))}${name}`;
}

const nobody = () =>
  h(
    "li.empty-state",
    {},
    icon("cameras"),
    h("h2", {}, "No camera has been followed"),
    h("p", {}, "The command kronreid track follows the people in videos and in front of cameras."),
  );
