// A grid of pictures that is one stop of the Tab key, walked with arrow keys; and the size of its pictures.

import { h, icon, remember } from "./dom.js";

/** Sizes of the pictures; views.css says what they are. */
const SIZES = { s: "small", m: "medium", l: "large" };

/** A slider for the size of the pictures in `target`, remembered. */
export function sizeControl(target) {
  const names = Object.keys(SIZES);
  const input = h("input", {
    type: "range",
    min: "0",
    max: "2",
    step: "1",
    "aria-label": "Size of the pictures",
  });
  const apply = () => {
    const name = names[input.value];
    target.dataset.size = name;
    input.setAttribute("aria-valuetext", SIZES[name]);
    remember("size", name);
  };
  input.value = Math.max(0, names.indexOf(remember("size") ?? "m"));
  input.addEventListener("input", apply);
  apply();
  return h("label.size", { title: "Size of the pictures" }, icon("gallery"), input);
}

/**
 * Arrow keys, Home and End walk the cards of a grid. The Tab key only reaches the current card,
 * first its `focus` and then its buttons, so a thousand cards are one stop.
 * @param {HTMLElement} root Holds the cards, now or later.
 * @param {string} card Selector of a card.
 * @param {string} focus Selector of what takes the focus in a card.
 */
export class Roving {
  constructor(root, card, focus) {
    Object.assign(this, { root, card, focus, active: null });
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("focusin", (event) => this.activate(event.target.closest(card)));
  }

  /** After new cards: the Tab key reaches the first. */
  reset() {
    this.active = null;
    this.activate(this.root.querySelector(this.card));
  }

  activate(card) {
    if (!card || card === this.active) return;
    for (const control of this.active?.querySelectorAll("a, button, input") ?? []) control.tabIndex = -1;
    for (const control of card.querySelectorAll("a, button, input")) control.tabIndex = 0;
    this.active = card;
  }

  go(card) {
    card.querySelector(this.focus).focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest" });
  }

  key(event) {
    const card = event.target.closest(this.card);
    if (!card || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const cards = [...this.root.querySelectorAll(this.card)];
    const place = cards.indexOf(card);
    const goals = {
      ArrowRight: () => place + 1,
      ArrowLeft: () => place - 1,
      ArrowDown: () => neighbour(cards, place, 1),
      ArrowUp: () => neighbour(cards, place, -1),
      Home: () => 0,
      End: () => cards.length - 1,
    };
    if (!goals[event.key]) return;
    event.preventDefault();
    this.go(cards[Math.max(0, Math.min(cards.length - 1, goals[event.key]()))]);
  }
}

/** The horizontally nearest card of the next (1) or previous (−1) row. */
function neighbour(cards, place, way) {
  const here = cards[place].getBoundingClientRect();
  let [best, distance, row] = [place, Infinity, null];
  for (let i = place + way; i >= 0 && i < cards.length; i += way) {
    const there = cards[i].getBoundingClientRect();
    if (Math.abs(there.top - here.top) < 4) continue;
    if (row !== null && Math.abs(there.top - row) > 4) break;
    row = there.top;
    if (Math.abs(there.left - here.left) < distance) [best, distance] = [i, Math.abs(there.left - here.left)];
  }
  return best;
}
