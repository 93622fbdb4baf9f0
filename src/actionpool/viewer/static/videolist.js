// The list of videos: thousands of rows of which only those in sight are elements.

import { element, percent, plural } from "./format.js";

const HEIGHT = 54; // of a row, as in style.css
const MARGIN = 6; // rows drawn beyond either end of what is in sight

const BY_NAME = new Intl.Collator("en", { numeric: true });
const ORDERS = {
  name: () => 0,
  "score-down": (a, b) => (b.score ?? -1) - (a.score ?? -1),
  "score-up": (a, b) => (a.score ?? 2) - (b.score ?? 2),
  disagreement: (a, b) => (b.disagreement ?? -1) - (a.disagreement ?? -1),
  detections: (a, b) => b.num_detections - a.num_detections,
  problem: (a, b) => Number(Boolean(b.problem)) - Number(Boolean(a.problem)),
};

export class VideoList {
  /** @param choose called with the row that becomes the current one */
  constructor({ list, search, sort, count }, choose) {
    Object.assign(this, { list, search, sort, count, choose });
    this.all = [];
    this.shown = [];
    this.missing = 0;
    this.current = null;
    this.rail = element("div", { role: "presentation" });
    list.append(this.rail);
    list.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(list);
    list.addEventListener("click", (event) => {
      const item = event.target.closest("[role=option]");
      if (item) this.select(this.shown[Number(item.dataset.index)]);
    });
    list.addEventListener("keydown", (event) => this.key(event));
    search.addEventListener("input", () => this.update());
    sort.addEventListener("change", () => {
      this.update();
      this.reveal();
    });
  }

  /** Take in rows that are not there yet. */
  add(rows, missing) {
    this.missing = missing;
    const known = new Set(this.all.map(({ id }) => id));
    this.all.push(...rows.filter(({ id }) => !known.has(id)));
    this.update();
  }

  remove(id) {
    this.all = this.all.filter((row) => row.id !== id);
    this.update();
  }

  update() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.shown = this.all.filter((row) => {
      const text = `${row.name} ${row.label} ${row.group}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    const order = ORDERS[this.sort.value];
    this.shown.sort((a, b) => order(a, b) || BY_NAME.compare(a.group, b.group) || BY_NAME.compare(a.name, b.name));
    const reading = this.missing > 0 ? `, reading ${this.missing.toLocaleString("en")} more…` : "";
    const some = this.shown.length < this.all.length ? `${this.shown.length.toLocaleString("en")} of ` : "";
    this.count.textContent = some + plural(this.all.length, "video") + reading;
    this.draw();
  }

  /** Make a row the current one. */
  select(row) {
    if (!row) return;
    this.current = row;
    this.reveal();
    this.draw();
    this.choose(row);
  }

  /** The one that many rows after (before, where negative) the current one, as the list is sorted now. */
  step(by) {
    const index = this.shown.indexOf(this.current);
    this.select(this.shown[index < 0 ? 0 : Math.min(Math.max(index + by, 0), this.shown.length - 1)]);
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.list.clientHeight / HEIGHT) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.step(steps[event.key]);
  }

  reveal() {
    const index = this.shown.indexOf(this.current);
    if (index < 0) return;
    const top = index * HEIGHT;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    const beneath = top + HEIGHT - this.list.clientHeight;
    if (beneath > this.list.scrollTop) this.list.scrollTop = beneath;
  }

  draw() {
    this.rail.style.height = `${this.shown.length * HEIGHT}px`;
    const first = Math.max(0, Math.floor(this.list.scrollTop / HEIGHT) - MARGIN);
    const last = Math.min(this.shown.length, Math.ceil((this.list.scrollTop + this.list.clientHeight) / HEIGHT) + MARGIN);
    const items = [];
    for (let index = first; index < last; index++) items.push(this.item(index));
    // The current option must exist for screen readers, also when it is scrolled out of sight.
    const index = this.shown.indexOf(this.current);
    if (index >= 0 && (index < first || index >= last)) items.push(this.item(index));
    this.rail.replaceChildren(...items);
    if (index >= 0) this.list.setAttribute("aria-activedescendant", `video-${this.current.id}`);
    else this.list.removeAttribute("aria-activedescendant");
  }

  item(index) {
    const row = this.shown[index];
    const under = element("div", { class: "under" });
    if (row.problem) {
      under.append(element("span", { class: "clip bad" }, `⚠ ${row.problem}`));
    } else {
      under.append(element("span", { class: "clip" }, `${row.label} · ${percent(row.score)}`));
      if (row.disagreement !== null) {
        const text = `${percent(row.disagreement)} disagreement with the truth`;
        under.append(element("span", { class: "pill", title: text }, `≠ ${percent(row.disagreement)}`));
      }
      if (row.num_detections) {
        const text = plural(row.num_detections, "detection");
        under.append(element("span", { class: "pill", title: text }, `${row.num_detections} ▬`));
      }
    }
    if (row.group) under.append(element("span", { class: "pill clip", title: `scored by the evaluation ${row.group}` }, row.group));
    const item = element(
      "div",
      {
        class: "item", role: "option", id: `video-${row.id}`, title: row.problem ? `${row.name}: ${row.problem}` : row.name, "data-index": String(index),
        "aria-selected": String(row === this.current), "aria-posinset": String(index + 1),
        "aria-setsize": String(this.shown.length),
      },
      element("div", { class: "title clip" }, (row.is_upload ? "↑ " : "") + row.name),
      under,
    );
    item.style.top = `${index * HEIGHT}px`;
    return item;
  }
}
