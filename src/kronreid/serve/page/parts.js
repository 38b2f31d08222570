// What the list of people and one person of it share: pictures, dragging, names, undo.

import { button, dialog, h, who } from "./dom.js";

/** A small picture of the gallery; words in its place if it is gone. */
export function thumb(id, words = "", size = "thumb") {
  const image = h("img", {
    src: `/api/pictures/${id}?size=${size}`,
    alt: words,
    loading: "lazy",
    decoding: "async",
    draggable: "false",
    on: { error: () => image.replaceWith(h("span.gone", {}, "picture not found")) },
  });
  return image;
}

/** Make an element take what is dragged onto it. `drop` gets the text of a drag of that type. */
export function takes(element, type, drop) {
  const ours = (event) => event.dataTransfer?.types.includes(type);
  element.addEventListener("dragover", (event) => {
    if (!ours(event)) return;
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", (event) => {
    if (!element.contains(event.relatedTarget)) element.classList.remove("over");
  });
  element.addEventListener("drop", (event) => {
    element.classList.remove("over");
    if (!ours(event)) return;
    event.preventDefault();
    drop(event.dataTransfer.getData(type));
  });
  return element;
}

/** Ask for a person's name; resolves to the text, or to null. */
export function askName(person) {
  return new Promise((resolve) => {
    let answer = null;
    const input = h("input", { type: "text", name: "name", value: person.name ?? "", maxlength: "200", autocomplete: "off" });
    const form = h(
      "form.stack",
      {},
      h("label.field-grid", {}, h("span", {}, "Name; leave it empty for none"), input),
      h("div.dialog-actions", {}, button({ text: "Keep this name", kind: "primary", type: "submit" })),
    );
    const { close } = dialog({ title: `Name of ${who(person)}`, body: form, onclose: () => resolve(answer) });
    input.select();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      answer = input.value.trim();
      close();
    });
  });
}

/** Say on a button what it takes back. */
export function showUndo(undoButton, undo) {
  undoButton.hidden = !undo;
  if (!undo) return;
  undoButton.title = `Undo ${undo.words} (z)`;
  undoButton.setAttribute("aria-label", `Undo ${undo.words}`);
}
