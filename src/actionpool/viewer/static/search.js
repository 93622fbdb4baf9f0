// The intervals of a video: as predicted, found again by the server with other settings, or edited by hand.

import * as api from "./api.js";

export class Search {
  /** @param {object} facts of the video @param {?object} curves null: intervals cannot be found again */
  constructor(facts, curves) {
    this.facts = facts;
    this.curves = facts.curves_problem ? null : curves;
    this.isAsking = false;
    this.reset();
  }

  /** Back to the intervals of the prediction. */
  reset() {
    this.state = "predicted";
    this.problem = "";
    this.changes = {};
    this.intervals = this.facts.detections.map(asInterval);
  }

  get settings() {
    return { ...this.facts.settings, ...this.changes };
  }

  /**
   * Find the intervals again with some settings changed; resolves when there is nothing left to ask.
   *
   * There is one request at a time. A slider that moves meanwhile is read when the answer comes, so that the server
   * answers as often as it can and never has a queue.
   */
  async set(changes) {
    if (!this.curves) return;
    Object.assign(this.changes, changes);
    this.state = "found";
    if (this.isAsking) return;
    this.isAsking = true;
    try {
      for (let asked = ""; this.state === "found" && asked !== JSON.stringify(this.changes);) {
        asked = JSON.stringify(this.changes);
        const { detections } = await api.localize(this.facts.id, asked);
        if (this.state === "found") this.intervals = detections.map(asInterval);
      }
      this.problem = "";
    } catch (error) {
      this.problem = error.message;
    } finally {
      this.isAsking = false;
    }
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

function asInterval({ label, score, start_seconds: start, end_seconds: end }) {
  return { label, score, start, end };
}
