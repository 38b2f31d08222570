// Reports that evaluations wrote: a list, and one of them opened in the page.

import { api } from "./api.js";
import { h, icon, moment, notice } from "./dom.js";
import { state } from "./state.js";

export class EvaluateView {
  constructor(root) {
    this.title = h("h1", { id: "title-evaluate", tabindex: "-1" }, "Evaluate");
    this.list = h("ul.reports", { "aria-label": "Reports" });
    this.pane = h("div.report");
    root.append(
      h(
        "div.rail",
        {},
        this.title,
        h("p.hint", {}, "Pages written by kronreid evaluate and kronreid demo. They cannot run scripts."),
        this.list,
      ),
      this.pane,
    );
  }

  async show(parameters) {
    state.paste = null;
    const wanted = parameters.get("report");
    try {
      const { reports } = await api.reports();
      this.list.replaceChildren(
        ...reports.map(({ name, title, modified }) =>
          h(
            "li",
            {},
            h(
              "a",
              {
                href: `#/evaluate?${new URLSearchParams({ report: name })}`,
                "aria-current": name === wanted ? "page" : null,
              },
              h("b", {}, title),
              h("small", {}, `${name}, ${moment(modified)}`),
            ),
          ),
        ),
      );
      const report = reports.find(({ name }) => name === wanted);
      if (report) this.open(report);
      else if (wanted) this.pane.replaceChildren(notice("That report is no longer there. Choose another."));
      else if (reports.length)
        this.pane.replaceChildren(
          h(
            "div.empty-state",
            {},
            icon("evaluate"),
            h("h2", {}, "Choose a report"),
            h("p", {}, "It opens here."),
          ),
        );
      else
        this.pane.replaceChildren(
          h(
            "div.empty-state",
            {},
            icon("evaluate"),
            h("h2", {}, "There are no reports"),
            h(
              "p",
              {},
              "Write one with kronreid evaluate MODEL --data ROOT --html FILE, and start the server with --reports and the folder that holds it.",
            ),
          ),
        );
    } catch (error) {
      this.pane.replaceChildren(notice(error.message, { again: () => this.show(parameters) }));
    }
  }

  open({ title, url }) {
    if (this.pane.querySelector("iframe")?.getAttribute("src") === url) return;
    this.pane.replaceChildren(
      h(
        "div.report-head",
        {},
        h("h2", {}, title),
        h(
          "a.button.quiet",
          { href: url, target: "_blank", rel: "noopener" },
          icon("open"),
          h("span", {}, "Open on its own"),
        ),
      ),
      h("iframe", { src: url, title, sandbox: "" }),
    );
  }
}
