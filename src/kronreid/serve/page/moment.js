// The moment that a picture was taken: the frames of its video around it, with the person's box.

import { api } from "./api.js";
import { button, dialog, h, icon, moment, notice } from "./dom.js";
import { thumb } from "./parts.js";
import { cameraName } from "./timeline.js";

const CLOCK = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", timeStyle: "medium" });

/** Show the frames around a picture of a tracklet in a dialog. */
export async function openMoment(id) {
  const body = h("div.moment", {}, h("p.waiting", { role: "status" }, "Reading the video…"));
  let player = null;
  const opened = dialog({ title: "The moment", body, kind: "wide", onclose: () => player?.pause() });
  try {
    const found = await api.moment(id);
    if (!opened.element.isConnected) return;
    opened.element.querySelector("h2").textContent = title(found);
    if (found.frames.length) {
      player = new Player(found);
      body.replaceChildren(...player.elements);
      player.slider.focus();
    } else body.replaceChildren(...stored(found));
  } catch (error) {
    if (opened.element.isConnected) body.replaceChildren(notice(error.message));
  }
}

function title({ camera, time }) {
  return [cameraName(camera), time && moment(time)].filter(Boolean).join(", ");
}

/** What there is without the video: the stored picture. */
function stored({ item, missing }) {
  return [
    h("p.moment-missing", { role: "status" }, icon("alert"), h("span", {}, `The video cannot be shown: ${missing}. This is the stored picture.`)),
    h("p.moment-crop", {}, thumb(item, "The stored picture", "full")),
  ];
}

class Player {
  constructor(found) {
    this.found = found;
    const { frames, width, height, camera } = found;
    this.picture = h("img", { alt: `Frame of ${cameraName(camera)}`, width, height, draggable: "false" });
    this.box = h("span.moment-box", { "aria-hidden": "true" });
    this.stage = h("div.moment-stage", {}, this.picture, this.box);
    this.slider = h("input", {
      type: "range",
      min: "0",
      max: String(frames.length - 1),
      step: "1",
      "aria-label": "Frame",
      on: { input: () => (this.pause(), this.go(Number(this.slider.value))) },
    });
    this.playing = button({ text: "Play", glyph: "play", press: () => (this.timer ? this.pause() : this.play()) });
    this.words = h("output.moment-words");
    this.unseen = h("p.hint.moment-unseen");
    this.picture.addEventListener("error", () => this.unseen.replaceChildren("This frame cannot be shown."));
    this.elements = [
      this.stage,
      h(
        "div.moment-controls",
        {},
        this.playing,
        this.slider,
        button({ text: "The moment", label: "Back to the moment of the picture", press: () => (this.pause(), this.go(found.at)) }),
      ),
      h("p.moment-caption", {}, this.words),
      this.unseen,
    ];
    this.go(found.at);
  }

  go(number) {
    const frame = this.found.frames[number];
    this.number = number;
    this.slider.value = String(number);
    this.picture.src = frame.picture;
    this.box.hidden = !frame.box;
    if (frame.box) {
      const [left, top, width, height] = frame.box.map((share) => `${100 * share}%`);
      Object.assign(this.box.style, { left, top, width, height });
    }
    const apart = Math.abs(frame.offset) < 0.05 ? "the moment of the picture" : `${Math.abs(frame.offset).toFixed(1)} s ${frame.offset < 0 ? "before" : "after"}`;
    const words = `${CLOCK.format(new Date(frame.time))} UTC, ${apart}`;
    this.words.textContent = words;
    this.slider.setAttribute("aria-valuetext", words);
    this.unseen.textContent = frame.box ? "" : "The person has no box in this frame.";
  }

  /** Show one frame after the other, as fast as they were taken, from here or from the first one. */
  play() {
    if (this.number === this.found.frames.length - 1) this.go(0);
    this.say("Pause", "pause");
    this.next();
  }

  next() {
    const { frames } = this.found;
    const wait = 1000 * ((frames[this.number + 1]?.offset ?? 0) - frames[this.number].offset);
    this.timer = setTimeout(() => {
      this.go(this.number + 1);
      if (this.number < frames.length - 1) this.next();
      else this.pause();
    }, Math.max(wait, 20));
  }

  pause() {
    clearTimeout(this.timer);
    this.timer = null;
    this.say("Play", "play");
  }

  say(words, glyph) {
    this.playing.replaceChildren(icon(glyph), h("span", {}, words));
  }
}
