// The panel beside the video: the classes to show, the settings of the search for intervals, and the intervals.

import { element, percent, plural } from "./format.js";

const LIKELY = 6; // classes shown besides those of truth and detections

/** Which classes have a row: those of truth and intervals, a few probable ones, and those that the user chooses. */
export class ClassFilter {
  constructor({ list, search, all, likely, none }, onChange) {
    Object.assign(this, { list, search, onChange });
    this.rows = [];
    search.addEventListener("input", () => this.draw());
    all.addEventListener("click", () => this.choose(() => true));
    none.addEventListener("click", () => this.choose(() => false));
    likely.addEventListener("click", () => this.choose(null));
    list.addEventListener("change", (event) => {
      this.chosen.set(event.target.dataset.label, event.target.checked);
      this.onChange();
    });
  }

  show({ classes, probabilities, truth, detections }) {
    const named = classes.map((label, index) => ({ label, index, probability: probabilities[index] }));
    const known = new Set(classes);
    for (const { label } of [...truth, ...detections]) {
      if (!known.has(label)) named.push({ label, index: null, probability: -1 });
      known.add(label);
    }
    this.rows = named.sort((a, b) => b.probability - a.probability);
    this.truth = new Set(truth.map(({ label }) => label));
    this.chosen = new Map();
    this.found = new Map();
    this.search.value = "";
    this.list.scrollTop = 0;
  }

  /** @param intervals the current ones */
  update(intervals) {
    this.found = new Map();
    for (const { label } of intervals) this.found.set(label, (this.found.get(label) ?? 0) + 1);
    this.draw();
  }

  choose(answer) {
    this.chosen = new Map(answer ? this.rows.map(({ label }) => [label, answer()]) : []);
    this.onChange();
  }

  isShown({ label }, place) {
    return this.chosen.get(label) ?? (this.truth.has(label) || this.found.has(label) || place < LIKELY);
  }

  /** Rows of the timeline, most probable first. */
  get shown() {
    return this.rows.filter((row, place) => this.isShown(row, place));
  }

  draw() {
    const wanted = this.search.value.trim().toLowerCase();
    const focused = document.activeElement?.dataset?.label;
    const items = [];
    this.rows.forEach((row, place) => {
      if (!row.label.toLowerCase().includes(wanted)) return;
      const box = element("input", { type: "checkbox", "data-label": row.label, checked: this.isShown(row, place) });
      const count = this.found.get(row.label);
      const bar = element("span", { class: "bar-of" });
      bar.style.width = `${100 * Math.max(row.probability, 0)}%`;
      items.push(element("li", {}, element(
        "label", {}, box,
        element("span", { class: "clip", title: row.label }, row.label + (count ? ` (${count})` : "")),
        element("span", { class: "value" }, row.index === null ? "–" : percent(row.probability)), bar,
      )));
      if (row.label === focused) queueMicrotask(() => box.focus());
    });
    this.list.replaceChildren(...items);
  }
}

/** The settings by which intervals are found, as sliders. */
export class SearchSettings {
  constructor(parts, onChange) {
    Object.assign(this, parts);
    for (const [name, slider] of Object.entries(this.sliders)) {
      slider.addEventListener("input", () => {
        const value = Number(slider.value);
        onChange({ [name]: name === "thresholds" ? [value] : value });
      });
    }
  }

  show(search) {
    const { facts, settings, state, curves } = search;
    const { thresholds, min_length_seconds: length, min_score: score, class_threshold: probability } = settings;
    this.sliders.min_length_seconds.max = String(Math.max(Math.min(facts.duration_seconds, 60), length, 0.1));
    this.sliders.min_score.max = String(Math.max(1 + settings.video_score_weight, score));
    const several = thresholds.length > 1;
    const middle = thresholds[Math.floor(thresholds.length / 2)];
    const values = { thresholds: middle, min_length_seconds: length, min_score: score, class_threshold: probability };
    for (const [name, value] of Object.entries(values)) {
      const slider = this.sliders[name];
      if (Number(slider.value) !== value) slider.value = String(value);
    }
    const range = several ? `${Math.min(...thresholds)} – ${Math.max(...thresholds)}, ${thresholds.length} thresholds` : middle.toFixed(2);
    const texts = {
      thresholds: range, min_length_seconds: `${length.toFixed(2)} s`, min_score: score.toFixed(2), class_threshold: percent(probability),
    };
    for (const [name, text] of Object.entries(texts)) {
      this.outputs[name].textContent = text;
      this.sliders[name].setAttribute("aria-valuetext", text);
    }
    this.fields.disabled = !curves || state === "edited";
    this.reset.disabled = state === "predicted";
    this.note.textContent = search.problem || this.sentence(search);
    this.note.classList.toggle("problem", Boolean(search.problem));
  }

  sentence({ facts, curves, state }) {
    if (state === "edited") return "Edited by hand. Go back to the prediction to use the sliders again.";
    if (!curves) return facts.curves_problem || "Intervals cannot be found again: there are no curves.";
    if (state === "found") return "Found again with these settings.";
    return facts.is_localized
      ? "As predicted. Move a slider to find intervals again."
      : "This prediction was made without intervals. Move a slider to find some.";
  }
}

/** The intervals as a table, one per row. */
export class IntervalTable {
  /** @param act {select(interval), change(interval, values), remove(interval)} */
  constructor({ body, count }, act) {
    Object.assign(this, { body, count, act });
  }

  draw(intervals, selected, labels) {
    this.count.textContent = plural(intervals.length, "interval");
    if (!intervals.length) {
      const cell = element("td", { class: "empty", colSpan: 5 }, "None. Lower a threshold, show more classes, or add one.");
      this.body.replaceChildren(element("tr", {}, cell));
      return;
    }
    const focused = document.activeElement?.closest?.("#intervals [data-key]")?.dataset.key;
    const rows = intervals.map((one, place) => this.row(one, place, one === selected, labels));
    this.body.replaceChildren(...rows);
    if (focused) this.body.querySelector(`[data-key="${focused}"]`)?.focus();
    if (selected) this.body.querySelector("tr.selected")?.scrollIntoView({ block: "nearest" });
  }

  row(one, place, isSelected, labels) {
    const name = `interval ${place + 1}, ${one.label}`;
    const go = element(
      "button",
      { type: "button", class: "clip", title: one.label, "aria-pressed": String(isSelected), "data-key": `go-${place}`,
        "aria-label": `Go to ${name}` },
      one.label,
    );
    go.addEventListener("click", () => this.act.select(one));
    const cells = [element("td", {}, isSelected && one.isNew ? this.classBox(one, place, name, labels) : go)];
    for (const end of ["start", "end"]) {
      const box = element("input", {
        type: "number", step: "0.01", min: "0", value: one[end].toFixed(2), "aria-label": `${end} of ${name}, seconds`,
        "data-key": `${end}-${place}`,
      });
      box.addEventListener("change", () => {
        const seconds = Number(box.value);
        if (box.value === "" || !Number.isFinite(seconds)) box.value = one[end].toFixed(2);
        else this.act.change(one, { [end]: seconds });
      });
      cells.push(element("td", {}, box));
    }
    cells.push(element("td", {}, one.score.toFixed(2)));
    const remove = element(
      "button", { type: "button", "aria-label": `Delete ${name}`, title: "Delete", "data-key": `remove-${place}` }, "✕",
    );
    remove.addEventListener("click", () => this.act.remove(one));
    cells.push(element("td", {}, remove));
    return element("tr", isSelected ? { class: "selected" } : {}, ...cells);
  }

  /** A new interval's class can be chosen. */
  classBox(one, place, name, labels) {
    const box = element("select", { "aria-label": `class of ${name}`, "data-key": `class-${place}` });
    for (const label of labels) box.append(element("option", { selected: label === one.label }, label));
    box.addEventListener("change", () => this.act.change(one, { label: box.value }));
    return box;
  }
}
