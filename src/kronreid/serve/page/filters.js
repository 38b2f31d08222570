// Conditions on camera, time and attributes, for the search and for the gallery alike.

import { button, count, h, icon } from "./dom.js";

export class FilterPanel {
  /** @param {{change: () => void}} options Called after every change. */
  constructor({ change }) {
    this.change = change;
    this.cameras = h("div.chips", { role: "group", "aria-label": "Cameras" });
    this.since = h("input", { type: "datetime-local", name: "since", on: { change } });
    this.until = h("input", { type: "datetime-local", name: "until", on: { change } });
    this.conditions = h("div.conditions");
    this.times = h(
      "div.times",
      {},
      h("label", {}, h("span", {}, "From"), this.since),
      h("label", {}, h("span", {}, "To"), this.until),
    );
    this.element = h(
      "div.filters",
      {},
      h("fieldset", {}, h("legend", {}, "Camera"), this.cameras),
      h("fieldset", {}, h("legend", {}, "Time ", h("small", {}, "UTC")), this.times),
      h(
        "fieldset",
        {},
        h("legend", {}, "Other conditions"),
        h("p.hint", {}, "Identity, source, or an attribute such as track."),
        this.conditions,
        button({
          text: "Add a condition",
          glyph: "plus",
          kind: "quiet",
          press: () => this.addCondition().querySelector("input").focus(),
        }),
      ),
    );
    this.offer([]);
  }

  /** Show the cameras with their numbers of pictures (`CountItem`); chosen cameras stay chosen. */
  offer(cameras) {
    const chosen = new Set(this.chosenCameras());
    const known = cameras.filter(({ value }) => value !== null);
    this.cameras.replaceChildren(
      ...known.map(({ value, count: number }) =>
        h(
          "label.chip",
          {},
          h("input", { type: "checkbox", value, checked: chosen.has(value), on: { change: this.change } }),
          h("span", {}, value, h("small", { title: "pictures" }, count(number))),
        ),
      ),
    );
    if (!known.length) this.cameras.append(h("p.hint", {}, "No cameras are known in this gallery."));
  }

  chosenCameras() {
    return [...this.cameras.querySelectorAll("input:checked")].map((input) => input.value);
  }

  /** Choose a camera, as pressing its chip does. */
  toggleCamera(value) {
    for (const input of this.cameras.querySelectorAll("input")) if (input.value === value) input.click();
  }

  /** Only what was taken between two moments, to the minute. */
  chooseTimes(from, until) {
    this.since.value = from.toISOString().slice(0, 16);
    this.until.value = until.toISOString().slice(0, 16);
    this.change();
  }

  addCondition(name = "", value = "") {
    const row = h(
      "div.condition",
      {},
      h("input", {
        type: "text",
        "aria-label": "Name",
        placeholder: "identity",
        value: name,
        spellcheck: "false",
        on: { change: this.change },
      }),
      h("span", { "aria-hidden": "true" }, "="),
      h("input", {
        type: "text",
        "aria-label": "Value",
        placeholder: "0042",
        value,
        spellcheck: "false",
        on: { change: this.change },
      }),
      button({
        label: "Remove this condition",
        glyph: "close",
        kind: "quiet square",
        press: () => (row.remove(), this.change()),
      }),
    );
    this.conditions.append(row);
    return row;
  }

  clear() {
    for (const input of this.cameras.querySelectorAll("input")) input.checked = false;
    this.since.value = this.until.value = "";
    this.conditions.replaceChildren();
    this.change();
  }

  /** Number of conditions. */
  get size() {
    return [...this.entries()].length;
  }

  /** Pairs of names and values as the API takes them: camera, since, until, identity, source, where. */
  *entries() {
    for (const camera of this.chosenCameras()) yield ["camera", camera];
    if (this.since.value) yield ["since", this.since.value];
    // The chosen minute counts to its end.
    if (this.until.value)
      yield ["until", this.until.value.length === 16 ? `${this.until.value}:59.999` : this.until.value];
    for (const row of this.conditions.children) {
      const [name, value] = [...row.querySelectorAll("input")].map((input) => input.value.trim());
      if (!name || !value) continue;
      if (name === "identity" || name === "source") yield [name, value];
      else yield ["where", `${name}=${value}`];
    }
  }

  /** Append the conditions to a FormData or URLSearchParams. */
  appendTo(target) {
    for (const [name, value] of this.entries()) target.append(name, value);
    return target;
  }
}

/** A fold whose summary shows the number of conditions. */
export function filterFold(panel, open) {
  const number = h("span.tally");
  const clear = button({ text: "Clear", kind: "quiet", press: () => panel.clear() });
  const fold = h(
    "details.fold",
    { open },
    h("summary", {}, icon("right"), "Filters ", number),
    panel.element,
    clear,
  );
  fold.refresh = () => {
    number.textContent = panel.size ? String(panel.size) : "";
    number.setAttribute("aria-label", panel.size ? `${panel.size} active` : "none active");
    clear.hidden = !panel.size;
  };
  fold.refresh();
  return fold;
}
