// Puts the page together: views by address, theme, keys, token.

import { api, signIn } from "./api.js";
import { CamerasView } from "./cameras.js";
import { CompareView } from "./compare.js";
import { count, dialog, h, notice, remember, toast } from "./dom.js";
import { EvaluateView } from "./evaluate.js";
import { GalleryView } from "./gallery.js";
import { openMoment } from "./moment.js";
import { PeopleView } from "./people.js";
import { SearchView } from "./search.js";
import { inVideo, mark, state } from "./state.js";

const element = (id) => document.getElementById(id);
const views = {
  search: new SearchView(element("view-search")),
  compare: new CompareView(element("view-compare")),
  gallery: new GalleryView(element("view-gallery")),
  people: new PeopleView(element("view-people")),
  cameras: new CamerasView(element("view-cameras")),
  evaluate: new EvaluateView(element("view-evaluate")),
};
const NAMES = Object.keys(views);
let current = null;
const scrolled = {};

// ── views by address ─────────────────────────────────────────────────────────────────────────────────────

function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const name = NAMES.includes(path) ? path : "search";
  const changed = name !== current;
  if (changed && current) scrolled[current] = window.scrollY;
  for (const other of NAMES) element(`view-${other}`).hidden = other !== name;
  for (const link of document.querySelectorAll(".views a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · kronreid`;
  const first = current === null;
  current = name;
  if (changed && !first) {
    window.scrollTo(0, scrolled[name] ?? 0);
    element(`title-${name}`).focus({ preventScroll: true });
  }
  views[name].show(new URLSearchParams(query));
}

const go = (name) => (location.hash = `#/${name}`);

// ── theme ────────────────────────────────────────────────────────────────────────────────────────────────

const THEMES = ["system", "light", "dark"];
const themeButton = element("theme");

function theme() {
  return document.documentElement.dataset.theme ?? "system";
}

function setTheme(choice) {
  if (choice === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  remember("theme", choice === "system" ? null : choice);
  sayTheme();
}

function sayTheme() {
  const words = { system: "as the system has it", light: "light", dark: "dark" }[theme()];
  themeButton.setAttribute("aria-label", `Theme: ${words}. Change`);
  themeButton.title = `Theme: ${words} (t)`;
}

function nextTheme() {
  setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
  toast(`Theme: ${theme()}`);
}

// ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────

const KEYS = [
  [
    "Everywhere",
    [
      ["1 2 3 4 5 6", "Search, compare, gallery, evaluate, people, cameras"],
      ["u", "Choose photos to search with"],
      ["t", "Theme"],
      ["?", "This list"],
      ["Esc", "Close a dialog"],
    ],
  ],
  [
    "Among pictures",
    [
      ["← → ↑ ↓", "Walk the grid"],
      ["Home End", "First and last"],
      ["Enter", "Compare, or open"],
      ["s", "Same person"],
      ["n", "Not the same person"],
      ["f", "Search with this one"],
      ["v", "See the moment in its video"],
    ],
  ],
  [
    "People",
    [
      ["← → ↑ ↓", "Walk the list"],
      ["x", "Select the person at hand, or no longer"],
      ["m", "Merge the selected people; split off the selected tracklets"],
      ["r", "Name the person"],
      ["z", "Undo"],
    ],
  ],
  [
    "Comparing",
    [
      ["← → ↑ ↓", "Walk over the places of a picture"],
      ["Enter", "Keep a place; again lets go"],
      ["[ ]", "Coarser, finer scale; previous, next level"],
      ["j k", "Next, previous hit"],
      ["s n", "Same person, not"],
    ],
  ],
  [
    "Drawing a box",
    [
      ["← → ↑ ↓", "Move"],
      ["Shift ← → ↑ ↓", "Resize"],
      ["Alt ← → ↑ ↓", "One pixel at a time"],
      ["Enter", "Use the box"],
    ],
  ],
];

const keysOn = () => remember("keys") !== "off";

function showHelp() {
  const toggle = h("input", {
    type: "checkbox",
    checked: keysOn(),
    on: { change: () => remember("keys", toggle.checked ? null : "off") },
  });
  dialog({
    title: "Keyboard",
    kind: "wide",
    body: h(
      "div",
      {},
      h(
        "div.keys",
        {},
        ...KEYS.map(([title, rows]) =>
          h(
            "section",
            {},
            h("h3", {}, title),
            h(
              "dl",
              {},
              ...rows.flatMap(([keys, words]) => [
                h("dt", {}, ...keys.split(" ").map((key) => h("kbd", {}, key))),
                h("dd", {}, words),
              ]),
            ),
          ),
        ),
      ),
      h("label.check", {}, toggle, h("span", {}, "Single letters and digits are shortcuts")),
    ),
  });
}

function hitAtHand() {
  if (current === "compare") return views.compare.hit;
  return current === "search" ? views.search.hits.focused() : null;
}

const SHORTCUTS = {
  1: () => go("search"),
  2: () => go("compare"),
  3: () => go("gallery"),
  4: () => go("evaluate"),
  5: () => state.info.has_people && go("people"),
  6: () => state.info.has_cameras && go("cameras"),
  t: nextTheme,
  "?": showHelp,
  u: () => {
    go("search");
    views.search.tray.input.click();
  },
  s: () => hitAtHand() && mark(hitAtHand(), true),
  n: () => hitAtHand() && mark(hitAtHand(), false),
  f: () => {
    const id = document.activeElement?.closest?.(".hit")?.dataset.id;
    if (id) go(`search?item=${id}`);
  },
  v: () => {
    const hit = current === "search" ? views.search.hits.focused() : null;
    if (hit && inVideo(hit)) openMoment(hit.id);
  },
  x: () => current === "people" && views.people.toggle(),
  m: () => current === "people" && views.people.join(),
  r: () => current === "people" && views.people.name(),
  z: () => current === "people" && views.people.undo(),
  j: () => current === "compare" && views.compare.step(1),
  k: () => current === "compare" && views.compare.step(-1),
  "[": () => current === "compare" && views.compare.stage.step(-1),
  "]": () => current === "compare" && views.compare.stage.step(1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (!keysOn() && event.key !== "?") return;
  const target = event.target;
  const typing = target.matches?.(
    "textarea, select, input:not([type=checkbox], [type=radio], [type=range], [type=file])",
  );
  if (typing || document.querySelector("dialog[open]")) return;
  const shortcut = SHORTCUTS[event.key];
  if (!shortcut) return;
  event.preventDefault();
  shortcut();
});

document.addEventListener("paste", (event) => {
  const files = event.clipboardData?.files;
  if (!files?.length || !state.paste) return;
  event.preventDefault();
  state.paste(files);
});

// A file dropped beside the trays must not replace the page.
for (const kind of ["dragover", "drop"])
  window.addEventListener(
    kind,
    (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault(),
  );

// ── start ────────────────────────────────────────────────────────────────────────────────────────────────

async function loadInfo() {
  try {
    state.info = await api.info();
  } catch (error) {
    const main = element("main");
    main.querySelector(".start-error")?.remove();
    const message = notice(error.message, { again: () => (message.remove(), start()) });
    message.classList.add("start-error");
    main.prepend(message);
    return false;
  }
  const { gallery, signed_in } = state.info;
  element("whereabouts").replaceChildren(
    h("b", {}, gallery.uri.split("/").at(-1)),
    ` ${count(gallery.count)} pictures`,
  );
  element("whereabouts").title = `${gallery.uri}, vectors of ${gallery.model}`;
  element("link-people").hidden = !state.info.has_people;
  element("link-cameras").hidden = !state.info.has_cameras;
  element("sign-in").hidden = signed_in;
  element("sign-out").hidden = !signed_in;
  for (const view of Object.values(views)) view.ready?.();
  return true;
}

/** End the session, and load the page anew, so that nothing of it stays on the screen. */
async function signOut() {
  try {
    await api.signOut();
    location.reload();
  } catch (error) {
    toast(`You are still signed in. ${error.message}`, "error");
  }
}

async function start() {
  if (await loadInfo()) route();
}

element("sign-in").addEventListener("click", signIn);
element("sign-out").addEventListener("click", signOut);
themeButton.addEventListener("click", nextTheme);
element("help").addEventListener("click", showHelp);
window.addEventListener("hashchange", () => state.info && route());
window.addEventListener("kronreid:signed-in", loadInfo);
window.addEventListener("kronreid:gallery-changed", loadInfo);
sayTheme();
start();
