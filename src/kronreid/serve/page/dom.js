// Small pieces that every view uses: elements, icons, words for numbers, announcements, dialogs.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes and children.
 * @param {string} tag "div", or "div.card.wide" with classes.
 * @param {object} attributes `on`: listeners by event; `data`: data attributes; true and false set and leave out.
 * @param {...(Node|string|null|undefined|false)} children
 */
export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on")
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (key === "data") Object.assign(element.dataset, value);
    else if (key === "value") element.value = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An SVG element; as `h`, with children that are nodes or text. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** An icon of the sprite in index.html. It is hidden from screen readers, since its button has words. */
export function icon(name) {
  return s("svg", { class: "icon", "aria-hidden": "true" }, s("use", { href: `#i-${name}` }));
}

/** A button with an icon and visible words (`text`), or words for screen readers and a tooltip (`label`). */
export function button({ text, label, glyph, kind = "", press, ...rest }) {
  return h(
    `button${kind ? "." + kind.split(" ").join(".") : ""}`,
    { type: "button", "aria-label": label, title: label, on: press ? { click: press } : {}, ...rest },
    glyph && icon(glyph),
    text && h("span", {}, text),
  );
}

let names = 0;
/** An id that no other element has. */
export const unique = (stem) => `${stem}-${++names}`;

// ── words ────────────────────────────────────────────────────────────────────────────────────────────────

/** 1234 → "1,234". */
export const count = (number) => number.toLocaleString("en");

/** count(1, "picture") → "1 picture", count(2, "picture") → "2 pictures". */
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** 1 → "1 person", 2 → "2 people". */
export const peopleWords = (number) => (number === 1 ? "1 person" : `${count(number)} people`);

/** The text with a capital first letter. */
export const capital = (text) => text[0].toUpperCase() + text.slice(1);

/** A probability in per cent that never claims certainty: 0.99997 → ">99.9 %". */
export function percent(probability) {
  const share = 100 * probability;
  if (share > 99.9) return ">99.9 %";
  if (share < 0.1) return "<0.1 %";
  return `${share.toFixed(share >= 99 || share < 1 ? 1 : 0)} %`;
}

/** A cosine with three digits and a true minus sign. */
export const cosine = (value) => value.toFixed(3).replace("-", "−");

/** Seconds as people say them: 0.0123 → "12 ms", 2.31 → "2.3 s". */
export const duration = (seconds) =>
  seconds < 0.0005 ? "<1 ms" : seconds < 1 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(1)} s`;

// Made once, since making a formatter takes longer than using it a thousand times.
const utc = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options });
const CLOCK = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
export const DAY = utc({ day: "numeric", month: "short", year: "numeric" });
const DAY_AND_CLOCK = utc({ day: "numeric", month: "short", year: "numeric", ...CLOCK });
const SHORT = utc({ day: "numeric", month: "short", ...CLOCK });

/** An ISO time as "4 Mar 2026, 10:41" (UTC, as the gallery keeps it). */
export const moment = (iso, withTime = true) => (withTime ? DAY_AND_CLOCK : DAY).format(new Date(iso));

/** The same for captions, which must be short: "4 Mar 10:41". */
export const shortMoment = (iso) => SHORT.format(new Date(iso)).replace(", ", " ");

/** A person's name, or number: `PersonTag`. */
export const who = ({ name, number }) => name ?? `Person ${number}`;

/** What is known about a picture, in one line, for captions and screen readers. */
export function describe(item) {
  const parts = [];
  if (item.person) parts.push(who(item.person));
  if (item.identity) parts.push(`identity ${item.identity}`);
  if (item.camera) parts.push(`camera ${item.camera}`);
  if (item.time) parts.push(moment(item.time));
  return parts.join(", ") || item.name || "picture";
}

/** Everything that is known about a picture, as a definition list. */
export function facts(item) {
  const rows = [
    ["File", item.name],
    ["Camera", item.camera],
    ["Time (UTC)", item.time && moment(item.time)],
    ["Identity", item.identity],
    ["Source", item.source],
    ["Size", item.width && `${item.width} × ${item.height} pixels`],
    ...Object.entries(item.attributes ?? {}).map(([key, value]) => [
      key,
      typeof value === "string" ? value : JSON.stringify(value),
    ]),
  ];
  return h(
    "dl.facts",
    {},
    ...rows.filter(([, value]) => value).flatMap(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]),
  );
}

// ── telling ──────────────────────────────────────────────────────────────────────────────────────────────

/** Say something to screen readers without moving the focus. */
export function announce(text) {
  const live = document.getElementById("live");
  live.textContent = "";
  requestAnimationFrame(() => (live.textContent = text));
}

/** A short message at the edge of the window, read aloud as well. */
export function toast(text, kind = "") {
  const message = h(`p.toast${kind ? "." + kind : ""}`, {}, text);
  document.getElementById("toasts").append(message);
  announce(text);
  setTimeout(() => message.remove(), kind === "error" ? 9000 : 4000);
}

/** An error that stays where it happened, with a button to go on. */
export function notice(text, { again, kind = "error" } = {}) {
  return h(
    `div.notice.${kind}`,
    { role: kind === "error" ? "alert" : "note" },
    kind === "error" && icon("alert"),
    h("p", {}, text),
    again && button({ text: "Try again", press: again }),
  );
}

/**
 * A modal dialog; Escape and the cross close it, and the focus goes back to where it was.
 * @returns {{element: HTMLDialogElement, close: () => void}}
 */
export function dialog({ title, body, actions = [], kind = "", onclose }) {
  const heading = unique("dialog");
  const element = h(
    `dialog${kind ? "." + kind : ""}`,
    { "aria-labelledby": heading },
    h(
      "div.dialog-head",
      {},
      h("h2", { id: heading }, title),
      button({ label: "Close", glyph: "close", kind: "quiet square", press: () => element.close() }),
    ),
    h("div.dialog-body", {}, body),
    actions.length > 0 && h("div.dialog-actions", {}, ...actions),
  );
  element.addEventListener("close", () => {
    element.remove();
    onclose?.();
  });
  // A press that begins on the backdrop closes the dialog; one that only ends there (drawing a box) does not.
  element.addEventListener("pointerdown", (event) => event.target === element && element.close());
  document.body.append(element);
  element.showModal();
  return { element, close: () => element.close() };
}

/** Ask before something that cannot be undone; resolves to true or false. */
export function confirmed({ title, text, yes }) {
  return new Promise((resolve) => {
    let answer = false;
    const { close } = dialog({
      title,
      body: h("p", {}, text),
      actions: [
        button({ text: "Keep", press: () => close(), autofocus: true }),
        button({ text: yes, kind: "danger", press: () => ((answer = true), close()) }),
      ],
      onclose: () => resolve(answer),
    });
  });
}

/**
 * A choice of one, side by side, made of radio buttons so that arrow keys and screen readers work.
 * @param {[string, string][]} options Value and words.
 */
export function segmented({ legend, options, value, change, hideLegend = false }) {
  const name = unique("choice");
  const inputs = options.map(([key, words]) => {
    const input = h("input", { type: "radio", name, value: key, checked: key === value });
    input.addEventListener("change", () => change(key));
    return h("label", {}, input, h("span", {}, words));
  });
  const element = h(
    "fieldset.segmented",
    {},
    h(`legend${hideLegend ? ".unseen" : ""}`, {}, legend),
    h("div", {}, ...inputs),
  );
  element.choose = (key) => {
    for (const label of inputs) label.firstChild.checked = label.firstChild.value === key;
  };
  return element;
}

/** A value remembered between visits. Storage may be switched off, so nothing depends on it. */
export function remember(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(`kronreid.${key}`);
    if (value === null) localStorage.removeItem(`kronreid.${key}`);
    else localStorage.setItem(`kronreid.${key}`, value);
  } catch {
    // See above.
  }
  return null;
}
