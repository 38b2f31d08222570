// From numbers to colours: the ramp, heat maps over pictures, and what a correspondence says about a place.

/** Cividis at eleven points: its brightness rises evenly, and colour-blind people see it alike. */
const CIVIDIS = [
  [0, 34, 78],
  [8, 51, 112],
  [53, 69, 108],
  [79, 87, 108],
  [102, 105, 112],
  [125, 124, 120],
  [148, 142, 119],
  [174, 163, 113],
  [200, 184, 102],
  [229, 207, 82],
  [254, 232, 56],
];

/** Colour of a value from 0 to 1, as [r, g, b]. */
export function ramp(value) {
  const place = Math.min(Math.max(value, 0), 1) * (CIVIDIS.length - 1);
  const low = Math.min(Math.floor(place), CIVIDIS.length - 2);
  const part = place - low;
  return CIVIDIS[low].map((channel, i) => Math.round(channel + part * (CIVIDIS[low + 1][i] - channel)));
}

/** Bytes of base64 text. */
export function bytes(base64) {
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

/** A scale of the API with its correspondence as shares. */
export class ScaleMap {
  constructor({ height, width, correspondence, row_maximum, attention_a, attention_b }) {
    Object.assign(this, { height, width, attention_a, attention_b });
    this.places = height * width;
    this.rows = bytes(correspondence);
    this.most = row_maximum;
  }

  /** Where place i of A looks in B: shares, one per place. */
  row(i) {
    return Float32Array.from(
      this.rows.subarray(i * this.places, (i + 1) * this.places),
      (byte) => (byte / 255) * this.most[i],
    );
  }

  /** Which places of A look at place j of B: the share of each that goes there. */
  column(j) {
    const out = new Float32Array(this.places);
    for (let i = 0; i < this.places; i++) out[i] = (this.rows[i * this.places + j] / 255) * this.most[i];
    return out;
  }

  /** The place of B that place i of A looks at most. */
  best(i) {
    let best = 0;
    for (let j = 1; j < this.places; j++)
      if (this.rows[i * this.places + j] > this.rows[i * this.places + best]) best = j;
    return best;
  }

  /**
   * A few informative places of A: attended, with a sure match, apart from each other, from head to feet.
   * @returns {{from: number, to: number, share: number}[]}
   */
  links(wanted = 8) {
    const top = Math.max(...this.attention_a);
    const value = this.most.map((share, i) => share * (0.4 + (0.6 * this.attention_a[i]) / top));
    const order = value.map((_, i) => i).sort((i, j) => value[j] - value[i]);
    const near = Math.max(1.5, 0.15 * this.height);
    const chosen = [];
    for (const i of order) {
      const [y, x] = [Math.floor(i / this.width), i % this.width];
      const apart = chosen.every(
        (k) => Math.hypot(Math.floor(k / this.width) - y, (k % this.width) - x) >= near,
      );
      if (apart && chosen.every((k) => this.best(k) !== this.best(i))) chosen.push(i);
      if (chosen.length === wanted) break;
    }
    return chosen.sort((i, j) => i - j).map((i) => ({ from: i, to: this.best(i), share: this.most[i] }));
  }
}

/** HOReID's part maps of one picture. */
export class Parts {
  constructor({ count, height, width, maps, maximum }) {
    Object.assign(this, { count, height, width, maximum });
    this.places = height * width;
    this.maps = bytes(maps);
  }

  /** One map, as shares that sum to 1. */
  map(part) {
    return Float32Array.from(
      this.maps.subarray(part * this.places, (part + 1) * this.places),
      (byte) => (byte / 255) * this.maximum[part],
    );
  }

  /** How much all parts together look at each place. */
  all() {
    const out = new Float32Array(this.places);
    for (let part = 0; part < this.count; part++) {
      for (let i = 0; i < this.places; i++)
        out[i] += (this.maps[part * this.places + i] / 255) * this.maximum[part];
    }
    return out;
  }

  /** The part that looks most at a place; −1 if all look elsewhere. */
  at(place) {
    let [best, most] = [-1, 1 / this.places]; // a part looks at a place if its share is above the mean
    for (let part = 0; part < this.count; part++) {
      const share = (this.maps[part * this.places + place] / 255) * this.maximum[part];
      if (share > most) [best, most] = [part, share];
    }
    return best;
  }
}

/**
 * Paint values over a picture: low ones as a dark veil, high ones bright.
 * @param {HTMLCanvasElement} canvas Laid over the picture; its pixels are set here.
 * @param {ArrayLike<number>} values height·width, row by row.
 * @param {number} strength 0 (nothing) to 1 (the map alone).
 * @param {number} [most] The value that is brightest; the largest if not given.
 */
export function paint(canvas, values, height, width, strength, most = Math.max(...values)) {
  const small = new OffscreenCanvas(width, height);
  const pixels = new ImageData(width, height);
  for (let i = 0; i < values.length; i++) {
    const value = most > 0 ? values[i] / most : 0;
    const [r, g, b] = ramp(value);
    pixels.data.set([r, g, b, 255 * Math.min(1, strength * (0.55 + 0.6 * value))], 4 * i);
  }
  small.getContext("2d").putImageData(pixels, 0, 0);
  const context = fitted(canvas);
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, width, height, 0, 0, canvas.width, canvas.height);
}

/** A cleared context of a canvas with one pixel per pixel of the screen. */
export function fitted(canvas) {
  const area = canvas.getBoundingClientRect();
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(area.width * scale));
  canvas.height = Math.max(1, Math.round(area.height * scale));
  return canvas.getContext("2d");
}

/**
 * The second picture laid over the first: each place of A is put together from the places of B it looks at
 * (Eq. 5 of KPM, on pixels instead of features).
 * @param {HTMLImageElement} picture B.
 */
export function rebuild(canvas, scale, picture) {
  const cell = Math.max(6, Math.round(384 / scale.height));
  const [wide, high] = [scale.width * cell, scale.height * cell];
  const source = new OffscreenCanvas(wide, high);
  const reading = source.getContext("2d", { willReadFrequently: true });
  reading.drawImage(picture, 0, 0, wide, high);
  const from = reading.getImageData(0, 0, wide, high).data;
  const target = new ImageData(wide, high);
  const sum = new Float32Array(cell * cell * 3);
  for (let i = 0; i < scale.places; i++) {
    sum.fill(0);
    let all = 0;
    for (let j = 0; j < scale.places; j++) {
      const share = scale.rows[i * scale.places + j];
      if (share < 13) continue; // less than a twentieth of the strongest cannot be seen, and costs time
      all += share;
      const [top, left] = [Math.floor(j / scale.width) * cell, (j % scale.width) * cell];
      for (let y = 0, k = 0; y < cell; y++) {
        for (let x = 0, p = 4 * ((top + y) * wide + left); x < cell; x++, p += 4) {
          sum[k++] += share * from[p];
          sum[k++] += share * from[p + 1];
          sum[k++] += share * from[p + 2];
        }
      }
    }
    const [top, left] = [Math.floor(i / scale.width) * cell, (i % scale.width) * cell];
    for (let y = 0, k = 0; y < cell; y++) {
      for (let x = 0, p = 4 * ((top + y) * wide + left); x < cell; x++, p += 4) {
        for (let c = 0; c < 3; c++) target.data[p + c] = sum[k++] / all;
        target.data[p + 3] = 255;
      }
    }
  }
  const whole = new OffscreenCanvas(wide, high);
  whole.getContext("2d").putImageData(target, 0, 0);
  const context = fitted(canvas);
  context.drawImage(whole, 0, 0, canvas.width, canvas.height);
}
