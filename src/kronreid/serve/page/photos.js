// Photos that the user drops, pastes or chooses; each may have a box drawn on it.

import { cropBox } from "./crop.js";
import { button, describe, h, icon, toast, unique } from "./dom.js";
import { state } from "./state.js";

/**
 * @typedef {object} Photo
 * @property {File|null} file An upload, or
 * @property {object|null} item a picture of the gallery (`Item`) or of an earlier search (`QueryPicture`).
 * @property {HTMLImageElement|null} image Decoded; null where this browser cannot show it.
 * @property {number[]|null} box x, y, width, height in pixels of the upright picture; null for all of it.
 */

/** Load a picture upright, as browsers show it; null where they cannot. */
async function decoded(address) {
  const image = new Image();
  image.src = address;
  try {
    await image.decode();
    return image;
  } catch {
    return null;
  }
}

const isFrame = (photo) => photo.image && photo.image.naturalWidth > photo.image.naturalHeight;

/** A place for photos: one or several. */
export class Tray {
  /**
   * @param {object} options
   * @param {boolean} options.several Whether more than one fits; otherwise a new one replaces the old.
   * @param {string} options.invitation What the empty place says.
   * @param {string} [options.noun] What its button asks for when there is a photo already.
   * @param {() => void} options.change Called after every change.
   */
  constructor({ several, invitation, noun = "photo", change }) {
    this.noun = noun;
    this.several = several;
    this.change = change;
    /** @type {Photo[]} */
    this.photos = [];
    const id = unique("files");
    this.input = h("input.unseen", {
      type: "file",
      id,
      accept: "image/*",
      multiple: several,
      tabindex: "-1",
      "aria-label": "Photos",
      on: { change: () => this.take(this.input.files) },
    });
    this.tiles = h("ul.tiles", { "aria-label": several ? "Photos to search with" : "Photo" });
    this.choose = button({
      text: several ? "Choose photos" : "Choose a photo",
      glyph: "plus",
      press: () => this.input.click(),
    });
    this.invitation = h("div.invitation", {}, icon("picture"), h("p", {}, invitation));
    this.element = h("div.tray", {}, this.input, this.invitation, this.tiles, this.choose);
    acceptDrops(this.element, (files) => this.take(files));
    this.draw();
  }

  get empty() {
    return this.photos.length === 0;
  }

  /** Add files. A file that is no picture is refused with a message; a full frame opens the box dialog. */
  async take(files) {
    const all = [...files]; // the list becomes empty when its input is reset
    this.input.value = "";
    const pictures = all.filter((file) => file.type.startsWith("image/"));
    if (!pictures.length) {
      if (all.length) toast("That is not a picture. JPEG, PNG, WebP, BMP, TIFF and GIF work.", "error");
      return;
    }
    const most = state.info?.limits?.pictures ?? Infinity;
    if (this.several && this.photos.length + pictures.length > most) {
      toast(`This server takes at most ${most} pictures at a time.`, "error");
      return;
    }
    const taken = await Promise.all(
      (this.several ? pictures : pictures.slice(0, 1)).map(async (file) => ({
        file,
        item: null,
        image: await decoded(URL.createObjectURL(file)),
        box: null,
      })),
    );
    if (!this.several) this.clear(true);
    this.photos.push(...taken);
    this.draw();
    this.change();
    if (taken.length === 1 && isFrame(taken[0])) this.crop(taken[0]);
  }

  /** Add a picture that the server has. */
  async takeItem(item) {
    const photo = { file: null, item, image: null, box: null };
    if (!this.several) this.clear(true);
    this.photos.push(photo);
    this.draw();
    this.change();
  }

  clear(quiet = false) {
    for (const photo of this.photos) if (photo.file && photo.image) URL.revokeObjectURL(photo.image.src);
    this.photos = [];
    this.draw();
    if (!quiet) this.change();
  }

  remove(photo) {
    if (photo.file && photo.image) URL.revokeObjectURL(photo.image.src);
    this.photos = this.photos.filter((other) => other !== photo);
    this.draw();
    this.change();
    this.choose.focus();
  }

  async crop(photo) {
    const box = await cropBox(photo.image, photo.box);
    if (box === undefined) return;
    photo.box = box;
    this.draw();
    this.change();
  }

  draw() {
    this.element.classList.toggle("empty", this.empty);
    this.tiles.replaceChildren(...this.photos.map((photo, number) => this.tile(photo, number)));
    this.choose.querySelector("span").textContent = this.several
      ? this.empty
        ? "Choose photos"
        : `Add another ${this.noun}`
      : this.empty
        ? "Choose a photo"
        : "Choose another";
  }

  tile(photo, number) {
    const name = photo.file ? photo.file.name : describe(photo.item);
    return h(
      "li.tile",
      {},
      preview(photo, `Photo ${number + 1}: ${name}`),
      isFrame(photo) && photo.file && !photo.box && h("p.tile-note", {}, "Full frame: draw a box"),
      h(
        "div.tile-tools",
        {},
        photo.file &&
          photo.image &&
          button({
            label: photo.box ? "Change the box" : "Draw a box",
            glyph: "crop",
            kind: "quiet square",
            press: () => this.crop(photo),
          }),
        button({
          label: `Remove ${name}`,
          glyph: "close",
          kind: "quiet square",
          press: () => this.remove(photo),
        }),
      ),
    );
  }
}

/** A small picture of a photo, cut to its box. */
function preview(photo, label) {
  if (photo.item)
    return h("img", {
      src: `${photo.item.picture}${photo.item.picture.startsWith("data:") ? "" : "?size=thumb"}`,
      alt: label,
      width: photo.item.width,
      height: photo.item.height,
    });
  if (!photo.image)
    return h(
      "div.no-preview",
      { role: "img", "aria-label": label },
      icon("picture"),
      h("small", {}, photo.file.name),
    );
  const [x, y, width, height] = photo.box ?? [0, 0, photo.image.naturalWidth, photo.image.naturalHeight];
  const high = 260;
  const canvas = h("canvas", {
    role: "img",
    "aria-label": label,
    width: Math.max(1, Math.round((width / height) * high)),
    height: high,
  });
  canvas.getContext("2d").drawImage(photo.image, x, y, width, height, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** Accept files dropped on an element, which is highlighted while files are over it. */
export function acceptDrops(element, take) {
  let inside = 0;
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  const show = () => element.classList.toggle("over", inside > 0);
  element.addEventListener(
    "dragenter",
    (event) => carriesFiles(event) && (event.preventDefault(), (inside += 1), show()),
  );
  element.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  element.addEventListener("dragleave", (event) => carriesFiles(event) && ((inside -= 1), show()));
  element.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.stopPropagation();
    inside = 0;
    show();
    take(event.dataTransfer.files);
  });
}

/** A photo cut to its box as an address that can be shown. */
export function cutOut(photo) {
  if (!photo.image) return null;
  const [x, y, width, height] = photo.box ?? [0, 0, photo.image.naturalWidth, photo.image.naturalHeight];
  const scale = Math.min(1, 900 / height);
  const canvas = h("canvas", {
    width: Math.max(1, Math.round(width * scale)),
    height: Math.max(1, Math.round(height * scale)),
  });
  canvas.getContext("2d").drawImage(photo.image, x, y, width, height, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.92);
}
