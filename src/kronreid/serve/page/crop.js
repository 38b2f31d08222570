// Drawing a box around the person on a full frame, with mouse, touch or keys.

import { button, dialog, h } from "./dom.js";

const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
const SMALLEST = 8; // pixels

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/**
 * Let the user draw a box.
 * @param {HTMLImageElement} image Decoded and upright.
 * @param {number[]|null} start The current box: x, y, width, height in pixels.
 * @returns {Promise<number[]|null|undefined>} A box; null for the whole picture; undefined for no change.
 */
export function cropBox(image, start) {
  return new Promise((resolve) => {
    const [wide, high] = [image.naturalWidth, image.naturalHeight];
    let answer;
    let box = start ?? middle(wide, high);

    const picture = h("img", {
      src: image.src,
      alt: "The photo",
      draggable: "false",
      width: wide,
      height: high,
    });
    const frame = h(
      "div.crop-box",
      {
        tabindex: "0",
        role: "application",
        "aria-roledescription": "box",
        "aria-describedby": "crop-keys",
        autofocus: true,
      },
      ...HANDLES.map((name) => h(`i.${name}`, { data: { handle: name } })),
    );
    const stage = h("div.crop-stage", {}, picture, frame);
    const preview = h("canvas.crop-preview", {
      width: 96,
      height: 192,
      role: "img",
      "aria-label": "The part inside the box",
    });
    const numbers = ["x", "y", "width", "height"].map((name, place) => {
      const input = h("input", { type: "number", min: place < 2 ? "0" : String(SMALLEST), step: "1", name });
      input.addEventListener("change", () => {
        const wanted = [...box];
        wanted[place] = Number(input.value) || 0;
        put(wanted);
      });
      return { name, input };
    });

    function put(wanted) {
      const width = Math.round(clamp(wanted[2], SMALLEST, wide));
      const height = Math.round(clamp(wanted[3], SMALLEST, high));
      box = [
        Math.round(clamp(wanted[0], 0, wide - width)),
        Math.round(clamp(wanted[1], 0, high - height)),
        width,
        height,
      ];
      const [x, y] = box;
      Object.assign(frame.style, {
        left: `${(100 * x) / wide}%`,
        top: `${(100 * y) / high}%`,
        width: `${(100 * width) / wide}%`,
        height: `${(100 * height) / high}%`,
      });
      frame.setAttribute(
        "aria-label",
        `Box, left ${x}, top ${y}, ${width} wide, ${height} high, of a picture of ${wide} by ${high} pixels`,
      );
      numbers.forEach(({ input }, place) => (input.value = box[place]));
      preview.width = Math.max(1, Math.round(Math.min(160, (192 * width) / height)));
      preview.height = Math.max(1, Math.round((preview.width * height) / width));
      preview.getContext("2d").drawImage(image, x, y, width, height, 0, 0, preview.width, preview.height);
    }

    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      frame.focus({ preventScroll: true });
      stage.setPointerCapture(event.pointerId);
      const at = (e) => {
        const area = picture.getBoundingClientRect();
        return [
          clamp((e.clientX - area.left) / area.width, 0, 1) * wide,
          clamp((e.clientY - area.top) / area.height, 0, 1) * high,
        ];
      };
      const from = at(event);
      const before = [...box];
      const handle = event.target.dataset?.handle;
      const moving = event.target === frame;
      const drag = (e) => {
        const [x, y] = at(e);
        if (moving) put([before[0] + x - from[0], before[1] + y - from[1], before[2], before[3]]);
        else if (handle) put(resized(before, handle, x, y));
        else if (Math.hypot(x - from[0], y - from[1]) > SMALLEST) {
          put([Math.min(x, from[0]), Math.min(y, from[1]), Math.abs(x - from[0]), Math.abs(y - from[1])]);
        }
      };
      const stop = () => {
        stage.removeEventListener("pointermove", drag);
        stage.removeEventListener("pointerup", stop);
        stage.removeEventListener("pointercancel", stop);
      };
      stage.addEventListener("pointermove", drag);
      stage.addEventListener("pointerup", stop);
      stage.addEventListener("pointercancel", stop);
    });

    frame.addEventListener("keydown", (event) => {
      const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const way = ways[event.key];
      if (event.key === "Enter") {
        event.preventDefault();
        use(box);
      } else if (way) {
        event.preventDefault();
        const step = event.altKey ? 1 : Math.max(1, Math.round(Math.min(wide, high) / 50));
        const [dx, dy] = way.map((value) => value * step);
        if (event.shiftKey)
          put([box[0], box[1], Math.min(box[2] + dx, wide - box[0]), Math.min(box[3] + dy, high - box[1])]);
        else put([box[0] + dx, box[1] + dy, box[2], box[3]]);
      }
    });

    const use = (value) => {
      answer = value;
      close();
    };
    const { close } = dialog({
      title: "Draw a box around the person",
      kind: "wide",
      body: h(
        "div.crop",
        {},
        stage,
        h(
          "div.crop-side",
          {},
          preview,
          h(
            "fieldset.crop-numbers",
            {},
            h("legend.unseen", {}, "The box in pixels"),
            ...numbers.map(({ name, input }) => h("label", {}, h("span", {}, name), input)),
          ),
          h(
            "p.hint",
            { id: "crop-keys" },
            "Drag to draw, move or resize. Arrow keys move the box, with Shift they resize it, with Alt in single pixels; Enter uses it.",
          ),
        ),
      ),
      actions: [
        button({ text: "Whole picture", press: () => use(null) }),
        button({ text: "Use this box", kind: "primary", press: () => use(box) }),
      ],
      onclose: () => resolve(answer),
    });
    put(box);
  });
}

/** A box in the middle, in the shape of a person. */
function middle(wide, high) {
  const height = 0.7 * high;
  const width = Math.min(height / 2, wide);
  return [(wide - width) / 2, (high - height) / 2, width, height];
}

/** The box after its handle has been dragged to x, y; the opposite side stays. */
function resized([left, top, width, height], handle, x, y) {
  let [right, bottom] = [left + width, top + height];
  if (handle.includes("w")) left = Math.min(x, right - SMALLEST);
  if (handle.includes("e")) right = Math.max(x, left + SMALLEST);
  if (handle.includes("n")) top = Math.min(y, bottom - SMALLEST);
  if (handle.includes("s")) bottom = Math.max(y, top + SMALLEST);
  return [left, top, right - left, bottom - top];
}
