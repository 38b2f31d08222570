// The gallery: what is in it, by camera and by time; look at pictures, search with them, add and delete.

import { api } from "./api.js";
import { cameraChart, hourChart } from "./charts.js";
import {
  announce,
  button,
  confirmed,
  count,
  describe,
  dialog,
  facts,
  h,
  icon,
  notice,
  plural,
  shortMoment,
  toast,
} from "./dom.js";
import { FilterPanel, filterFold } from "./filters.js";
import { Roving, sizeControl } from "./grid.js";
import { Tray } from "./photos.js";
import { remembered, state } from "./state.js";

const PAGE = 120;

export class GalleryView {
  constructor(root) {
    this.root = root;
    this.filters = new FilterPanel({ change: () => this.load() });
    this.fold = filterFold(this.filters, matchMedia("(min-width: 900px)").matches);
    this.title = h("h1", { id: "title-gallery", tabindex: "-1" }, "Gallery");
    this.charts = h("div.charts");
    this.grid = h("ul.hits.gallery-grid", { "aria-label": "Pictures of the gallery" });
    this.total = h("p.total", { role: "status" });
    this.more = button({ text: "Show more", press: () => this.next() });
    this.selection = new Map();
    this.selectionBar = h("div.selection-bar", {
      role: "region",
      "aria-label": "Selected pictures",
      hidden: true,
    });
    this.addButton = button({ text: "Add pictures", glyph: "plus", hidden: true, press: () => this.add() });
    this.marks = h(
      "a.button.quiet",
      { href: "/api/feedback.csv", download: "feedback.csv" },
      icon("down"),
      h("span", {}, "Marks as CSV"),
    );
    this.content = h("div.gallery-content", {}, this.grid, h("div.more", {}, this.more));
    root.append(
      h("div.rail", {}, this.title, this.charts, this.fold),
      h(
        "div.results",
        {},
        h(
          "div.results-head",
          {},
          this.total,
          h("div.results-tools", {}, this.marks, this.addButton, sizeControl(this.grid)),
        ),
        this.content,
        this.selectionBar,
      ),
    );
    this.roving = new Roving(this.grid, ".hit", ".shot");
  }

  show() {
    state.paste = state.info?.allow_add ? (files) => this.add(files) : null;
    if (!this.loaded) this.load();
  }

  ready() {
    this.addButton.hidden = !state.info.allow_add;
  }

  /** Load the first page again, with the current filters. */
  async load() {
    this.loaded = true;
    const turn = (this.turn = (this.turn ?? 0) + 1);
    this.fold.refresh();
    this.root.classList.add("busy");
    try {
      const conditions = this.filters.appendTo(new URLSearchParams());
      const [page, stats, all] = await Promise.all([
        api.gallery(this.page(0)),
        api.stats(conditions),
        this.all ?? api.stats(),
      ]);
      if (turn !== this.turn) return;
      this.all = all;
      this.filters.offer(all.cameras);
      this.filters.times.parentElement.hidden = !all.hours.some(({ value }) => value !== null);
      this.drawCharts(stats);
      this.grid.replaceChildren();
      this.items = [];
      this.content.replaceChildren(this.grid, h("div.more", {}, this.more));
      this.append(page);
      this.roving.reset();
      if (!page.total)
        this.content.prepend(
          h(
            "div.empty-state",
            {},
            icon("picture"),
            h("h2", {}, this.filters.size ? "No picture meets these conditions" : "The gallery is empty"),
            h(
              "p",
              {},
              this.filters.size
                ? "Widen the filters, or clear them."
                : "Add pictures here, or with kronreid index.",
            ),
          ),
        );
      announce(this.total.textContent);
    } catch (error) {
      if (turn === this.turn)
        this.content.replaceChildren(notice(error.message, { again: () => this.load() }));
    } finally {
      if (turn === this.turn) this.root.classList.remove("busy");
    }
  }

  page(offset) {
    const parameters = this.filters.appendTo(new URLSearchParams());
    parameters.set("offset", offset);
    parameters.set("limit", PAGE);
    return parameters;
  }

  async next() {
    this.more.disabled = true;
    try {
      const before = this.items.length;
      this.append(await api.gallery(this.page(before)));
      const card = this.grid.children[before];
      if (card) this.roving.go(card);
    } catch (error) {
      toast(error.message, "error");
    }
    this.more.disabled = false;
  }

  append({ items, total }) {
    remembered(items);
    this.items.push(...items);
    this.grid.append(...items.map((item) => this.card(item)));
    this.total.textContent =
      this.items.length < total
        ? `${count(this.items.length)} of ${plural(total, "picture")}`
        : plural(total, "picture");
    this.more.parentElement.hidden = this.items.length >= total;
    this.count = total;
  }

  card(item) {
    const picture = item.width
      ? h("img", {
          src: `${item.picture}?size=thumb`,
          alt: "",
          width: item.width,
          height: item.height,
          loading: "lazy",
          decoding: "async",
        })
      : h("span.gone", {}, "picture not found");
    const box = h("input", {
      type: "checkbox",
      tabindex: "-1",
      "aria-label": `Select ${describe(item)}`,
      checked: this.selection.has(item.id),
      on: { change: () => this.select(item, box.checked) },
    });
    return h(
      "li.hit",
      { data: { id: item.id } },
      h(
        "button.shot.frame",
        {
          type: "button",
          tabindex: "-1",
          "aria-label": describe(item),
          on: { click: () => this.open(item) },
        },
        picture,
      ),
      h("label.pick", {}, box, h("span", { "aria-hidden": "true" }, icon("check"))),
      h(
        "p.where",
        {},
        item.identity ? h("b", {}, item.identity) : "",
        item.camera ? h("span", {}, `cam ${item.camera}`) : "",
        item.time ? h("time", { datetime: item.time }, shortMoment(item.time)) : "",
      ),
    );
  }

  drawCharts(stats) {
    this.charts.replaceChildren(
      h("h2", {}, "By camera"),
      cameraChart(stats.cameras, new Set(this.filters.chosenCameras()), (camera) =>
        this.filters.toggleCamera(camera),
      ),
      ...(stats.hours.some(({ value }) => value !== null)
        ? [
            h("h2", {}, "Over time ", h("small", {}, "UTC")),
            hourChart(stats.hours, (from, until) => this.filters.chooseTimes(from, until)),
          ]
        : []),
    );
  }

  // ── selecting ──────────────────────────────────────────────────────────────────────────────────────────

  select(item, on) {
    if (on) this.selection.set(item.id, item);
    else this.selection.delete(item.id);
    this.drawSelection();
  }

  drawSelection() {
    const ids = [...this.selection.keys()];
    this.selectionBar.hidden = !ids.length;
    this.selectionBar.replaceChildren(
      h("b", { role: "status" }, `${count(ids.length)} selected`),
      h(
        "a.button.primary",
        { href: `#/search?${ids.map((id) => `item=${id}`).join("&")}` },
        icon("search"),
        h("span", {}, ids.length > 1 ? "Search with these" : "Search"),
      ),
      ...(ids.length === 2
        ? [
            h(
              "a.button",
              { href: `#/compare?a=${ids[0]}&b=${ids[1]}` },
              icon("compare"),
              h("span", {}, "Compare"),
            ),
          ]
        : []),
      button({
        text: "Delete",
        glyph: "trash",
        kind: "danger-quiet",
        press: () => this.remove([...this.selection.values()]),
      }),
      button({
        label: "Clear the selection",
        glyph: "close",
        kind: "quiet square",
        press: () => this.unselect(),
      }),
    );
  }

  unselect() {
    this.selection.clear();
    for (const box of this.grid.querySelectorAll(".pick input:checked")) box.checked = false;
    this.drawSelection();
  }

  // ── one picture ────────────────────────────────────────────────────────────────────────────────────────

  open(item) {
    const { close } = dialog({
      title: item.identity ? `Identity ${item.identity}` : item.name,
      kind: "middle",
      body: h(
        "div.detail",
        {},
        h("img", { src: item.picture, alt: describe(item), width: item.width, height: item.height }),
        facts(item),
      ),
      actions: [
        button({
          text: "Delete",
          glyph: "trash",
          kind: "danger-quiet",
          press: () => (close(), this.remove([item])),
        }),
        h(
          "a.button",
          { href: `#/compare?a=${item.id}`, on: { click: () => close() } },
          icon("compare"),
          h("span", {}, "Compare with…"),
        ),
        h(
          "a.button.primary",
          { href: `#/search?item=${item.id}`, on: { click: () => close() } },
          icon("search"),
          h("span", {}, "Search with this one"),
        ),
      ],
    });
  }

  async remove(items) {
    const what = items.length === 1 ? `the picture ${items[0].name}` : plural(items.length, "picture");
    if (
      !(await confirmed({
        title: "Delete from the gallery?",
        text: `This takes ${what} out of the gallery. It cannot be undone here; adding the file again brings it back.`,
        yes: "Delete",
      }))
    )
      return;
    let done = 0;
    try {
      for (const item of items) {
        await api.remove(item.id);
        done += 1;
        this.selection.delete(item.id);
      }
      toast(`${plural(done, "picture")} deleted`);
    } catch (error) {
      toast(`${done ? `${plural(done, "picture")} deleted, then: ` : ""}${error.message}`, "error");
    }
    if (done) {
      this.all = null;
      this.drawSelection();
      await this.load();
      window.dispatchEvent(new Event("kronreid:gallery-changed"));
    }
  }

  // ── adding ─────────────────────────────────────────────────────────────────────────────────────────────

  add(files) {
    const send = button({ text: "Add", kind: "primary", disabled: true, type: "submit" });
    const tray = new Tray({
      several: true,
      noun: "picture",
      invitation: "Drop pictures of people here, paste them, or choose files. Draw a box on full frames.",
      change: () => (send.disabled = tray.empty),
    });
    const field = (name, words, type = "text") =>
      h("label.field", {}, h("span", {}, words), h("input", { type, name, spellcheck: "false" }));
    const outcome = h("div", { role: "status" });
    const form = h(
      "form.stack",
      {},
      tray.element,
      h(
        "div.field-grid",
        {},
        field("camera", "Camera"),
        field("time", "Time (UTC)", "datetime-local"),
        field("identity", "Identity"),
        field("source", "Source"),
      ),
      h("p.hint", {}, "What you enter holds for all of them; leave empty what you do not know."),
      outcome,
      h("div.dialog-actions", {}, send),
    );
    const opened = dialog({
      title: "Add pictures",
      body: form,
      kind: "wide",
      onclose: () => (state.paste = before),
    });
    const before = state.paste;
    state.paste = (more) => tray.take(more);
    if (files) tray.take(files);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const body = new FormData();
      for (const { file, box } of tray.photos) {
        body.append("pictures", file, file.name);
        body.append("box", box ? box.join() : "");
      }
      for (const name of ["camera", "time", "identity", "source"])
        if (form.elements[name].value) body.append(name, form.elements[name].value);
      send.disabled = true;
      try {
        const { added, skipped_existing, unreadable } = await api.add(body);
        const words = [
          `${plural(added, "picture")} added`,
          skipped_existing && `${count(skipped_existing)} there already`,
        ]
          .filter(Boolean)
          .join(", ");
        this.all = null;
        this.load();
        window.dispatchEvent(new Event("kronreid:gallery-changed"));
        if (unreadable.length) {
          outcome.replaceChildren(
            notice(
              `${words}. Not added: ${unreadable.map(({ name, message }) => `${name} (${message})`).join("; ")}`,
            ),
          );
          tray.clear();
        } else {
          opened.close();
          toast(words);
        }
      } catch (error) {
        outcome.replaceChildren(notice(error.message));
        send.disabled = tray.empty;
      }
    });
  }
}
