// One person: the timeline, the tracklets with their pictures and why they are here, and who looks alike.

import { api } from "./api.js";
import { button, cosine, count, dialog, h, icon, moment, notice, plural, toast, who } from "./dom.js";
import { openMoment } from "./moment.js";
import { askName, showUndo, takes, thumb } from "./parts.js";
import { cameraName, rangeOf, spanWords, timeline } from "./timeline.js";

/** What dragged tracklets are called in the clipboard of a drag. */
const DRAGGED = "application/x-kronreid-tracklets";
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", timeStyle: "medium" });

export class PersonPane {
  /** @param {{changed: () => void, undo: (undo: object) => void}} options `changed`: after every change. */
  constructor({ changed, undo }) {
    this.changed = changed;
    this.selection = new Set();
    this.element = h("div.person-pane", { hidden: true });
    this.undoButton = button({ text: "Undo", glyph: "undo", press: () => undo(this.person.undo) });
    this.selectionBar = h("div.selection-bar", { role: "region", "aria-label": "Selected tracklets", hidden: true });
  }

  hide() {
    this.element.hidden = true;
    this.person = null;
  }

  async show(number) {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const same = this.person?.number === number;
    this.element.hidden = false;
    if (!same) {
      this.person = null;
      this.element.replaceChildren(h("p.waiting", { role: "status" }, "Reading…"));
    }
    try {
      const person = await api.person(number);
      if (turn !== this.turn || this.element.hidden) return;
      this.person = person;
      this.selection.clear();
      this.draw();
    } catch (error) {
      if (turn !== this.turn) return;
      this.element.replaceChildren(
        this.back(),
        error.status === 404
          ? h(
              "div.empty-state",
              {},
              icon("people"),
              h("h2", {}, `There is no person ${number} any more`),
              h("p", {}, "Perhaps somebody has merged this person with another one."),
            )
          : notice(error.message, { again: () => this.show(number) }),
      );
    }
  }

  back() {
    return h("a.button.quiet", { href: "#/people" }, icon("left"), h("span", {}, "All people"));
  }

  draw() {
    const { person } = this;
    showUndo(this.undoButton, person.undo);
    this.tracks = new Map(person.tracks.map((track) => [track.id, this.track(track)]));
    this.heading = h("h2", { tabindex: "-1" }, who(person));
    const onNew = takes(
      h("p.drop-zone", {}, icon("split"), h("span", {}, "Drop tracklets here to make them a new person")),
      DRAGGED,
      (ids) => this.split(ids.split(",")),
    );
    this.element.replaceChildren(
      h(
        "div.view-head",
        {},
        this.back(),
        this.heading,
        person.name && h("small", {}, `person ${person.number}`),
        h(
          "div.view-tools",
          {},
          button({ text: "Name", glyph: "name", press: () => this.rename() }),
          h("a.button", { href: `#/search?${person.pictures.map((id) => `item=${id}`).join("&")}` }, icon("search"), h("span", {}, "Search")),
          this.undoButton,
        ),
      ),
      h(
        "p.person-facts",
        {},
        `${plural(person.tracklets, "tracklet")}, ${plural(person.cameras.length, "camera")}, ${spanWords(person.first, person.last)} UTC`,
      ),
      h(
        "section.card",
        { "aria-label": "Timeline" },
        timeline(person.tracks, { range: rangeOf([person.tracks]), press: (id) => this.find(id) }),
      ),
      h("h3", {}, "Tracklets"),
      h("ol.tracks", { "aria-label": "Tracklets, in the order of their times" }, ...this.tracks.values()),
      person.tracks.length > 1 ? onNew : "",
      this.selectionBar,
      ...(person.alike.length ? [h("h3", {}, "Most alike among the others"), this.alike()] : []),
    );
    this.drawSelection();
  }

  /** One tracklet: its pictures, where and when, and why it is here. */
  track(track) {
    const { person } = this;
    const words = `${cameraName(track.camera)}, ${moment(track.start)}`;
    const box = h("input", {
      type: "checkbox",
      "aria-label": `Select the tracklet of ${words}`,
      on: { change: () => this.select(track.id, box.checked) },
    });
    const card = h(
      "li.track",
      { draggable: "true", data: { id: track.id } },
      h("label.pick", {}, box, h("span", { "aria-hidden": "true" }, icon("check"))),
      h(
        "span.track-pictures",
        {},
        ...track.pictures.map((id, place) =>
          h(
            "a.frame",
            { href: `#/search?item=${id}`, draggable: "false", "aria-label": `Picture ${place + 1} of ${words}. Search with it` },
            thumb(id),
          ),
        ),
      ),
      h(
        "div.track-words",
        {},
        h("b", {}, cameraName(track.camera)),
        h("span", {}, `${moment(track.start, false)}, ${CLOCK.format(new Date(track.start))} to ${CLOCK.format(new Date(track.end))}`),
        h("small", {}, this.why(track.why, person)),
        track.pictures.length > 0 &&
          button({
            text: "See the moment",
            label: `See the moment of ${words} in its video`,
            glyph: "cameras",
            kind: "quiet track-moment",
            press: () => openMoment(track.pictures[0]),
          }),
      ),
    );
    card.addEventListener("dragstart", (event) => {
      const ids = this.selection.has(track.id) ? [...this.selection] : [track.id];
      event.dataTransfer.setData(DRAGGED, ids.join());
      event.dataTransfer.effectAllowed = "move";
      card.classList.add("dragged");
    });
    card.addEventListener("dragend", () => card.classList.remove("dragged"));
    return card;
  }

  why(why, person) {
    if (why.by_hand) return "put here by hand";
    if (why.similarity === null) return "the first of this person";
    const near = person.tracks.find(({ id }) => id === why.near);
    const most = near ? ` with ${cameraName(near.camera)} at ${CLOCK.format(new Date(near.start))}` : "";
    return `similarity ${cosine(why.similarity)}${most}, ${cosine(why.average)} on average`;
  }

  /** Bring a tracklet into view. */
  find(id) {
    const card = this.tracks.get(id);
    card.scrollIntoView({ block: "center" });
    card.querySelector("input").focus({ preventScroll: true });
  }

  alike() {
    return h(
      "ul.alike",
      { "aria-label": "People who look alike" },
      ...this.person.alike.map((other) =>
        takes(
          h(
            "li",
            {},
            h(
              "a.person-link",
              { href: `#/people?person=${other.number}`, draggable: "false" },
              h("span.frame", {}, other.picture ? thumb(other.picture) : h("span.gone", {}, "no picture")),
              h("b", {}, who(other)),
              h("small", {}, `similarity ${cosine(other.similarity)}`),
            ),
            button({
              text: "Merge",
              glyph: "merge",
              "aria-label": `Merge ${who(other)} into ${who(this.person)}`,
              press: () => this.merge(other),
            }),
          ),
          DRAGGED,
          (ids) => this.split(ids.split(","), other.number),
        ),
      ),
    );
  }

  // ── selecting and changing ─────────────────────────────────────────────────────────────────────────────

  select(id, on) {
    if (on) this.selection.add(id);
    else this.selection.delete(id);
    this.drawSelection();
  }

  drawSelection() {
    const ids = [...this.selection];
    this.selectionBar.hidden = !ids.length;
    this.selectionBar.replaceChildren(
      h("b", { role: "status" }, `${count(ids.length)} selected`),
      button({
        text: "New person",
        glyph: "split",
        kind: "primary",
        disabled: ids.length === this.person.tracks.length,
        press: () => this.split(ids),
      }),
      button({ text: "Move to…", press: () => this.askWhom(ids) }),
      button({ label: "Clear the selection", glyph: "close", kind: "quiet square", press: () => this.unselect() }),
    );
  }

  unselect() {
    this.selection.clear();
    for (const box of this.element.querySelectorAll(".track .pick input:checked")) box.checked = false;
    this.drawSelection();
  }

  /** Split off what is selected. */
  splitSelected() {
    if (this.person && this.selection.size && this.selection.size < this.person.tracks.length) this.split([...this.selection]);
  }

  askWhom(ids) {
    const input = h("input", { type: "number", name: "person", min: "1", step: "1", required: true });
    const form = h(
      "form.stack",
      {},
      h("label.field-grid", {}, h("span", {}, "Number of the person"), input),
      h("div.dialog-actions", {}, button({ text: "Move", kind: "primary", type: "submit" })),
    );
    const { close } = dialog({ title: `Move ${plural(ids.length, "tracklet")}`, body: form });
    input.focus();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      close();
      this.split(ids, Number(input.value));
    });
  }

  async split(ids, to = null) {
    await this.change(async () => {
      const { person } = await api.splitPerson(ids, to);
      return `${plural(ids.length, "tracklet")} ${ids.length === 1 ? "is" : "are"} now person ${person}`;
    });
  }

  async merge(other) {
    const { number } = this.person;
    await this.change(async () => {
      await api.mergePeople(number, [other.number]);
      return `Person ${other.number} is now person ${number}`;
    });
  }

  async rename() {
    const { person } = this;
    if (!person) return;
    const name = await askName(person);
    if (name === null) return;
    await this.change(async () => {
      await api.namePerson(person.number, name);
      return name ? `Person ${person.number} is named ${name}` : `Person ${person.number} has no name`;
    });
  }

  async change(act) {
    const { number } = this.person;
    try {
      toast(await act());
    } catch (error) {
      toast(error.message, "error");
    }
    this.changed();
    await this.show(number);
    this.heading.focus({ preventScroll: true });
  }
}
