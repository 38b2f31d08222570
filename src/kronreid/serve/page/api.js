// The only place that talks to the server. Every failure becomes an `ApiError` with a sentence for the user.

import { button, dialog, h, toast } from "./dom.js";

export class ApiError extends Error {
  /**
   * @param {string} message One sentence.
   * @param {number} status HTTP status; 0 where there was no answer.
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

const PLAIN = {
  401: "This needs the server's token: sign in first.",
  403: "This server does not allow that.",
  404: "There is no such thing on the server; it may have been deleted.",
  409: "The file behind this picture has changed, or somebody has made another change since.",
  413: "That is too large for this server: send fewer or smaller pictures.",
  429: "The server is busy.",
  504: "The server took too long; try again, or compare fewer hits.",
};

/** A message of the server with a capital letter, unless it begins with a file's name. */
function sentence(text) {
  const name = /^\S*[./_]\S*:/.test(text);
  return (name ? text : text[0].toUpperCase() + text.slice(1)) + (/[.!?]$/.test(text) ? "" : ".");
}

async function problem(response) {
  let message = "";
  try {
    message = (await response.json()).message;
  } catch {
    // Not JSON, perhaps a proxy's page: the words below are used.
  }
  message ||= PLAIN[response.status] || `The server could not do that (it answered ${response.status}).`;
  return new ApiError(sentence(message), response.status);
}

/** Fetch. On a 401, ask for the token and try once more. */
async function request(path, options = {}, mayAsk = true) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer. Is it still running? What you entered is kept.", 0);
  }
  if (response.status === 401 && mayAsk && (await signIn())) return request(path, options, false);
  if (!response.ok) throw await problem(response);
  return response;
}

const asJson = async (response) => response.json();
const address = (path, parameters) => {
  const query = parameters?.toString();
  return query ? `${path}?${query}` : path;
};

const post = (path, body) =>
  request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

export const api = {
  info: () => request("/api/info").then(asJson),
  search: (form, signal) => request("/api/search", { method: "POST", body: form, signal }).then(asJson),
  explain: (form, signal) => request("/api/explain", { method: "POST", body: form, signal }).then(asJson),
  gallery: (parameters) => request(address("/api/gallery", parameters)).then(asJson),
  stats: (parameters) => request(address("/api/gallery/stats", parameters)).then(asJson),
  add: (form) => request("/api/gallery", { method: "POST", body: form }).then(asJson),
  remove: (id) => request(`/api/gallery/${id}`, { method: "DELETE" }),
  signOut: () => request("/api/logout", { method: "POST" }),
  reports: () => request("/api/reports").then(asJson),
  feedback: (query, item, same) => post("/api/feedback", { query, item, same }),
  people: (parameters) => request(address("/api/people", parameters)).then(asJson),
  person: (number) => request(`/api/people/${number}`).then(asJson),
  mergePeople: (into, others) => post("/api/people/merge", { into, others }).then(asJson),
  splitPerson: (tracklets, to) => post("/api/people/split", { tracklets, to }).then(asJson),
  namePerson: (number, name) => post(`/api/people/${number}/name`, { name }).then(asJson),
  cameras: () => request("/api/cameras").then(asJson),
  moment: (id) => request(`/api/moments/${id}`).then(asJson),
  undo: (change) => post("/api/people/undo", { change }).then(asJson),
};

// ── the token ────────────────────────────────────────────────────────────────────────────────────────────

let asking = null;

/** Ask for the token until it is right or the dialog is closed; all waiting requests share one dialog. */
export function signIn() {
  asking ??= ask().finally(() => (asking = null));
  return asking;
}

function ask() {
  return new Promise((resolve) => {
    let signedIn = false;
    const input = h("input", {
      type: "password",
      id: "token",
      name: "token",
      autocomplete: "current-password",
      required: true,
      "aria-describedby": "token-hint",
    });
    const wrong = h("p.field-error", { role: "alert" });
    const form = h(
      "form.stack",
      {},
      h("label", { for: "token" }, "Token"),
      input,
      h(
        "p.hint",
        { id: "token-hint" },
        "The server printed it when it was started, or whoever started it chose it.",
      ),
      wrong,
      h("div.dialog-actions", {}, button({ text: "Sign in", kind: "primary", type: "submit" })),
    );
    const { close } = dialog({ title: "Sign in", body: form, onclose: () => resolve(signedIn) });
    input.focus();
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      wrong.textContent = "";
      try {
        await request(
          "/api/login",
          {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            body: JSON.stringify({ token: input.value.trim() }),
          },
          false,
        );
        signedIn = true;
        close();
        toast("Signed in");
        window.dispatchEvent(new Event("kronreid:signed-in"));
      } catch (error) {
        wrong.textContent = error.status === 401 ? "That is not the token of this server." : error.message;
        input.select();
      }
    });
  });
}
