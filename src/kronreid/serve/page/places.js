// What an embedder's places say of two pictures: the share of each, its best match, and the sum they make.

import { capital, cosine, h, s } from "./dom.js";
import { fitted } from "./maps.js";

export const SIDES = ["first", "second"];
/** Pixels of a side of each place where shares are painted; the canvas stretches them further. */
const FINE = 8;

/** A level of the API. Each array has one list for each picture, with its places row by row. */
export class Level {
  constructor(level) {
    const both = (name) => [level[`${name}_a`].flat(), level[`${name}_b`].flat()];
    this.height = level.shares_a.length;
    this.width = level.shares_a[0].length;
    this.shares = both("shares");
    this.found = both("found");
    this.similarity = both("similarity");
    this.most = Math.max(...this.shares.flat().map(Math.abs));
    /** Digits behind the point with which the largest share shows two of its own. */
    this.digits = this.most > 0 ? Math.min(5, Math.max(2, 1 - Math.floor(Math.log10(this.most)))) : 2;
  }

  /** Of one picture, what its places add to the logit, and what they take away. */
  sum(side) {
    const total = (sign) =>
      this.shares[side].reduce((all, share) => all + (sign * share > 0 ? share : 0), 0);
    return { gain: total(1), loss: total(-1) };
  }

  /**
   * The places with the largest shares of one sign, kept apart; `strongest` in explain/places.py.
   * @returns {{from: [number, number], to: [number, number], share: number}[]} Ends: picture and place.
   */
  strongest(wanted, sign) {
    const { width } = this;
    const near = Math.sqrt(this.height * width) / 5;
    const order = this.shares
      .flatMap((shares, side) => shares.map((share, place) => ({ share, from: [side, place] })))
      .filter(({ share }) => sign * share > 0)
      .sort((a, b) => sign * (b.share - a.share));
    const taken = [];
    const links = [];
    for (const { share, from } of order) {
      if (links.length === wanted) break;
      const [side, place] = from;
      const beside = ([other, at]) =>
        other === side &&
        Math.hypot(Math.floor(at / width) - Math.floor(place / width), (at % width) - (place % width)) <=
          near;
      if (taken.some(beside)) continue;
      const to = [1 - side, this.found[side][place]];
      links.push({ from, to, share });
      taken.push(from, to);
    }
    return links;
  }
}

/** A number with its sign, a true minus, and so many digits behind the point. */
export const signed = (value, digits = 2) =>
  `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;

/**
 * Paint shares over a picture: one colour above zero, another below, clear at zero.
 * @param {number[]} values height·width, row by row.
 * @param {number} most The magnitude of the strongest colours.
 * @param {string[]} colours For the same person, and against: `rgb(r, g, b)`.
 */
export function paintShares(canvas, values, height, width, strength, most, colours) {
  const [wide, high] = [width * FINE, height * FINE];
  const small = new OffscreenCanvas(wide, high);
  const pixels = new ImageData(wide, high);
  const channels = colours.map((colour) => colour.match(/\d+/g).slice(0, 3).map(Number));
  // Between places the shares are mixed, not the colours, so that between blue and orange lies nothing.
  const axis = (length) =>
    Array.from({ length: length * FINE }, (_, i) => {
      const at = Math.min(length - 1, Math.max(0, (i + 0.5) / FINE - 0.5));
      return [Math.floor(at), Math.min(length - 1, Math.floor(at) + 1), at % 1];
    });
  const columns = axis(width);
  axis(height).forEach(([top, bottom, down], y) =>
    columns.forEach(([left, right, along], x) => {
      const row = (at) => (1 - along) * values[at * width + left] + along * values[at * width + right];
      const level = most > 0 ? ((1 - down) * row(top) + down * row(bottom)) / most : 0;
      const opacity = Math.min(1, 1.1 * strength * Math.abs(level));
      pixels.data.set([...channels[level > 0 ? 0 : 1], 255 * opacity], 4 * (y * wide + x));
    }),
  );
  small.getContext("2d").putImageData(pixels, 0, 0);
  const context = fitted(canvas);
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

/** The colours of what speaks for the same person and what speaks against, as the theme has them. */
function colours(stage) {
  return ["for", "against"].map((kind) => getComputedStyle(stage.balance.querySelector(`.${kind}`)).color);
}

/** Both pictures below their shares, or with the place that is pointed at. */
export function drawShares(stage) {
  const level = stage.levels[stage.scale];
  const hues = colours(stage);
  stage.balance.hidden = false;
  for (const [kind, sign] of [
    ["for", 1],
    ["against", -1],
  ])
    stage.balance.querySelector(`.${kind}`).textContent = signed(sign * level.most, level.digits);
  level.shares.forEach((shares, side) =>
    paintShares(
      stage.plates[side].canvas,
      shares,
      level.height,
      level.width,
      Number(stage.strength.value),
      level.most,
      hues,
    ),
  );
  if (stage.at) drawMatch(stage, level, hues);
  else
    stage.readout.textContent =
      "Blue places speak for the same person, orange ones against; a place without colour is matched as well as usual. Point at a place of either picture to see its best match in the other.";
}

/** The place that is pointed at and its best match, joined and in words. */
function drawMatch(stage, level, [good, bad]) {
  const { side, place } = stage.at;
  const share = level.shares[side][place];
  const found = level.found[side][place];
  stage.markCell(side, place);
  stage.markCell(1 - side, found);
  stage.plates[1 - side].cell.classList.add("match");
  stage.link([side, place], [1 - side, found], {
    colour: share < 0 ? bad : good,
    dashes: share < 0 ? "7 5" : null,
  });
  const shown = signed(share, level.digits + 1);
  const says = /[1-9]/.test(shown) ? (share < 0 ? "against the same person" : "for the same person") : "neither way";
  stage.readout.textContent = `${capital(stage.where(place))} of the ${SIDES[side]} picture speaks ${says}, with a share of ${shown}. Its best match is ${stage.where(found)} of the ${SIDES[1 - side]} picture, with a cosine of ${cosine(level.similarity[side][place])}.`;
}

/** The places with the largest shares, joined with their best matches. */
export function drawStrongest(stage) {
  const level = stage.levels[stage.scale];
  const hues = colours(stage);
  if (stage.at) {
    drawMatch(stage, level, hues);
    return;
  }
  const links = [...level.strongest(stage.narrow ? 4 : 5, 1), ...level.strongest(3, -1)];
  const marks = s("g"); // above all lines
  links.forEach(({ from, to, share }, i) => {
    const colour = hues[share < 0 ? 1 : 0];
    const { ends } = stage.link(from, to, { colour, dashes: share < 0 ? "7 5" : null });
    const [x, y] = ends[1];
    marks.append(s("circle", { cx: x, cy: y, r: 5, class: `ring ${share < 0 ? "against" : "for"}` }));
    badge(marks, ends[0], i + 1, colour, "var(--card)");
  });
  stage.links.append(marks);
  const said = links.map(({ share }, i) => `${i + 1}: ${signed(share, level.digits)}`).join(", ");
  stage.readout.textContent = links.length
    ? `The places that say most, each with its share: ${said}. A line leads from a place (number) to its best match (ring). Dashed lines speak against the same person.`
    : "No place says anything here: every share is zero.";
}

/** A number in a disc. */
export function badge(group, [x, y], number, colour, ink) {
  group.append(
    s("circle", { cx: x, cy: y, r: 9.5, fill: colour }),
    s("text", { x, y, fill: ink }, String(number)),
  );
}

/** How the verdict adds up, as a table: each bar begins where the one above ends. */
export function sumTable(verdict, levels) {
  const { vectors, logit } = verdict;
  const terms = [
    { name: `vectors (cosine ${cosine(verdict.cosine)})`, gain: Math.max(vectors, 0), loss: Math.min(vectors, 0) },
    ...levels.flatMap((level, number) =>
      SIDES.map((side, i) => ({
        name: `${levels.length > 1 ? `level ${number + 1}: ` : ""}places of the ${side} picture`,
        ...level.sum(i),
      })),
    ),
  ];
  let [start, low, high] = [0, Math.min(0, logit), Math.max(0, logit)];
  for (const term of terms) {
    Object.assign(term, { start, end: start + term.gain + term.loss });
    [low, high] = [Math.min(low, term.end), Math.max(high, start + term.gain)];
    start = term.end;
  }
  const span = high - low || 1;
  const bar = (kind, from, to) => {
    const element = h(`i.${kind}`);
    element.style.left = `${(100 * (Math.min(from, to) - low)) / span}%`;
    element.style.width = `${(100 * Math.abs(to - from)) / span}%`;
    return element;
  };
  const row = (tag, name, bars, gain, loss) =>
    h(
      tag,
      {},
      h("th", { scope: "row" }, name),
      h("td.sum-bar", { "aria-hidden": "true" }, h("div", {}, bar("zero", 0, 0), ...bars)),
      h("td.for", {}, gain > 0 ? signed(gain) : ""),
      h("td.against", {}, loss < 0 ? signed(loss) : ""),
    );
  return h(
    "table.sum",
    {},
    h("caption", {}, "How the verdict adds up"),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("td"),
        h("td", { "aria-hidden": "true" }),
        h("th.for", { scope: "col" }, "for"),
        h("th.against", { scope: "col" }, "against"),
      ),
    ),
    h(
      "tbody",
      {},
      ...terms.map(({ name, gain, loss, start, end }) =>
        row(
          "tr",
          name,
          [bar(`gain${loss ? ".half" : ""}`, start, start + gain), bar(`loss${gain ? ".half" : ""}`, start + gain, end)],
          gain,
          loss,
        ),
      ),
      row("tr.logit", "sum: the logit", [bar("all", 0, logit)], Math.max(logit, 0), Math.min(logit, 0)),
    ),
  );
}
