// What the views share: what the server can do, the last search, and the marks given to its hits.

import { api } from "./api.js";
import { toast } from "./dom.js";

export const state = {
  /** `Info` of the server. */
  info: null,
  /** The last `SearchAnswer`; null before the first. */
  answer: null,
  /** Where pictures that are not in the gallery can be seen, by id: `data:` addresses of searched uploads. */
  shown: new Map(),
  /** The photos that were uploaded for the last search, by the id that the server gave them. */
  uploads: new Map(),
  /** `Item`s of all answers so far, by id. */
  known: new Map(),
  /** The view that is open decides what a pasted picture is for. */
  paste: null,
};

/** What scores pairs, in words: who says so, by what, and how it looks. */
export const judge = () =>
  state.info?.matcher === "places"
    ? { who: "model", what: "places", how: "place by place" }
    : { who: "matcher", what: "matcher", how: "by the matcher" };

/** Whether a picture is of a tracklet, so that its moment can be looked for in a video. */
export const inVideo = (item) => typeof item.attributes?.track === "string";

/** Views listen for `mark`: detail is the hit whose mark has changed. */
export const events = new EventTarget();

/** Keep items, so that another view need not request them. */
export function remembered(items) {
  for (const item of items) state.known.set(item.id, item);
}

/** Address of a picture of the gallery, or of an upload that was searched for. */
export const pictureOf = (id, size = "full") => state.shown.get(id) ?? `/api/pictures/${id}?size=${size}`;

/**
 * Mark a hit for the query of the last search. The same mark again removes it.
 * Several query pictures show one person, so each of them gets the mark.
 */
export async function mark(hit, same) {
  const before = hit.same;
  const wanted = before === same ? null : same;
  const tell = () => events.dispatchEvent(new CustomEvent("mark", { detail: hit }));
  hit.same = wanted;
  tell();
  try {
    for (const query of state.answer.query) await api.feedback(query.id, hit.id, wanted);
    toast(
      wanted === null
        ? `Mark of rank ${hit.rank} taken back`
        : `Rank ${hit.rank} marked: ${wanted ? "same person" : "not the same"}`,
    );
  } catch (error) {
    hit.same = before;
    tell();
    toast(`The mark was not stored. ${error.message}`, "error");
  }
}
