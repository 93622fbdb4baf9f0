// The intervals of a video: as predicted, computed again with other settings, or edited by hand.

import { localize } from "./localize.js";

export class Search {
  /** @param {object} facts of the video @param {?object} curves null: nothing can be computed */
  constructor(facts, curves) {
    this.facts = facts;
    this.curves = facts.curves_problem ? null : curves;
    this.settings = { ...facts.settings };
    this.reset();
  }

  /** What the prediction says. */
  reset() {
    this.state = "predicted";
    this.settings = { ...this.facts.settings };
    this.intervals = this.facts.detections.map(({ label, score, start_seconds: start, end_seconds: end }) => (
      { label, score, start, end }
    ));
  }

  /** Other settings: compute anew. */
  set(settings) {
    if (!this.curves) return;
    Object.assign(this.settings, settings);
    this.state = "computed";
    this.intervals = localize(this.curves, this.facts.probabilities, this.facts.classes, this.settings);
  }

  change(interval, values) {
    Object.assign(interval, values);
    this.state = "edited";
  }

  remove(interval) {
    this.intervals = this.intervals.filter((one) => one !== interval);
    this.state = "edited";
  }

  add(interval) {
    this.intervals = [...this.intervals, interval];
    this.state = "edited";
  }
}

