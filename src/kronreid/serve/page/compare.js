// Compare two pictures: how similar they are, what that means, and which places matched.

import { api } from "./api.js";
import { announce, button, cosine, describe, h, icon, notice, percent } from "./dom.js";
import { compareAddress } from "./hits.js";
import { cutOut, Tray } from "./photos.js";
import { sumTable } from "./places.js";
import { Stage } from "./stage.js";
import { events, judge, mark, pictureOf, state } from "./state.js";

export class CompareView {
  constructor(root) {
    this.root = root;
    this.trays = ["first", "second"].map(
      (words) =>
        new Tray({
          several: false,
          invitation: `The ${words} picture: drop, paste or choose it.`,
          change: () => this.chosen(),
        }),
    );
    this.title = h("h1", { id: "title-compare", tabindex: "-1" }, "Compare two pictures");
    this.go = button({
      text: "Compare",
      glyph: "compare",
      kind: "primary large",
      press: () => this.compare(),
    });
    this.chooser = h(
      "div.chooser",
      {},
      ...this.trays.map(({ element }) => element),
      h("p.hint", {}, "Or open a hit of a search, or select two pictures in the gallery."),
      this.go,
    );
    this.other = button({
      text: "Other pictures",
      glyph: "picture",
      kind: "other",
      press: () => this.choose(),
    });
    this.swap = button({
      label: "Swap the pictures",
      glyph: "swap",
      kind: "quiet square",
      press: () => this.swapSides(),
    });
    this.pager = h("div.pager");
    this.verdict = h("div.verdict");
    this.meaning = h("div.meaning");
    this.stage = new Stage();
    this.body = h("div.compare-body");
    root.append(
      h("div.view-head", {}, this.title, this.pager, h("div.view-tools", {}, this.swap, this.other)),
      this.body,
    );
    events.addEventListener("mark", ({ detail }) => detail.id === this.hit?.id && this.drawPager());
    /** The two sides: {id} or {photo}. */
    this.sides = [null, null];
    this.choose();
  }

  async show(parameters) {
    state.paste = (files) => this.trays[this.trays[0].empty ? 0 : 1].take(files);
    const ids = ["a", "b"].map((name) => parameters.get(name));
    const key = ids.join();
    if (!ids[0] && !ids[1]) return;
    if (key === this.shownKey) return;
    this.shownKey = key;
    this.sides = ids.map((id) => (id ? { id } : null));
    for (const side of [0, 1]) {
      this.trays[side].clear(true);
      if (ids[side]) await this.trays[side].takeItem(this.item(ids[side]));
    }
    if (ids[0] && ids[1]) await this.explain();
    else this.choose();
  }

  item(id) {
    return state.known.get(id) ?? { id, picture: state.shown.get(id) ?? `/api/pictures/${id}` };
  }

  // ── choosing ───────────────────────────────────────────────────────────────────────────────────────────

  choose() {
    this.hit = null;
    this.drawPager();
    this.other.hidden = this.swap.hidden = true;
    this.body.replaceChildren(this.chooser);
    this.chosen();
  }

  chosen() {
    this.go.disabled = this.trays.some((tray) => tray.empty);
  }

  compare() {
    this.sides = this.trays.map(({ photos: [photo] }) => (photo.item ? { id: photo.item.id } : { photo }));
    this.open();
  }

  swapSides() {
    this.sides.reverse();
    const [a, b] = this.trays.map(({ photos }) => photos);
    this.trays[0].photos = b;
    this.trays[1].photos = a;
    for (const tray of this.trays) tray.draw();
    this.open();
  }

  /** Explain the chosen sides; if both have an id, the address shows them. */
  open() {
    const [a, b] = this.sides;
    if (a.id && b.id) location.hash = `#/compare?a=${a.id}&b=${b.id}`;
    else {
      this.shownKey = null;
      this.explain();
    }
  }

  // ── explaining ─────────────────────────────────────────────────────────────────────────────────────────

  form(uploadsAgain) {
    const form = new FormData();
    ["a", "b"].forEach((name, side) => {
      const { id, photo } = this.sides[side];
      const file = photo ?? (uploadsAgain && state.uploads.get(id));
      if (file) {
        form.append(name, file.file, file.file.name);
        if (file.box) form.append(`${name}_box`, file.box.join());
      } else form.append(`${name}_item`, id);
    });
    return form;
  }

  async explain() {
    this.running?.abort();
    const running = (this.running = new AbortController());
    this.hit = this.sides[1].id ? state.answer?.hits.find(({ id }) => id === this.sides[1].id) : null;
    if (this.hit && !state.answer.query.some(({ id }) => id === this.sides[0].id)) this.hit = null;
    this.drawPager();
    this.other.hidden = this.swap.hidden = false;
    this.root.classList.add("busy");
    if (!this.stage.element.isConnected)
      this.body.replaceChildren(
        h("p.waiting", {}, "Comparing every place of one picture with every place of the other…"),
      );
    try {
      let explanation;
      try {
        explanation = await api.explain(this.form(false), running.signal);
      } catch (error) {
        // The server keeps searched uploads only for a while; this page still has them.
        if (error.status !== 404 || !this.sides.some(({ id }) => state.uploads.has(id))) throw error;
        explanation = await api.explain(this.form(true), running.signal);
      }
      this.draw(explanation);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.body.replaceChildren(notice(error.message, { again: () => this.explain() }));
    } finally {
      if (this.running === running) this.root.classList.remove("busy");
    }
  }

  draw(explanation) {
    const { probability, similarity, meaning } = explanation;
    const [verdict, ...rest] = meaning.split(/(?<=[.!?])\s+/);
    const needle = h("i");
    if (probability !== null) needle.style.left = `${100 * probability}%`;
    this.verdict.replaceChildren(
      h(
        "div.verdict-number",
        {},
        h("b", {}, probability === null ? cosine(similarity) : percent(probability)),
        h("span", {}, probability === null ? "similarity" : `same person, says the ${judge().who}`),
      ),
      h("h2", {}, verdict),
      probability !== null
        ? h(
            "div.needle",
            { "aria-hidden": "true" },
            needle,
            h("span", {}, "different"),
            h("span", {}, "same"),
          )
        : "",
    );
    this.meaning.replaceChildren(
      ...(rest.length ? [h("p", {}, rest.join(" "))] : []),
      ...(probability !== null
        ? [h("p", {}, `Similarity of their vectors (cosine): ${cosine(similarity)}`)]
        : []),
    );
    const addresses = this.sides.map(({ id, photo }) =>
      photo ? cutOut(photo) : state.uploads.get(id)?.image ? cutOut(state.uploads.get(id)) : pictureOf(id),
    );
    this.body.replaceChildren(this.verdict, this.stage.element, this.meaning);
    this.stage.show(
      explanation,
      addresses,
      this.sides.map((side, i) => this.caption(side, i)),
    );
    if (explanation.places) this.meaning.prepend(sumTable(explanation.places, this.stage.levels));
    announce(`${probability === null ? "" : `${percent(probability)}. `}${verdict}`);
  }

  caption(side, number) {
    const item = side.id && state.known.get(side.id);
    const query = side.id && state.answer?.query.some(({ id }) => id === side.id);
    const title = number === 0 ? "First" : "Second";
    return h(
      "span",
      {},
      h("b", {}, title),
      item
        ? describe(item)
        : side.photo
          ? side.photo.file.name
          : query
            ? "the photo you searched with"
            : "picture of the gallery",
    );
  }

  // ── from hit to hit ────────────────────────────────────────────────────────────────────────────────────

  drawPager() {
    const { hit } = this;
    if (!hit) return this.pager.replaceChildren();
    const all = state.answer.hits;
    const place = all.indexOf(hit);
    this.pager.replaceChildren(
      button({
        label: "Previous hit (k)",
        glyph: "left",
        kind: "quiet square",
        disabled: place === 0,
        press: () => this.step(-1),
      }),
      h("span", {}, "Hit ", h("b", {}, String(hit.rank)), ` of ${all.length}`),
      button({
        label: "Next hit (j)",
        glyph: "right",
        kind: "quiet square",
        disabled: place === all.length - 1,
        press: () => this.step(1),
      }),
      button({
        text: "Same person",
        glyph: "check",
        kind: "mark same",
        "aria-pressed": String(hit.same === true),
        press: () => mark(hit, true),
      }),
      button({
        text: "Not",
        glyph: "cross",
        kind: "mark not",
        "aria-pressed": String(hit.same === false),
        press: () => mark(hit, false),
      }),
      h("a.button.quiet.all", { href: "#/search" }, icon("gallery"), h("span", {}, "All hits")),
    );
    return undefined;
  }

  step(way) {
    if (!this.hit) return;
    const all = state.answer.hits;
    const next = all[all.indexOf(this.hit) + way];
    if (next) location.replace(compareAddress({ id: this.sides[0].id }, next));
  }
}
