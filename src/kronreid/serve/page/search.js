// The search: photos of one person, conditions, order; then the ranked hits.

import { api } from "./api.js";
import { announce, button, count, duration, h, icon, notice, plural } from "./dom.js";
import { FilterPanel, filterFold } from "./filters.js";
import { HitList } from "./hits.js";
import { acceptDrops, Tray } from "./photos.js";
import { judge, remembered, state } from "./state.js";

const STAGES = {
  read: "reading the photos",
  embed: "their vectors",
  search: "searching the gallery",
  cache: "what is remembered of the candidates",
  decode: "reading the candidates",
  match: "comparing them",
  describe: "describing the hits",
};

export class SearchView {
  constructor(root) {
    this.root = root;
    this.tray = new Tray({
      several: true,
      invitation:
        "Drop a photo here, paste it, or choose a file. Several photos of one person work better than one.",
      change: () => this.refresh(),
    });
    this.filters = new FilterPanel({ change: () => this.refresh() });
    this.fold = filterFold(this.filters, matchMedia("(min-width: 900px)").matches);
    this.top = h(
      "select",
      { name: "top", on: { change: () => this.refresh() } },
      ...[20, 50, 100, 200, 500, 1000].map((number) =>
        h("option", { value: number, selected: number === 100 }, count(number)),
      ),
    );
    this.look = h(
      "select",
      { name: "rerank", on: { change: () => this.refresh() } },
      ...[0, 20, 50, 100, 200, 500].map((number) =>
        h("option", { value: number, selected: number === 100 }, number ? `best ${count(number)}` : "none"),
      ),
    );
    this.weight = h("input", {
      type: "range",
      name: "weight",
      min: "0",
      max: "1",
      step: "0.25",
      value: "0.5",
      on: { input: () => ((this.weighed = true), this.sayWeight(), this.refresh()) },
    });
    this.weightWords = h("output");
    this.matcherOptions = h(
      "div.stack",
      {},
      h("label.field", {}, (this.lookWords = h("span")), this.look),
      h("label.field.weight", {}, h("span", {}, "Order by"), this.weight, this.weightWords),
    );
    this.go = button({ text: "Search", glyph: "search", kind: "primary large", type: "submit" });
    this.form = h(
      "form.rail",
      { on: { submit: (event) => (event.preventDefault(), this.search()) } },
      h("h1", { id: "title-search", tabindex: "-1" }, "Who are you looking for?"),
      this.tray.element,
      this.fold,
      h(
        "details.fold",
        {},
        h("summary", {}, icon("right"), "Order"),
        h("label.field", {}, h("span", {}, "Hits"), this.top),
        this.matcherOptions,
      ),
      h("div.rail-go", {}, this.go),
    );
    this.form.addEventListener("input", () => this.refresh());
    this.results = h("div.results", { "aria-live": "off" });
    root.append(this.form, this.results);
    acceptDrops(root, (files) => this.tray.take(files));
    this.hits = new HitList();
    this.sayWeight();
    this.refresh();
  }

  /** Called when the view opens. `item`: search with this picture of the gallery at once. */
  async show(parameters) {
    state.paste = (files) => this.tray.take(files);
    if (!state.answer && !this.started) {
      this.started = true;
      this.welcome();
    }
    const items = parameters.getAll("item");
    const here = this.tray.photos.map(({ item }) => item?.id).join();
    if (items.length && (items.join() !== here || !state.answer)) {
      this.tray.clear(true);
      for (const id of items)
        await this.tray.takeItem(state.known.get(id) ?? { id, picture: `/api/pictures/${id}` });
      await this.search();
    }
  }

  /** Called when the page knows what the server can do. */
  ready() {
    this.matcherOptions.hidden = !state.info.has_matcher;
    // The score of places has the similarity in it. Once the user has moved the slider, it stays.
    if (state.info.matcher === "places" && !this.weighed) this.weight.value = "1";
    this.sayWeight();
    this.loadCameras();
  }

  async loadCameras() {
    try {
      const stats = await api.stats();
      this.filters.offer(stats.cameras);
      this.filters.times.parentElement.hidden = !stats.hours.some(({ value }) => value !== null);
    } catch {
      // Without counts the filters are empty; the search will report what is wrong with the server.
    }
  }

  sayWeight() {
    const { what, how } = judge();
    this.lookWords.textContent = `Compared ${how}`;
    const words = {
      0: "similarity alone",
      0.25: "mostly similarity",
      0.5: "both scores",
      0.75: `mostly the ${what}`,
      1: `the ${what} alone`,
    };
    this.weightWords.textContent = words[Number(this.weight.value)];
    this.weight.setAttribute("aria-valuetext", this.weightWords.textContent);
  }

  refresh() {
    this.go.disabled = this.tray.empty;
    this.fold.refresh();
    const changed = state.answer !== null && this.signature() !== this.searched;
    this.go.querySelector("span").textContent = changed ? "Search again" : "Search";
    this.form.classList.toggle("changed", changed);
  }

  /** The request as text, to tell whether it has changed since the last search. */
  signature() {
    const photos = this.tray.photos.map(({ file, item, box }) => [file?.name, file?.size, item?.id, box]);
    return JSON.stringify([
      photos,
      [...this.filters.entries()],
      this.top.value,
      this.look.value,
      this.weight.value,
    ]);
  }

  body() {
    const form = new FormData();
    for (const { file, box } of this.tray.photos) {
      if (!file) continue;
      form.append("pictures", file, file.name);
      form.append("box", box ? box.join() : "");
    }
    for (const { item } of this.tray.photos) if (item) form.append("item", item.id);
    this.filters.appendTo(form);
    form.append("top", this.top.value);
    if (state.info?.has_matcher) {
      form.append("rerank_top", this.look.value);
      form.append("matcher_weight", this.weight.value);
    }
    return form;
  }

  async search() {
    if (this.tray.empty) return;
    this.running?.abort();
    const running = (this.running = new AbortController());
    const signature = this.signature();
    const photos = this.tray.photos.filter(({ file }) => file); // the answer has uploads first
    this.busy(true);
    announce("Searching");
    try {
      const answer = await api.search(this.body(), running.signal);
      state.answer = answer;
      this.searched = signature;
      state.uploads = new Map(photos.map((photo, i) => [answer.query[i].id, photo]));
      answer.query.slice(0, photos.length).forEach(({ id, picture }) => state.shown.set(id, picture));
      this.draw(answer);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.results.querySelector(":scope > .notice.error")?.remove();
      const message = notice(error.message, { again: () => this.search() });
      if (state.answer) this.results.prepend(message);
      else this.results.replaceChildren(message);
    } finally {
      if (this.running === running) this.busy(false);
    }
    this.refresh();
  }

  busy(on) {
    this.root.classList.toggle("busy", on);
    this.results.setAttribute("aria-busy", on);
    this.go.querySelector("span").textContent = on ? "Searching…" : "Search";
    if (on && !state.answer) this.results.replaceChildren(skeleton());
  }

  draw(answer) {
    const heading = h(
      "h2",
      { tabindex: "-1" },
      answer.hits.length ? plural(answer.hits.length, "hit") : "No picture meets these conditions",
    );
    if (!answer.hits.length) {
      const why = this.filters.size
        ? "Widen the filters, or clear them."
        : "The gallery is empty: add pictures first.";
      this.results.replaceChildren(
        h(
          "div.empty-state",
          {},
          icon("picture"),
          heading,
          h("p", {}, why),
          this.filters.size > 0 &&
            button({
              text: "Clear the filters and search",
              press: () => (this.filters.clear(), this.search()),
            }),
        ),
      );
      announce(heading.textContent);
      return;
    }
    this.hits.fill(answer);
    this.results.replaceChildren(
      h("div.results-head", {}, heading, this.hits.controls),
      stages(answer.seconds),
      unreadable(answer.unreadable),
      this.hits.profile,
      this.hits.element,
    );
    const best = answer.hits[0];
    const { limit } = answer;
    const counted = limit
      ? ` ${limit.passed ? `${plural(limit.passed, "hit")} above the line of` : "Nobody here at"} ${limit.sentence}.`
      : "";
    announce(
      `${plural(answer.hits.length, "hit")} in ${duration(answer.seconds.total)}.${counted} The best: ${this.hits.words(best)}`,
    );
    if (matchMedia("(max-width: 899px)").matches)
      heading.scrollIntoView({ block: "start", behavior: "instant" });
  }

  /** Before the first search: some pictures of the gallery to start from. */
  async welcome() {
    const shelf = h("ul.shelf");
    this.results.replaceChildren(
      h(
        "div.welcome",
        {},
        h("h2", {}, "Ranked candidates, and why they match"),
        h(
          "ol.steps",
          {},
          h(
            "li",
            {},
            h("b", {}, "Bring a photo"),
            " of the person. If it is a full frame, draw a box around them.",
          ),
          h(
            "li",
            {},
            h("b", {}, "Search."),
            " One vector per picture finds the candidates; the best are compared again, place by place.",
          ),
          h(
            "li",
            {},
            h("b", {}, "Check"),
            " each candidate: open it to see which places matched, then mark it.",
          ),
        ),
        h("div.shelf-box", {}, h("h3", {}, "Or begin with a picture of the gallery"), shelf),
      ),
    );
    try {
      const page = await api.gallery(new URLSearchParams({ limit: "24" }));
      remembered(page.items);
      shelf.replaceChildren(
        ...page.items.map((item) =>
          h(
            "li",
            {},
            h(
              "a.shot",
              {
                href: `#/search?item=${item.id}`,
                "aria-label": `Search with ${item.identity ? `identity ${item.identity}` : item.name}`,
              },
              h("img", {
                src: `${item.picture}?size=thumb`,
                alt: "",
                width: item.width,
                height: item.height,
                loading: "lazy",
              }),
            ),
          ),
        ),
      );
      if (!page.items.length)
        shelf.parentElement.replaceChildren(
          h("p.hint", {}, "The gallery is empty. Add pictures in the gallery view or with kronreid index."),
        );
    } catch (error) {
      shelf.replaceWith(notice(error.message, { again: () => this.welcome() }));
    }
  }
}

function skeleton() {
  return h(
    "ul.hits.skeleton",
    { "aria-hidden": "true" },
    ...Array.from({ length: 12 }, () => h("li.hit", {}, h("div.frame"))),
  );
}

/** The time of each stage, in one line. */
function stages(seconds) {
  const { total, ...parts } = seconds;
  const known = Object.entries(parts).filter(([, value]) => value > 0);
  const sum = known.reduce((all, [, value]) => all + value, 0) || 1;
  const bar = h("span.stage-bar", { "aria-hidden": "true" });
  const list = h("span.stage-list");
  known.forEach(([name, value], place) => {
    const part = h("i", { data: { stage: place } });
    part.style.flexGrow = value / sum;
    bar.append(part);
    list.append(
      h(
        "span.stage",
        { data: { stage: place }, title: STAGES[name] ?? name },
        h("i", { "aria-hidden": "true" }),
        `${name} ${duration(value)}`,
      ),
    );
  });
  return h("p.stages", { "aria-label": "Time by stage" }, h("b", {}, duration(total ?? sum)), bar, list);
}

function unreadable(reasons) {
  if (!reasons.length) return "";
  return h(
    "details.notice.warning",
    {},
    h(
      "summary",
      {},
      `${plural(reasons.length, "picture")} could not be read for the comparison and keep${reasons.length === 1 ? "s" : ""} the similarity alone`,
    ),
    h("ul", {}, ...reasons.map((reason) => h("li", {}, reason))),
  );
}
