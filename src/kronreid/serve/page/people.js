// The people: who was seen where and when; merge, name, undo. One of them opened is in person.js.

import { api } from "./api.js";
import { announce, button, confirmed, count, h, icon, notice, peopleWords, plural, toast, who } from "./dom.js";
import { Roving } from "./grid.js";
import { askName, showUndo, takes, thumb } from "./parts.js";
import { PersonPane } from "./person.js";
import { state } from "./state.js";
import { cameraName, rangeOf, spanWords, ticks, timeline } from "./timeline.js";

const PAGE = 60;
/** What a dragged person is called in the clipboard of a drag. */
const DRAGGED = "application/x-kronreid-person";

const ORDERS = [
  ["last", "last seen"],
  ["first", "first seen"],
  ["tracklets", "most tracklets"],
  ["number", "number"],
];

export class PeopleView {
  constructor(root) {
    this.root = root;
    this.selection = new Map();
    this.cards = new Map();
    /** The cameras whose people are listed; all without one. */
    this.chosen = new Set();
    this.title = h("h1", { id: "title-people", tabindex: "-1" }, "People");
    this.order = h(
      "select",
      { name: "order", on: { change: () => this.load() } },
      ...ORDERS.map(([value, words]) => h("option", { value }, words)),
    );
    this.cameras = h("div.chips", { role: "group", "aria-label": "Cameras" });
    this.since = h("input", { type: "datetime-local", name: "since", on: { change: () => this.load() } });
    this.until = h("input", { type: "datetime-local", name: "until", on: { change: () => this.load() } });
    this.ungrouped = h("p.hint", { role: "status" });
    this.undoButton = button({ text: "Undo", glyph: "undo", hidden: true, press: () => this.undo() });
    this.total = h("p.total", { role: "status" });
    this.list = h("ul.people", { "aria-label": "People" });
    this.more = button({ text: "Show more", press: () => this.next() });
    this.axis = h("div.people-axis");
    this.content = h("div", {}, this.axis, this.list, h("div.more", {}, this.more));
    this.selectionBar = h("div.selection-bar", { role: "region", "aria-label": "Selected people", hidden: true });
    this.everybody = h(
      "div.everybody",
      {},
      h("div.results-head", {}, this.total, h("div.results-tools", {}, this.undoButton)),
      this.content,
      this.selectionBar,
    );
    this.pane = new PersonPane({
      changed: () => (this.stale = true),
      undo: (undo) => this.undo(undo),
    });
    root.append(
      h(
        "div.rail",
        {},
        this.title,
        h("p.hint", {}, "Tracklets that look like one person, across cameras. Check them: a likeness is no proof."),
        h("label.field", {}, h("span", {}, "Order"), this.order),
        h(
          "details.fold",
          { open: matchMedia("(min-width: 900px)").matches },
          h("summary", {}, icon("right"), "Filters"),
          h(
            "div.filters",
            {},
            h("fieldset", {}, h("legend", {}, "Seen by camera"), this.cameras),
            h(
              "fieldset",
              {},
              h("legend", {}, "Seen at a time ", h("small", {}, "UTC")),
              h(
                "div.times",
                {},
                h("label", {}, h("span", {}, "From"), this.since),
                h("label", {}, h("span", {}, "To"), this.until),
              ),
            ),
          ),
        ),
        this.ungrouped,
      ),
      h("div.results", {}, this.everybody, this.pane.element),
    );
    this.roving = new Roving(this.list, ".person", ".person-link");
  }

  async show(parameters) {
    state.paste = null;
    const number = Number(parameters.get("person"));
    this.everybody.hidden = Boolean(number);
    this.root.classList.toggle("one", Boolean(number));
    this.number = number || null;
    if (number) {
      this.pane.show(number);
      return;
    }
    this.pane.hide();
    const cameras = parameters.getAll("camera");
    if (cameras.length) this.chosen = new Set(cameras);
    if (!this.loaded || this.stale || cameras.length) await this.load();
  }

  // ── the list ───────────────────────────────────────────────────────────────────────────────────────────

  parameters(offset) {
    const parameters = new URLSearchParams({ order: this.order.value, offset, limit: PAGE });
    for (const camera of this.chosen) parameters.append("camera", camera);
    if (this.since.value) parameters.set("since", this.since.value);
    if (this.until.value) parameters.set("until", `${this.until.value.slice(0, 16)}:59.999`);
    return parameters;
  }

  /** Load the first page again. */
  async load() {
    [this.loaded, this.stale] = [true, false];
    const turn = (this.turn = (this.turn ?? 0) + 1);
    this.root.classList.add("busy");
    try {
      const page = await api.people(this.parameters(0));
      if (turn !== this.turn) return;
      this.people = [];
      this.cards.clear();
      this.list.replaceChildren();
      this.content.replaceChildren(this.axis, this.list, h("div.more", {}, this.more));
      this.offerCameras(page.cameras);
      this.append(page);
      this.roving.reset();
      for (const number of [...this.selection.keys()]) if (!this.cards.has(number)) this.selection.delete(number);
      this.drawSelection();
      if (!page.total) this.content.prepend(this.nobody(page));
      announce(this.total.textContent);
    } catch (error) {
      if (turn === this.turn) this.content.replaceChildren(notice(error.message, { again: () => this.load() }));
    } finally {
      if (turn === this.turn) this.root.classList.remove("busy");
    }
  }

  nobody(page) {
    const filtered = page.cameras.length > 0;
    return h(
      "div.empty-state",
      {},
      icon("people"),
      h("h2", {}, filtered ? "Nobody meets these conditions" : "Nobody has been grouped yet"),
      h(
        "p",
        {},
        filtered
          ? "Choose other cameras or times."
          : "The command kronreid gallery group finds out which tracklets show one person.",
      ),
    );
  }

  async next() {
    this.more.disabled = true;
    try {
      const before = this.people.length;
      this.append(await api.people(this.parameters(before)));
      const card = this.list.children[before];
      if (card) this.roving.go(card);
    } catch (error) {
      toast(error.message, "error");
    }
    this.more.disabled = false;
  }

  append({ people, total, ungrouped, undo }) {
    this.people.push(...people);
    // All timelines of the list have one range, so they can be compared.
    const range = rangeOf(this.people.map((person) => person.timeline));
    if (String(range) !== String(this.range)) {
      this.range = range;
      this.axis.replaceChildren(...(range ? [ticks(range)] : []));
      for (const person of this.people) this.cards.get(person.number)?.querySelector(".timeline").replaceWith(this.times(person));
    }
    for (const person of people) {
      const card = this.card(person);
      this.cards.set(person.number, card);
      this.list.append(card);
    }
    this.total.textContent =
      this.people.length < total ? `${count(this.people.length)} of ${count(total)} people` : peopleWords(total);
    this.more.parentElement.hidden = this.people.length >= total;
    this.ungrouped.textContent = ungrouped
      ? `${plural(ungrouped, "tracklet")} ${ungrouped === 1 ? "belongs" : "belong"} to nobody yet; kronreid gallery group groups them.`
      : "";
    this.undoable = undo;
    showUndo(this.undoButton, undo);
  }

  offerCameras(cameras) {
    this.cameras.replaceChildren(
      ...cameras.map((camera) => {
        const value = camera ?? "";
        const box = h("input", {
          type: "checkbox",
          value,
          checked: this.chosen.has(value),
          on: {
            change: () => {
              if (box.checked) this.chosen.add(value);
              else this.chosen.delete(value);
              this.load();
            },
          },
        });
        return h("label.chip", {}, box, h("span", {}, cameraName(camera)));
      }),
    );
    if (!cameras.length) this.cameras.append(h("p.hint", {}, "No cameras are known."));
  }

  times(person) {
    return timeline(person.timeline, { range: this.range, most: 4, axis: false });
  }

  card(person) {
    const box = h("input", {
      type: "checkbox",
      tabindex: "-1",
      "aria-label": `Select ${who(person)}`,
      checked: this.selection.has(person.number),
      on: { change: () => this.select(person, box.checked) },
    });
    const facts = `${plural(person.tracklets, "tracklet")}, ${spanWords(person.first, person.last)}`;
    const card = h(
      "li.person",
      { draggable: "true", data: { number: person.number } },
      h(
        "a.person-link",
        {
          href: `#/people?person=${person.number}`,
          tabindex: "-1",
          draggable: "false",
          "aria-label": `${title(person)}, ${facts}, ${plural(person.cameras.length, "camera")}`,
        },
        h("span.person-pictures", {}, ...person.pictures.map((id) => h("span.frame", {}, thumb(id)))),
        h("span.person-words", {}, h("b", {}, title(person)), h("small", {}, facts)),
      ),
      this.times(person),
      h("label.pick", {}, box, h("span", { "aria-hidden": "true" }, icon("check"))),
    );
    card.addEventListener("dragstart", (event) => {
      event.dataTransfer.setData(DRAGGED, String(person.number));
      event.dataTransfer.effectAllowed = "move";
      card.classList.add("dragged");
    });
    card.addEventListener("dragend", () => card.classList.remove("dragged"));
    return takes(card, DRAGGED, (text) => {
      const number = Number(text);
      const others = this.selection.has(number) ? [...this.selection.keys()] : [number];
      this.merge(person.number, others.filter((other) => other !== person.number));
    });
  }

  /** The card that has the focus, if any. */
  focused() {
    const number = Number(document.activeElement?.closest?.(".person")?.dataset.number);
    return this.people?.find((person) => person.number === number);
  }

  /** What the keys m and r do: in the list with people, and in one of them with tracklets. */
  join() {
    if (this.number) this.pane.splitSelected();
    else this.mergeSelected();
  }

  name() {
    if (this.number) this.pane.rename();
    else this.rename();
  }

  // ── selecting and changing ─────────────────────────────────────────────────────────────────────────────

  select(person, on) {
    if (on) this.selection.set(person.number, person);
    else this.selection.delete(person.number);
    this.drawSelection();
  }

  /** Select the person that has the focus, or no longer. */
  toggle() {
    const person = this.focused();
    if (person) this.cards.get(person.number).querySelector(".pick input").click();
  }

  /** Who stays when the selected people are merged: the one with a name, or the lowest number. */
  get first() {
    const chosen = [...this.selection.values()];
    return chosen.sort((a, b) => (a.name === null) - (b.name === null) || a.number - b.number)[0];
  }

  drawSelection() {
    const size = this.selection.size;
    this.selectionBar.hidden = !size;
    this.selectionBar.replaceChildren(
      h("b", { role: "status" }, `${count(size)} selected`),
      ...(size > 1
        ? [button({ text: `Merge into ${who(this.first)}`, glyph: "merge", kind: "primary", press: () => this.mergeSelected() })]
        : [button({ text: "Name", glyph: "name", press: () => this.rename() })]),
      button({ label: "Clear the selection", glyph: "close", kind: "quiet square", press: () => this.unselect() }),
    );
  }

  unselect() {
    this.selection.clear();
    for (const box of this.list.querySelectorAll(".pick input:checked")) box.checked = false;
    this.drawSelection();
  }

  mergeSelected() {
    if (this.selection.size < 2) return;
    const { number } = this.first;
    this.merge(number, [...this.selection.keys()].filter((other) => other !== number));
  }

  async merge(into, others) {
    if (!others.length) return;
    await this.change(
      () => api.mergePeople(into, others),
      others.length === 1 ? `Person ${others[0]} is now person ${into}` : `${peopleWords(others.length)} are now person ${into}`,
    );
    this.cards.get(into)?.querySelector(".person-link").focus();
  }

  async rename() {
    const person = this.focused() ?? [...this.selection.values()][0];
    if (!person) return;
    const name = await askName(person);
    if (name === null) return;
    await this.change(() => api.namePerson(person.number, name), name ? `Person ${person.number} is named ${name}` : `Person ${person.number} has no name`);
  }

  /** Take back the last change. */
  async undo(undo = this.number ? this.pane.person?.undo : this.undoable) {
    if (!undo) return;
    if (
      undo.kind === "group" &&
      !(await confirmed({
        title: "Take back the grouping?",
        text: `This takes back ${undo.words}: they belong to nobody until they are grouped again.`,
        yes: "Take it back",
      }))
    )
      return;
    await this.change(() => api.undo(undo.change), `Taken back: ${undo.words}`);
  }

  /** Make a change, say so, and show what it has changed. */
  async change(act, words) {
    try {
      await act();
      toast(words);
      this.selection.clear();
    } catch (error) {
      toast(error.message, "error");
    }
    this.stale = true;
    await (this.number ? this.pane.show(this.number) : this.load());
  }
}

/** "Ada (3)", or "Person 3". */
const title = (person) => (person.name ? `${person.name} (${person.number})` : who(person));

