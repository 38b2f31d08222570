// Two pictures side by side. Point at a place of one, and see where the matcher looked in the other, or which
// place the embedder's places matched with it.

import { capital, h, percent, s, segmented } from "./dom.js";
import { fitted, paint, Parts, ramp, rebuild, ScaleMap } from "./maps.js";
import { badge, drawShares, drawStrongest, Level, SIDES } from "./places.js";

const SCALE_NAMES = { 1: ["Only"], 2: ["Coarse", "Fine"], 3: ["Coarse", "Middle", "Fine"] };

export class Stage {
  constructor() {
    this.plates = SIDES.map((words, side) => this.plate(words, side));
    this.links = s("svg", { class: "links", "aria-hidden": "true" });
    this.readout = h("output.readout", { id: "readout" });
    this.bar = h(
      "div.ramp",
      {},
      h("span", {}, "0"),
      h("i", { "aria-hidden": "true" }),
      h("span.ramp-most", {}),
    );
    this.balance = h(
      "div.ramp.balance",
      {},
      h("span.against", {}),
      h("i", { "aria-hidden": "true" }),
      h("span.for", {}),
    );
    this.strength = h("input", {
      type: "range",
      min: "0.2",
      max: "1",
      step: "0.05",
      value: "0.75",
      on: { input: () => this.draw() },
    });
    this.strengthControl = h("label.field.strength", {}, h("span", {}, "Overlay"), this.strength);
    this.part = h("input", {
      type: "range",
      min: "0",
      step: "1",
      on: { input: () => ((this.chosenPart = Number(this.part.value) - 1), this.draw()) },
    });
    this.partWords = h("output");
    this.partControl = h("label.field.part", {}, h("span", {}, "Part"), this.part, this.partWords);
    this.pictures = h("div.plates", {}, ...this.plates.map(({ element }) => element), this.links);
    this.tools = h("div.stage-tools");
    this.element = h(
      "div.stage-view",
      {},
      this.tools,
      this.pictures,
      h("div.stage-foot", {}, this.bar, this.balance, this.readout),
    );
    /** What is pointed at: side 0 or 1 and a place there; null for nothing. */
    this.at = null;
    this.pinned = false;
    const again = () => this.explanation && this.draw();
    new ResizeObserver(again).observe(this.pictures);
    // The colours of shares are the theme's.
    new MutationObserver(again).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  }

  plate(words, side) {
    const image = h("img", { alt: `The ${words} picture`, draggable: "false" });
    const canvas = h("canvas", { "aria-hidden": "true" });
    const cell = h("i.cell", { hidden: true });
    const caption = h("figcaption");
    const picker = h(
      "div.picker",
      {
        tabindex: "0",
        role: "application",
        "aria-roledescription": "picture",
        "aria-label": `The ${words} picture. Arrow keys move over its places`,
        "aria-describedby": "readout",
      },
      image,
      canvas,
      cell,
    );
    const place = (event) => {
      const area = picker.getBoundingClientRect();
      const [high, wide] = this.size();
      const part = (value, length) => Math.max(0, Math.min(length - 1, Math.floor(value * length)));
      return (
        part((event.clientY - area.top) / area.height, high) * wide +
        part((event.clientX - area.left) / area.width, wide)
      );
    };
    picker.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" && !this.pinned) this.point(side, place(event));
    });
    picker.addEventListener(
      "pointerleave",
      (event) => event.pointerType === "mouse" && !this.pinned && this.point(null),
    );
    picker.addEventListener("click", (event) => {
      const there = place(event);
      const again = this.pinned && this.at?.side === side && this.at.place === there;
      this.pinned = !again;
      this.point(again ? null : side, there);
    });
    picker.addEventListener("keydown", (event) => this.key(event, side));
    picker.addEventListener("blur", () => !this.pinned && this.point(null));
    return { element: h("figure.plate", {}, picker, caption), picker, image, canvas, cell, caption };
  }

  /**
   * @param {object} explanation `ExplainAnswer`.
   * @param {(string|null)[]} addresses Sharper pictures than those the network saw, if there are any.
   * @param {(Node|string)[]} captions
   */
  show(explanation, addresses, captions) {
    this.explanation = explanation;
    this.levels = explanation.places?.levels.map((level) => new Level(level)) ?? [];
    this.scales = this.levels.length ? this.levels : explanation.scales.map((scale) => new ScaleMap(scale));
    this.parts = [explanation.parts_a, explanation.parts_b].map((parts) => parts && new Parts(parts));
    this.scale = Math.min(this.scale ?? (this.levels.length ? 0 : 99), this.scales.length - 1);
    this.chosenPart = -1;
    this.pinned = false;
    this.at = null;
    const layers = [];
    if (this.levels.length) layers.push(["shares", "Shares"], ["strongest", "Strongest"]);
    else if (this.scales.length)
      layers.push(["places", "Places"], ["attention", "Attention"], ["rebuilt", "Rearranged"]);
    if (this.parts[0]) layers.push(["parts", "Parts"]);
    if (!layers.some(([key]) => key === this.layer)) this.layer = layers[0]?.[0];
    const names =
      (!this.levels.length && SCALE_NAMES[this.scales.length]) || this.scales.map((_, i) => String(i + 1));
    this.scaleChoice = segmented({
      legend: this.levels.length ? "Level" : "Scale",
      options: this.scales.map(({ height, width }, i) => [
        String(i),
        this.levels.length ? `${names[i]} (${height}×${width})` : `${names[i]} ${height}×${width}`,
      ]),
      value: String(this.scale),
      change: (key) => this.choose({ scale: Number(key) }),
    });
    this.layerChoice = segmented({
      legend: "Show",
      options: layers,
      value: this.layer,
      change: (layer) => this.choose({ layer }),
    });
    this.tools.replaceChildren(
      layers.length > 1 ? this.layerChoice : "",
      this.scales.length > 1 ? this.scaleChoice : "",
      this.partControl,
      this.strengthControl,
    );
    if (this.parts[0]) this.part.max = this.parts[0].count;
    this.plates.forEach((plate, side) => {
      const seen = side ? explanation.picture_b : explanation.picture_a;
      plate.image.onload = () => {
        if (plate.image.src === seen || !addresses[side])
          this.pictures.style.setProperty("--ratio", plate.image.naturalWidth / plate.image.naturalHeight);
        this.draw();
      };
      plate.image.onerror = () => plate.image.src !== seen && (plate.image.src = seen);
      plate.image.src = addresses[side] ?? seen;
      plate.caption.replaceChildren(captions[side]);
    });
    // The maps belong to the picture as the network saw it, so both are shown in that shape.
    const seen = new Image();
    seen.onload = () => {
      this.pictures.style.setProperty("--ratio", seen.naturalWidth / seen.naturalHeight);
      this.draw();
    };
    seen.src = explanation.picture_a;
    this.draw();
  }

  choose({ scale = this.scale, layer = this.layer }) {
    if (scale !== this.scale && this.at)
      this.at = { ...this.at, place: this.moved(this.at.place, this.scales[this.scale], this.scales[scale]) };
    this.scale = scale;
    this.layer = layer;
    this.scaleChoice.choose(String(scale));
    this.layerChoice.choose(layer);
    this.draw();
  }

  /** The next finer (1) or coarser (−1) scale. */
  step(way) {
    const scale = this.scale + way;
    if (this.explanation && this.scales[scale]) this.choose({ scale });
  }

  /** The place of another scale that covers the middle of this one. */
  moved(place, from, to) {
    const y = (Math.floor(place / from.width) + 0.5) / from.height;
    const x = ((place % from.width) + 0.5) / from.width;
    return Math.floor(y * to.height) * to.width + Math.floor(x * to.width);
  }

  /** Rows and columns of what is shown. */
  size() {
    const map = this.layer === "parts" ? this.parts[0] : this.scales[this.scale];
    return [map?.height ?? 1, map?.width ?? 1];
  }

  point(side, place) {
    this.at = side === null ? null : { side, place };
    this.draw();
  }

  key(event, side) {
    const ways = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const way = ways[event.key];
    if (event.key === "Escape" && this.at) {
      this.pinned = false;
      this.point(null);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.pinned = !this.pinned && this.at !== null;
      this.draw();
    } else if (way && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      const [high, wide] = this.size();
      const here =
        this.at?.side === side ? this.at.place : Math.floor(high / 2) * wide + Math.floor(wide / 2);
      const still = this.at?.side !== side; // the first press only shows the current place
      const y = Math.max(0, Math.min(high - 1, Math.floor(here / wide) + (still ? 0 : way[0])));
      const x = Math.max(0, Math.min(wide - 1, (here % wide) + (still ? 0 : way[1])));
      this.point(side, y * wide + x);
    }
  }

  // ── drawing ────────────────────────────────────────────────────────────────────────────────────────────

  draw() {
    if (!this.explanation || !this.layer) return;
    const layered = {
      places: this.drawPlaces,
      attention: this.drawAttention,
      rebuilt: this.drawRebuilt,
      parts: this.drawParts,
      shares: () => drawShares(this),
      strongest: () => drawStrongest(this),
    };
    for (const { canvas, cell } of this.plates) {
      fitted(canvas);
      cell.hidden = true;
      cell.classList.remove("match");
    }
    this.links.replaceChildren();
    this.scaleChoice.hidden = this.layer === "parts";
    this.partControl.hidden = this.layer !== "parts";
    this.strengthControl.hidden = this.layer === "strongest";
    this.bar.hidden = true;
    this.balance.hidden = true;
    this.pictures.dataset.layer = this.layer;
    this.pictures.classList.toggle("pinned", this.pinned);
    layered[this.layer].call(this);
  }

  legend(most) {
    this.bar.hidden = false;
    this.bar.querySelector(".ramp-most").textContent = percent(most);
  }

  /** Mark the place that is pointed at. */
  markCell(side, place) {
    const [high, wide] = this.size();
    const { cell } = this.plates[side];
    cell.hidden = false;
    Object.assign(cell.style, {
      left: `${(100 * (place % wide)) / wide}%`,
      top: `${(100 * Math.floor(place / wide)) / high}%`,
      width: `${100 / wide}%`,
      height: `${100 / high}%`,
    });
  }

  where(place) {
    const [, wide] = this.size();
    return `row ${Math.floor(place / wide) + 1}, column ${(place % wide) + 1}`;
  }

  drawPlaces() {
    const scale = this.scales[this.scale];
    const strength = Number(this.strength.value);
    if (!this.at) {
      this.drawLinks(scale);
      this.readout.textContent =
        "Point at a place of either picture to see what it was compared with. The numbers join places that matched most surely.";
      return;
    }
    const { side, place } = this.at;
    const values = side === 0 ? scale.row(place) : scale.column(place);
    const most = Math.max(...values);
    const best = values.indexOf(most);
    paint(this.plates[1 - side].canvas, values, scale.height, scale.width, strength);
    this.markCell(side, place);
    this.legend(most);
    this.readout.textContent =
      side === 0
        ? `${capital(this.where(place))} of the first picture looks at ${this.where(best)} of the second with ${percent(most)} of its weight${spread(most, scale.places)}`
        : `${capital(this.where(place))} of the second picture is looked at most by ${this.where(best)} of the first, which gives it ${percent(most)} of its weight.`;
  }

  drawLinks(scale) {
    const links = scale.links(this.narrow ? 6 : 8);
    links.forEach(({ from, to, share }, i) => {
      const colour = `rgb(${ramp(0.12 + (0.88 * i) / Math.max(1, links.length - 1)).join()})`;
      const opacity = 0.35 + 0.65 * Math.min(1, 2 * share);
      const { group, ends } = this.link([0, from], [1, to], { colour, opacity });
      for (const end of ends) badge(group, end, i + 1, colour, i > 0.55 * links.length ? "#10151c" : "#fff");
    });
  }

  get narrow() {
    return this.pictures.getBoundingClientRect().width < 480;
  }

  /** Join two places, each given as picture and place. */
  link(from, to, { colour, opacity = 1, dashes }) {
    const area = this.pictures.getBoundingClientRect();
    this.links.setAttribute("viewBox", `0 0 ${area.width} ${area.height}`);
    const [high, wide] = this.size();
    const ends = [from, to].map(([side, place]) => {
      const plate = this.plates[side].picker.getBoundingClientRect();
      return [
        plate.left - area.left + (((place % wide) + 0.5) / wide) * plate.width,
        plate.top - area.top + ((Math.floor(place / wide) + 0.5) / high) * plate.height,
      ];
    });
    const [[x0, y0], [x1, y1]] = ends;
    const bend = 0.42 * (x1 - x0);
    const d = `M${x0} ${y0}C${x0 + bend} ${y0} ${x1 - bend} ${y1} ${x1} ${y1}`;
    const group = s(
      "g",
      {},
      s("path", { d, class: "casing", opacity: 0.7 * opacity }),
      s("path", { d, stroke: colour, opacity, "stroke-dasharray": dashes }),
    );
    this.links.append(group);
    return { group, ends };
  }

  drawAttention() {
    const scale = this.scales[this.scale];
    const maps = [scale.attention_a, scale.attention_b];
    const most = Math.max(...maps[0], ...maps[1]);
    const even = most < 1.05 / scale.places;
    if (even) {
      this.readout.textContent = "This matcher has no attention: every place counts the same.";
      return;
    }
    maps.forEach((map, side) =>
      paint(this.plates[side].canvas, map, scale.height, scale.width, Number(this.strength.value), most),
    );
    this.legend(most);
    const gathered = maps.map((map) => Math.max(...map)).some((share) => share > 0.5);
    if (this.at) {
      this.markCell(this.at.side, this.at.place);
      this.readout.textContent = `${capital(this.where(this.at.place))} of the ${SIDES[this.at.side]} picture has ${percent(maps[this.at.side][this.at.place])} of the attention.`;
    } else {
      this.readout.textContent = gathered
        ? "Bright places count more in the comparison. Here most of the attention has gathered on a single place."
        : "Bright places count more in the comparison; every place counts a little.";
    }
  }

  drawRebuilt() {
    const scale = this.scales[this.scale];
    const { image, canvas } = this.plates[1];
    if (image.complete && image.naturalWidth) rebuild(canvas, scale, image);
    this.readout.textContent =
      "On the right, the second picture rearranged to fit the first: every place is put together from the places it was compared with. Where that resembles the first picture, like was matched with like.";
    if (this.at) this.markCell(this.at.side, this.at.place);
  }

  drawParts() {
    const strength = Number(this.strength.value);
    const pointed = this.at ? this.parts[this.at.side].at(this.at.place) : -1;
    const part = this.at ? pointed : this.chosenPart;
    const maps = this.parts.map((parts) => (part < 0 ? parts.all() : parts.map(part)));
    this.parts.forEach((parts, side) =>
      paint(this.plates[side].canvas, maps[side], parts.height, parts.width, strength),
    );
    this.part.value = part + 1;
    this.partWords.textContent = part < 0 ? "all" : `${part + 1} of ${this.parts[0].count}`;
    this.part.setAttribute("aria-valuetext", this.partWords.textContent);
    if (part >= 0) this.legend(Math.max(...maps[0], ...maps[1]));
    if (this.at) this.markCell(this.at.side, this.at.place);
    this.readout.textContent =
      part < 0
        ? this.at
          ? `No part looks at ${this.where(this.at.place)} of the ${SIDES[this.at.side]} picture more than elsewhere.`
          : `Where HOReID's ${this.parts[0].count} parts look, all together. Point at a place to see the part that looks there, and where that part looks in the other picture.`
        : `Part ${part + 1}${this.at ? `, which looks most at ${this.where(this.at.place)} of the ${SIDES[this.at.side]} picture` : ""}: the same part in both pictures.`;
  }
}

/** Describes a match that does not point to one place. */
const spread = (most, places) => (most < 6 / places ? ": spread so widely that it means little." : ".");
