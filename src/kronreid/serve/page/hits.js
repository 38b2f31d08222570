// The ranked grid: pictures with both scores, marks, keys; grouped if wanted; and the profile of the scores.

import {
  button,
  capital,
  cosine,
  count,
  describe,
  h,
  icon,
  percent,
  plural,
  s,
  segmented,
  shortMoment,
  who,
} from "./dom.js";
import { Roving, sizeControl } from "./grid.js";
import { openMoment } from "./moment.js";
import { events, inVideo, judge, mark, remembered } from "./state.js";

export const compareAddress = (query, hit) => `#/compare?a=${query.id}&b=${hit.id}`;

export class HitList {
  constructor() {
    this.by = "";
    this.element = h("div.hit-groups");
    this.profile = h("figure.profile");
    this.grouping = segmented({
      legend: "Group by",
      options: [
        ["", "Rank"],
        ["identity", "Identity"],
        ["camera", "Camera"],
      ],
      value: "",
      change: (by) => {
        this.by = by;
        this.draw();
      },
    });
    this.controls = h("div.results-tools", {}, this.grouping, sizeControl(this.element));
    this.cards = new Map();
    this.roving = new Roving(this.element, ".hit", ".shot");
    events.addEventListener("mark", ({ detail }) => {
      const card = this.cards.get(detail.id);
      if (card) this.showMark(card, detail);
      this.drawMarks();
    });
  }

  /** Show the hits of an answer. */
  fill(answer) {
    this.answer = answer;
    this.scored = answer.hits.some(({ probability }) => probability !== null);
    remembered(answer.hits);
    this.cards.clear();
    for (const hit of answer.hits) this.cards.set(hit.id, this.card(hit));
    this.draw();
    this.drawProfile();
  }

  draw() {
    const { hits } = this.answer;
    const { limit } = this.answer;
    const nobody =
      limit && !hits.some((hit) => this.counts(hit))
        ? h("p.limit.nobody", {}, h("b", {}, `Nobody here at ${limit.sentence}`), needed(limit))
        : "";
    const list = (label, members) =>
      h("ol.hits", { "aria-label": label }, ...members.map((hit) => this.cards.get(hit.id)));
    if (!this.by && limit && !nobody) {
      const below = hits.filter((hit) => !this.counts(hit));
      this.element.replaceChildren(
        list("Hits above the line, best first", hits.filter((hit) => this.counts(hit))),
        h("p.limit", {}, h("b", {}, capital(limit.sentence)), needed(limit)),
        below.length ? list("Hits below the line, best first", below) : "",
      );
    } else if (!this.by) {
      this.element.replaceChildren(nobody, list("Hits, best first", hits));
    } else {
      const groups = new Map();
      for (const hit of hits) {
        const key = hit[this.by] ?? "";
        if (!groups.has(key)) groups.set(key, []);
        groups.get(key).push(hit);
      }
      // Hits whose value is unknown form no group; they come last.
      const order = [...groups].sort(([a, x], [b, y]) => (a === "") - (b === "") || x[0].rank - y[0].rank);
      this.element.replaceChildren(
        nobody,
        ...order.map(([key, members]) => {
          const best = members[0];
          const above = members.filter((hit) => this.counts(hit)).length;
          const title = key
            ? `${this.by === "identity" ? "Identity" : "Camera"} ${key}`
            : `No ${this.by} known`;
          return h(
            "section.hit-group",
            { "aria-label": title },
            h(
              "h3",
              {},
              title,
              h(
                "small",
                {},
                `${plural(members.length, "hit")}, ${limit ? `${above || "none"} above the line, ` : ""}best at rank ${best.rank}${best.probability !== null ? ` with ${percent(best.probability)}` : ""}`,
              ),
            ),
            list(title, members),
          );
        }),
      );
    }
    this.roving.reset();
  }

  /** Whether a hit counts by the calibration; always without one. */
  counts(hit) {
    return !this.answer.limit || hit.similarity >= this.answer.limit.similarity;
  }

  /** One hit in words, for screen readers. */
  words(hit) {
    const scores = [
      hit.probability !== null && `${judge().what} ${percent(hit.probability)}`,
      `similarity ${cosine(hit.similarity)}`,
    ]
      .filter(Boolean)
      .join(", ");
    const marked =
      hit.same === true
        ? ", marked as the same person"
        : hit.same === false
          ? ", marked as not the same"
          : "";
    const limited = this.counts(hit) ? "" : ", below the line";
    return `Rank ${hit.rank}, ${scores}${limited}, ${describe(hit)}${marked}`;
  }

  card(hit) {
    const { width, height } = hit;
    const query = this.answer.query[0];
    const picture = width
      ? h("img", {
          src: `${hit.picture}?size=thumb`,
          alt: "",
          width,
          height,
          loading: "lazy",
          decoding: "async",
        })
      : h("span.gone", {}, "picture not found");
    const same = button({
      label: "Same person",
      glyph: "check",
      kind: "mark same",
      "aria-pressed": "false",
      tabindex: "-1",
      press: () => mark(hit, true),
    });
    const not = button({
      label: "Not the same person",
      glyph: "cross",
      kind: "mark not",
      "aria-pressed": "false",
      tabindex: "-1",
      press: () => mark(hit, false),
    });
    const card = h(
      "li.hit",
      { data: { id: hit.id, rank: hit.rank } },
      h("a.shot.frame", { href: compareAddress(query, hit), tabindex: "-1" }, picture),
      h(
        "div.scores",
        {},
        h("span.rank", {}, count(hit.rank)),
        this.score(hit),
        meter("probability", hit.probability),
        meter("similarity", hit.similarity),
      ),
      h(
        "p.where",
        {},
        hit.person &&
          h("a", { href: `#/people?person=${hit.person.number}`, tabindex: "-1" }, who(hit.person)),
        hit.camera ? h("span", {}, `cam ${hit.camera}`) : "",
        hit.time && h("time", { datetime: hit.time }, shortMoment(hit.time)),
        !hit.person && !hit.camera && !hit.time && (hit.identity || hit.name),
      ),
      h(
        "div.hit-tools",
        {},
        same,
        not,
        h(
          "a.button.quiet.square",
          {
            href: `#/search?item=${hit.id}`,
            "aria-label": "Search with this one",
            title: "Search with this one",
            tabindex: "-1",
          },
          icon("again"),
        ),
        inVideo(hit) &&
          button({
            label: "See the moment in its video",
            glyph: "cameras",
            kind: "quiet square",
            tabindex: "-1",
            press: () => openMoment(hit.id),
          }),
      ),
    );
    this.showMark(card, hit);
    return card;
  }

  score(hit) {
    if (hit.probability === null) return h("span.score", {}, cosine(hit.similarity));
    return h("span.score", {}, percent(hit.probability), h("small", {}, cosine(hit.similarity)));
  }

  showMark(card, hit) {
    card.dataset.mark = hit.same === true ? "same" : hit.same === false ? "not" : "";
    card.querySelector(".mark.same").setAttribute("aria-pressed", hit.same === true);
    card.querySelector(".mark.not").setAttribute("aria-pressed", hit.same === false);
    card.querySelector(".shot").setAttribute("aria-label", `${this.words(hit)}. Compare`);
  }

  /** The hit that has the focus, if any. */
  focused() {
    const card = document.activeElement?.closest?.(".hit");
    return card && this.answer?.hits.find(({ id }) => id === card.dataset.id);
  }

  focus(hit) {
    const card = this.cards.get(hit.id);
    card.scrollIntoView({ block: "center" });
    card.querySelector(".shot").focus({ preventScroll: true });
  }

  // ── the profile ────────────────────────────────────────────────────────────────────────────────────────

  /** Both scores over the ranks show where they drop. A press goes to that hit. */
  drawProfile() {
    const { hits, limit } = this.answer;
    const looked = hits.filter(({ probability }) => probability !== null).length;
    const chart = s("svg", {
      viewBox: `0 0 ${hits.length} 100`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    const steps =
      hits
        .map(
          ({ similarity }, i) => `${i ? "H" : "M"}${i}${i ? "V" : " "}${100 - 100 * Math.max(0, similarity)}`,
        )
        .join("") + `H${hits.length}`;
    chart.append(
      s("path", {
        class: "looks",
        d: hits
          .map(({ probability }, i) =>
            probability === null ? "" : `M${i} 100V${100 - 100 * probability}h1V100z`,
          )
          .join(""),
      }),
      s("path", { class: "cosines", d: steps, "vector-effect": "non-scaling-stroke" }),
      limit
        ? s("path", {
            class: "threshold",
            d: `M0 ${100 - 100 * Math.max(0, Math.min(1, limit.similarity))}H${hits.length}`,
            "vector-effect": "non-scaling-stroke",
          })
        : "",
      s("line", { class: "here", x1: 0, x2: 0, y1: 0, y2: 100, "vector-effect": "non-scaling-stroke" }),
      (this.marks = s("g", { class: "marks" })),
    );
    const caption = h("output.profile-caption");
    const plain = `${this.scored ? `${count(looked)} of ${count(hits.length)} compared ${judge().how}` : "Ordered by similarity"}`;
    caption.textContent = plain;
    const rankAt = (event) => {
      const area = chart.getBoundingClientRect();
      return Math.max(
        0,
        Math.min(hits.length - 1, Math.floor(((event.clientX - area.left) / area.width) * hits.length)),
      );
    };
    const line = chart.querySelector(".here");
    const press = h("div.profile-chart", {}, chart);
    press.addEventListener("pointermove", (event) => {
      const place = rankAt(event);
      for (const end of ["x1", "x2"]) line.setAttribute(end, place + 0.5);
      press.classList.add("live");
      const hit = hits[place];
      caption.textContent = `Rank ${hit.rank}: ${hit.probability !== null ? `${percent(hit.probability)}, ` : ""}${cosine(hit.similarity)}`;
    });
    press.addEventListener("pointerleave", () => {
      press.classList.remove("live");
      caption.textContent = plain;
    });
    press.addEventListener("click", (event) => this.focus(hits[rankAt(event)]));
    this.profile.replaceChildren(
      h(
        "figcaption",
        {},
        this.scored &&
          h(
            "span.key.probability",
            {},
            h("i"),
            h("span", {}, judge().what, h("span.long", {}, ": probability of the same person")),
          ),
        h(
          "span.key.similarity",
          {},
          h("i"),
          h("span", {}, "similarity", h("span.long", {}, ": cosine of the vectors")),
        ),
        limit &&
          h(
            "span.key.threshold",
            {},
            h("i"),
            h("span", {}, "line", h("span.long", {}, `: ${limit.sentence}`)),
          ),
        caption,
      ),
      press,
    );
    this.drawMarks();
  }

  drawMarks() {
    if (!this.answer || !this.marks) return;
    this.marks.replaceChildren(
      ...this.answer.hits.flatMap((hit, i) =>
        hit.same === null
          ? []
          : [
              s("rect", {
                class: hit.same ? "same" : "not",
                x: i,
                y: hit.same ? 0 : 92,
                width: 1,
                height: 8,
              }),
            ],
      ),
    );
  }
}

/** What a hit above the line needs. */
const needed = (limit) => h("span", {}, `similarity of at least ${limit.similarity.toFixed(4)}`);

function meter(kind, value) {
  const bar = h(`span.meter.${kind}`, { "aria-hidden": "true" });
  if (value === null) bar.classList.add("none");
  else {
    const filled = h("i");
    filled.style.width = `${100 * Math.max(0, Math.min(1, value))}%`;
    bar.append(filled);
  }
  return bar;
}
