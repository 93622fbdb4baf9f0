// The time axis: one row per class (curve, ground truth, detections), relevance, and the current time.

import { clock, percent, spoken } from "./format.js";

const LEFT = 128; // names
const RIGHT = 50; // numbers
const RULER = 22;
const CURVE = 30; // height of a curve
const BAND = 8; // height of a band of truth or detections
const GAP = 8;
const NEAR = 6; // pixels within which the end of an interval is grasped
const LEAST_SECONDS = 0.2; // in sight

export class Timeline {
  /**
   * @param parts {canvas, mark, tooltip}
   * @param act {seek(seconds), select(interval), change(interval, {start, end})}
   */
  constructor({ canvas, mark, tooltip }, act) {
    Object.assign(this, { canvas, mark, tooltip, act });
    this.show({ duration: 0, curves: null, numClasses: 0, truth: [] });
    this.intervals = [];
    this.seconds = 0;
    this.dragging = null;
    this.hovered = null;
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", () => this.up());
    canvas.addEventListener("pointercancel", () => this.up());
    canvas.addEventListener("pointerleave", () => this.hover(null));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  /**
   * Show a video.
   * @param {{duration: number, curves: ?object, numClasses: number, truth: object[]}} video
   */
  show(video) {
    Object.assign(this, video);
    this.largest = 0;
    for (const value of video.curves?.relevance ?? []) if (value > this.largest) this.largest = value;
    this.view = { start: 0, end: Math.max(video.duration, 1e-3) };
    this.canvas.setAttribute("aria-valuemax", video.duration.toFixed(2));
    this.rows = [];
  }

  /** @param rows {label, index (null: no curve), probability}[] @param intervals {label, start, end, score, id}[] */
  update(rows, intervals, selected) {
    Object.assign(this, { rows, intervals, selected });
    this.banded = this.truth.length > 0 || intervals.length > 0;
    this.highest = Math.max(0, ...intervals.map((one) => one.score));
    this.draw();
  }

  /** Move the mark. */
  at(seconds) {
    this.seconds = seconds;
    const { start, end } = this.view;
    if (!this.dragging && (seconds < start || seconds > end)) this.lookAt(seconds);
    this.canvas.setAttribute("aria-valuenow", seconds.toFixed(2));
    this.canvas.setAttribute("aria-valuetext", spoken(seconds));
    this.drawMark();
  }

  /** Show a shorter stretch (factor < 1) or a longer one, around a time. */
  zoom(factor, around = this.seconds) {
    const { start, end } = this.view;
    const length = Math.min(Math.max((end - start) * factor, LEAST_SECONDS), Math.max(this.duration, 1e-3));
    this.lookAt(around, length, (around - start) / (end - start));
  }

  fit() {
    this.lookAt(0, Math.max(this.duration, 1e-3), 0);
  }

  lookAt(seconds, length = this.view.end - this.view.start, share = 0.1) {
    const start = Math.min(Math.max(seconds - Math.min(Math.max(share, 0), 1) * length, 0), Math.max(this.duration - length, 0));
    this.view = { start, end: start + length };
    this.draw();
  }

  rowHeight() {
    return CURVE + (this.banded ? 2 * BAND + 4 : 0) + GAP;
  }

  height() {
    return RULER + this.rows.length * this.rowHeight() + (this.curves ? CURVE + GAP : 0);
  }

  x(seconds) {
    const { start, end } = this.view;
    return LEFT + ((seconds - start) / (end - start)) * (this.width - LEFT - RIGHT);
  }

  time(x) {
    const { start, end } = this.view;
    const share = (x - LEFT) / (this.width - LEFT - RIGHT);
    return Math.min(Math.max(start + share * (end - start), 0), this.duration);
  }

  // Drawing

  draw() {
    this.width = this.canvas.parentElement.clientWidth;
    if (!this.width) return;
    const style = getComputedStyle(document.documentElement);
    this.colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const height = this.height();
    for (const canvas of [this.canvas, this.mark]) {
      const ratio = window.devicePixelRatio || 1;
      canvas.width = Math.round(this.width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.height = `${height}px`;
      canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    const context = this.canvas.getContext("2d");
    this.font = getComputedStyle(document.body).fontFamily;
    this.drawRuler(context, height);
    this.rows.forEach((row, number) => this.drawRow(context, row, RULER + number * this.rowHeight()));
    if (this.curves) this.drawRelevance(context, RULER + this.rows.length * this.rowHeight());
    this.drawMark();
  }

  drawRuler(context, height) {
    context.font = `11px ${this.font}`;
    context.fillStyle = this.colour("quiet");
    context.strokeStyle = this.colour("grid");
    context.textAlign = "center";
    context.textBaseline = "middle";
    const step = this.tickStep();
    for (let tick = Math.ceil(this.view.start / step); tick * step <= this.view.end + 1e-9; tick++) {
      const x = Math.round(this.x(tick * step)) + 0.5;
      context.fillText(clock(tick * step, step < 0.1 ? 2 : step < 1 ? 1 : 0), x, RULER / 2);
      line(context, x, RULER - 3, x, height - GAP);
    }
  }

  tickStep() {
    const room = (this.width - LEFT - RIGHT) / 70;
    const least = (this.view.end - this.view.start) / Math.max(room, 1);
    const steps = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
    return steps.find((step) => step >= least) ?? Math.ceil(least / 3600) * 3600;
  }

  drawRow(context, row, top) {
    this.drawNames(context, row.label, row.index === null ? "" : percent(row.probability), top + CURVE / 2);
    this.drawBase(context, top);
    if (this.curves && row.index !== null) {
      const { scores } = this.curves;
      this.drawCurve(context, top, this.colour("score"), (segment) => scores[segment * this.numClasses + row.index]);
    }
    if (!this.banded) return;
    context.fillStyle = this.colour("truth");
    for (const one of this.truth) if (one.label === row.label) this.drawBand(context, one, top + CURVE + 2);
    const found = this.intervals.filter((one) => one.label === row.label).sort((a, b) => a.score - b.score);
    for (const one of found) {
      context.globalAlpha = this.strength(one);
      context.fillStyle = this.colour("detection");
      this.drawBand(context, one, top + CURVE + 4 + BAND);
      context.globalAlpha = 1;
    }
    const chosen = found.find((one) => one === this.selected);
    if (chosen) {
      context.strokeStyle = this.colour("ink");
      context.lineWidth = 1.5;
      const [left, right] = this.ends(chosen);
      context.strokeRect(left - 0.5, top + CURVE + BAND + 3, right - left + 1, BAND + 2);
      context.fillStyle = this.colour("ink");
      for (const x of [left, right]) context.fillRect(x - 2, top + CURVE + BAND + 2, 4, BAND + 4);
      context.lineWidth = 1;
    }
  }

  strength({ score }) {
    return 0.2 + 0.8 * (this.highest > 0 ? Math.min(Math.max(score / this.highest, 0), 1) : 1);
  }

  drawRelevance(context, top) {
    const { relevance } = this.curves;
    const most = this.largest;
    this.drawNames(context, "relevance", most ? `≤ ${most.toPrecision(2)}` : "", top + CURVE / 2);
    this.drawBase(context, top);
    this.drawCurve(context, top, this.colour("relevance"), (segment) => relevance[segment] / (most || 1));
  }

  drawNames(context, name, value, y) {
    context.font = `12px ${this.font}`;
    context.textBaseline = "middle";
    context.textAlign = "right";
    context.fillStyle = this.colour("ink");
    context.fillText(fitted(context, name, LEFT - 14), LEFT - 8, y);
    context.textAlign = "left";
    context.font = `11px ${this.font}`;
    context.fillStyle = this.colour("quiet");
    context.fillText(value, this.width - RIGHT + 6, y);
  }

  drawBase(context, top) {
    context.strokeStyle = this.colour("line");
    line(context, LEFT, top + CURVE + 0.5, this.width - RIGHT, top + CURVE + 0.5);
  }

  /** Bars that fill each segment's time; neighbours that overlap meet half way. Of many in a pixel, the highest. */
  drawCurve(context, top, colour, valueOf) {
    const { segments, relevance } = this.curves;
    const ratio = window.devicePixelRatio || 1;
    const columns = new Float32Array(Math.max(Math.floor((this.width - LEFT - RIGHT) * ratio), 1));
    for (let n = 0; n < relevance.length; n++) {
      let [start, end] = [segments[2 * n], segments[2 * n + 1]];
      if (n && segments[2 * n - 1] > start) start = (segments[2 * n - 1] + start) / 2;
      if (n + 1 < relevance.length && segments[2 * n + 2] < end) end = (segments[2 * n + 2] + end) / 2;
      if (end < this.view.start || start > this.view.end) continue;
      const value = Math.min(Math.max(valueOf(n) || 0, 0), 1);
      const first = Math.max(Math.round((this.x(start) - LEFT) * ratio), 0);
      const last = Math.min(Math.max(Math.round((this.x(end) - LEFT) * ratio), first + 1), columns.length);
      for (let column = first; column < last; column++) if (value > columns[column]) columns[column] = value;
    }
    context.fillStyle = colour;
    context.globalAlpha = 0.88;
    for (let first = 0; first < columns.length; ) {
      let last = first + 1;
      while (last < columns.length && columns[last] === columns[first]) last++;
      const height = columns[first] * CURVE;
      if (height > 0) context.fillRect(LEFT + first / ratio, top + CURVE - height, (last - first) / ratio, height);
      first = last;
    }
    context.globalAlpha = 1;
  }

  ends({ start, end }) {
    const clip = (x) => Math.min(Math.max(x, LEFT), this.width - RIGHT);
    return [clip(this.x(start)), clip(this.x(end))];
  }

  drawBand(context, one, top) {
    if (one.end < this.view.start || one.start > this.view.end) return;
    const [left, right] = this.ends(one);
    context.beginPath();
    context.roundRect(left, top, Math.max(right - left, 1.5), BAND, 2);
    context.fill();
  }

  drawMark() {
    if (!this.width) return;
    const context = this.mark.getContext("2d");
    const height = this.height();
    context.clearRect(0, 0, this.width, height);
    if (this.hovered) {
      context.strokeStyle = this.colour("quiet");
      context.setLineDash([3, 3]);
      const x = Math.round(this.hovered.x) + 0.5;
      line(context, x, RULER, x, height - GAP);
      context.setLineDash([]);
    }
    const { start, end } = this.view;
    if (this.seconds < start || this.seconds > end) return;
    const x = this.x(this.seconds);
    context.fillStyle = context.strokeStyle = this.colour("mark");
    context.lineWidth = 2;
    line(context, x, 8, x, height - GAP);
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x - 6, 2);
    context.lineTo(x + 6, 2);
    context.lineTo(x, 12);
    context.fill();
  }

  // Pointing

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const number = Math.floor((y - RULER) / this.rowHeight());
    const row = y >= RULER && number < this.rows.length ? this.rows[number] : null;
    const inBand = row && this.banded && (y - RULER) % this.rowHeight() >= CURVE + BAND + 2;
    const isRelevance = !row && Boolean(this.curves) && number >= this.rows.length;
    return { x, y, seconds: this.time(x), row, inBand, isRelevance };
  }

  /** The interval under the pointer, and which of its ends, if any. */
  grasp({ x, row, inBand }) {
    if (!inBand) return null;
    const here = this.intervals.filter((one) => one.label === row.label);
    const order = [...here].sort((a, b) => (b === this.selected) - (a === this.selected) || b.score - a.score);
    for (const one of order) {
      if (one !== this.selected) continue;
      if (Math.abs(this.x(one.start) - x) <= NEAR) return { interval: one, end: "start" };
      if (Math.abs(this.x(one.end) - x) <= NEAR) return { interval: one, end: "end" };
    }
    const under = order.find((one) => this.x(one.start) - 1 <= x && x <= this.x(one.end) + 1);
    return under ? { interval: under, end: null } : null;
  }

  down(event) {
    if (event.button !== 0) return;
    const place = this.place(event);
    this.canvas.setPointerCapture(event.pointerId);
    const grasped = this.grasp(place);
    if (grasped?.end) {
      this.dragging = grasped;
      return;
    }
    this.act.select(grasped?.interval ?? null);
    this.dragging = { interval: null };
    this.act.seek(place.seconds);
  }

  move(event) {
    const place = this.place(event);
    if (this.dragging?.interval) {
      const { interval, end } = this.dragging;
      const least = 0.01;
      const seconds = Math.round(place.seconds * 1000) / 1000;
      if (end === "start") this.act.change(interval, { start: Math.min(seconds, interval.end - least) });
      else this.act.change(interval, { end: Math.max(seconds, interval.start + least) });
    } else if (this.dragging) {
      this.act.seek(place.seconds);
    } else {
      this.canvas.style.cursor = this.grasp(place)?.end ? "ew-resize" : "";
    }
    this.hover(place.x >= LEFT && place.x <= this.width - RIGHT ? place : null);
  }

  up() {
    this.dragging = null;
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) return;
    event.preventDefault();
    const { seconds } = this.place(event);
    if (event.shiftKey) {
      const length = this.view.end - this.view.start;
      this.lookAt(this.view.start + (Math.sign(event.deltaY || event.deltaX) * length) / 8, length, 0);
    } else {
      this.zoom(event.deltaY > 0 ? 1.25 : 0.8, seconds);
    }
  }

  hover(place) {
    this.hovered = place;
    this.tooltip.hidden = !place;
    this.drawMark();
    if (!place) return;
    this.tooltip.textContent = this.valuesAt(place).join("\n");
    const parent = this.tooltip.offsetParent.getBoundingClientRect();
    const box = this.canvas.getBoundingClientRect();
    const left = box.left - parent.left + place.x + 12;
    const room = parent.width - this.tooltip.offsetWidth - 8;
    this.tooltip.style.left = `${left <= room ? left : Math.max(left - 24 - this.tooltip.offsetWidth, 4)}px`;
    this.tooltip.style.top = `${box.top - parent.top + place.y + 14}px`;
  }

  /** What there is to say of a place, a line each. */
  valuesAt({ seconds, row, isRelevance }) {
    const lines = [clock(seconds)];
    const segment = this.segmentAt(seconds);
    if (row) {
      lines[0] += `  ${row.label}`;
      if (segment >= 0 && row.index !== null) {
        lines.push(`class score ${this.curves.scores[segment * this.numClasses + row.index].toFixed(3)}`);
      }
    }
    if (segment >= 0 && (row || isRelevance)) lines.push(`relevance ${this.curves.relevance[segment].toPrecision(3)}`);
    const inside = (one) => one.start <= seconds && seconds < one.end && (!row || one.label === row.label);
    for (const one of this.truth.filter(inside)) lines.push(`truth ${one.label} ${clock(one.start)} – ${clock(one.end)}`);
    for (const one of this.intervals.filter(inside).slice(0, 4)) {
      lines.push(`detection ${one.label} ${clock(one.start)} – ${clock(one.end)}, score ${one.score.toFixed(3)}`);
    }
    return lines;
  }

  /** The segment whose share of the axis holds a time; -1 in a gap. */
  segmentAt(seconds) {
    if (!this.curves) return -1;
    const { segments, relevance } = this.curves;
    let [best, distance] = [-1, Infinity];
    for (let n = 0; n < relevance.length; n++) {
      if (segments[2 * n] > seconds || segments[2 * n + 1] < seconds) continue;
      const away = Math.abs((segments[2 * n] + segments[2 * n + 1]) / 2 - seconds);
      if (away < distance) [best, distance] = [n, away];
    }
    return best;
  }
}

function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

/** A text cut in its middle where it is wider than `room`. */
function fitted(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let kept = text.length;
  let cut = text;
  while (kept > 2 && context.measureText(cut).width > room) {
    kept--;
    cut = `${text.slice(0, Math.ceil(kept / 2))}…${text.slice(text.length - Math.floor(kept / 2))}`;
  }
  return cut;
}
