// The page: one current video, its search for intervals, and the parts that show them.

import * as api from "./api.js";
import { clock, percent } from "./format.js";
import { ClassFilter, IntervalTable, SearchSettings } from "./panel.js";
import { Player } from "./player.js";
import { SaliencyLayer } from "./saliency.js";
import { Search } from "./search.js";
import { listen } from "./shortcuts.js";
import { Timeline } from "./timeline.js";
import { Uploads } from "./upload.js";
import { VideoList } from "./videolist.js";

const at = (id) => document.getElementById(id);

let facts = null; // of the current video
let search = null;
let selected = null;

const player = new Player({ video: at("video"), message: at("message") }, onTime);
const saliency = new SaliencyLayer(at("saliency-canvas"));
const timeline = new Timeline(
  { canvas: at("timeline"), mark: at("timeline-mark"), tooltip: at("tooltip") },
  { seek: (seconds) => player.seek(seconds), select: (one) => select(one, false), change },
);
const classes = new ClassFilter(
  { list: at("classes"), search: at("class-search"), all: at("classes-all"), likely: at("classes-likely"), none: at("classes-none") },
  update,
);
const settings = new SearchSettings(
  {
    sliders: {
      thresholds: at("threshold"), min_length_seconds: at("min-length"), min_score: at("min-score"), class_threshold: at("class-threshold"),
    },
    outputs: {
      thresholds: at("threshold-value"), min_length_seconds: at("min-length-value"), min_score: at("min-score-value"),
      class_threshold: at("class-threshold-value"),
    },
    fields: at("settings-fields"), reset: at("reset"), note: at("settings-note"),
  },
  async (changes) => {
    const current = search;
    const answer = current.set(changes);
    update();
    await answer;
    if (search !== current) return;
    selected = null;
    update();
  },
);
const table = new IntervalTable(
  { body: at("intervals"), count: at("interval-count") }, { select: (one) => select(one, true), change, remove },
);
const list = new VideoList({ list: at("list"), search: at("search"), sort: at("sort"), count: at("count") }, open);

/** Show a row of the list. */
async function open(row) {
  facts = search = selected = null;
  player.leave();
  complain("");
  at("stage").setAttribute("aria-busy", "true");
  at("name").textContent = row.name;
  document.title = `${row.name} – actionpool`;
  at("answer").textContent = row.problem ? "" : `${row.label} · ${percent(row.score)}`;
  at("facts").textContent = "";
  try {
    if (row.problem) throw new Error(row.problem);
    const found = await api.video(row.id);
    if (list.current !== row) return;
    await show(found, row);
  } catch (error) {
    if (list.current === row) clear(error.message);
  }
  if (list.current === row) at("stage").setAttribute("aria-busy", "false");
}

async function show(found, row) {
  facts = found;
  player.show(found);
  const curves = found.num_segments
    ? await api.curves(found.id, found.num_segments, found.classes.length).catch((error) => {
      found.curves_problem = error.message;
      return null;
    })
    : null;
  if (list.current !== row) return;
  search = new Search(found, curves);
  at("facts").textContent = [
    `${clock(found.duration_seconds)}`, `${found.width} × ${found.height}`, `${Number(found.fps.toFixed(3))} fps`,
    `${found.num_frames.toLocaleString("en")} frames`, `${found.num_segments} segments`, found.model.preset,
    ...(row.group ? [`evaluation ${row.group}`] : []), found.video,
  ].join(" · ");
  at("curves-problem").textContent = found.curves_problem;
  at("curves-problem").hidden = !found.curves_problem;
  const truth = found.truth.map(({ label, start_seconds: start, end_seconds: end }) => ({ label, start, end }));
  timeline.show({ duration: found.duration_seconds, curves, numClasses: found.classes.length, truth });
  classes.show(found);
  update();
  onTime(player.seconds);
  await showSaliency();
}

/** Nothing to show, and why. */
function clear(reason) {
  facts = { id: "", has_media: false, media_problem: reason, duration_seconds: 0, fps: 0, num_frames: 1, classes: [] };
  player.show(facts);
  saliency.show(null);
  at("saliency").disabled = true;
  const none = { classes: [], probabilities: [], truth: [], detections: [], settings: null };
  timeline.show({ duration: 0, curves: null, numClasses: 0, truth: [] });
  classes.show(none);
  search = null;
  update();
}

async function showSaliency() {
  const current = facts;
  at("saliency").disabled = !current.spatial;
  saliency.show(null);
  if (!current.spatial || !at("saliency").checked) return;
  try {
    const track = await api.maps(current.id);
    if (facts === current && at("saliency").checked) saliency.show(track, current.spatial);
  } catch (error) {
    complain(error.message);
  }
  onTime(player.seconds);
}

/** Draw all that depends on intervals, classes shown and the selection. */
function update() {
  const all = search?.intervals ?? [];
  classes.update(all);
  const shown = visible();
  timeline.update(classes.shown, shown, selected);
  table.draw(shown, selected, facts?.classes ?? []);
  if (search) settings.show(search);
  at("settings").inert = !search;
  at("settings").setAttribute("aria-busy", String(Boolean(search?.isAsking)));
  for (const id of ["add", "export"]) at(id).disabled = !search;
}

/** The intervals of the classes that are shown, surest first; what was added is last. */
function visible() {
  const labels = new Set(classes.shown.map(({ label }) => label));
  return (search?.intervals ?? []).filter(({ label }) => labels.has(label));
}

function onTime(seconds) {
  if (!facts) return;
  timeline.at(seconds);
  at("time").textContent = `${clock(seconds)} / ${clock(facts.duration_seconds)}  ·  frame ${player.frame.toLocaleString("en")}`;
  if (!saliency.canvas.hidden) saliency.draw(seconds, player.picture());
}

function select(interval, seek) {
  if (!interval && !selected) return;
  selected = interval;
  update();
  if (!interval || !seek) return;
  player.seek(interval.start);
  announce(`${interval.label}, ${clock(interval.start)} to ${clock(interval.end)}, score ${interval.score.toFixed(2)}`);
}

function change(interval, values) {
  const start = Math.max(values.start ?? interval.start, 0);
  const end = Math.min(values.end ?? interval.end, facts.duration_seconds);
  if (end > start) search.change(interval, { ...values, start, end });
  update();
}

function remove(interval) {
  const place = visible().indexOf(interval);
  search.remove(interval);
  selected = null;
  update();
  announce(`Deleted. ${at("interval-count").textContent} left.`);
  // The focus was on what is gone.
  if (!document.activeElement || document.activeElement === document.body) {
    const next = document.querySelector(`[data-key="remove-${place}"]`) ?? document.querySelector(`[data-key="remove-${place - 1}"]`);
    (next ?? at("add")).focus();
  }
}

function add() {
  const start = Math.min(player.seconds, Math.max(facts.duration_seconds - 0.01, 0));
  const end = Math.min(start + Math.max(facts.duration_seconds / 20, 0.5), facts.duration_seconds);
  const label = selected?.label ?? classes.shown[0]?.label ?? facts.classes[0];
  const made = { label, start, end, score: 1, isNew: true };
  search.add(made);
  select(made, false);
  document.querySelector("#intervals tr.selected select")?.focus();
}

/** To the interval that begins next after the moment, or last before it. */
function stepInterval(by) {
  const order = visible().sort((a, b) => a.start - b.start || a.end - b.end || b.score - a.score);
  if (!order.length) return;
  let place = order.indexOf(selected);
  if (place >= 0) {
    place += by;
  } else {
    const after = order.findIndex((one) => one.start > player.seconds + 1e-3);
    place = by > 0 ? (after < 0 ? order.length : after) : (after < 0 ? order.length : after) - 1;
  }
  if (order[place]) select(order[place], true);
}

/** Save the intervals that are listed as a file. */
async function save() {
  const format = at("format").value;
  const video = facts.name.split("/").at(-1);
  const link = document.createElement("a");
  try {
    link.href = URL.createObjectURL(await api.exported(facts.id, format, visible()));
  } catch (error) {
    complain(error.message);
    return;
  }
  link.download = `${video}.${format === "activitynet" ? "json" : format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  announce(`Saved ${link.download}`);
}

/** Say something to a screen reader that the page shows by itself. */
function announce(sentence) {
  at("live").textContent = sentence;
}

/** Show why something did not work; goes when it is clicked, or with the next video. */
function complain(reason) {
  at("complaint").textContent = reason;
  at("complaint").hidden = !reason;
}

function setTheme(theme) {
  const dark = theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  timeline.draw();
}

function toggleSaliency() {
  if (at("saliency").disabled) return;
  at("saliency").checked = !at("saliency").checked;
  showSaliency();
}

const clicks = {
  play: () => player.toggle(),
  "frame-back": () => player.step(-1),
  "frame-on": () => player.step(1),
  "previous-detection": () => stepInterval(-1),
  "next-detection": () => stepInterval(1),
  "previous-video": () => list.step(-1),
  "next-video": () => list.step(1),
  "zoom-in": () => timeline.zoom(0.5),
  "zoom-out": () => timeline.zoom(2),
  "zoom-fit": () => timeline.fit(),
  reset: () => {
    search.reset();
    selected = null;
    update();
  },
  add,
  export: save,
  "help-open": () => at("help").showModal(),
  complaint: () => complain(""),
};
for (const [id, act] of Object.entries(clicks)) at(id).addEventListener("click", act);

listen(() => at("keys-on").checked, {
  " ": clicks.play,
  ArrowLeft: (event) => (event.shiftKey ? player.seek(player.seconds - 1) : player.step(-1)),
  ArrowRight: (event) => (event.shiftKey ? player.seek(player.seconds + 1) : player.step(1)),
  "[": clicks["previous-detection"],
  "]": clicks["next-detection"],
  p: clicks["previous-video"],
  n: clicks["next-video"],
  s: toggleSaliency,
  "+": clicks["zoom-in"],
  "=": clicks["zoom-in"],
  "-": clicks["zoom-out"],
  0: clicks["zoom-fit"],
  Delete: () => selected && remove(selected),
  "/": () => at("search").focus(),
  "?": clicks["help-open"],
}, at("timeline"), (seconds) => player.seek(seconds), () => [player.seconds, facts?.duration_seconds ?? 0]);

const video = at("video");
for (const name of ["play", "pause"]) {
  video.addEventListener(name, () => {
    at("play").classList.toggle("playing", !video.paused);
    at("play").setAttribute("aria-label", video.paused ? "Play" : "Pause");
  });
}
at("saliency").addEventListener("change", showSaliency);
at("mute").addEventListener("change", () => (video.muted = at("mute").checked));
at("speed").addEventListener("change", () => (video.playbackRate = Number(at("speed").value)));
video.addEventListener("loadeddata", () => (video.playbackRate = Number(at("speed").value)));
new ResizeObserver(() => onTime(player.seconds)).observe(at("screen"));

const stored = (name) => localStorage.getItem(`actionpool-${name}`);
const keep = (name, value) => localStorage.setItem(`actionpool-${name}`, value);
at("theme").value = stored("theme") ?? "auto";
at("theme").addEventListener("change", () => {
  keep("theme", at("theme").value);
  setTheme(at("theme").value);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(at("theme").value));
setTheme(at("theme").value);
at("keys-on").checked = stored("keys") !== "off";
at("keys-on").addEventListener("change", () => keep("keys", at("keys-on").checked ? "on" : "off"));

async function start() {
  const { folder, upload } = await api.about();
  at("folder").textContent = folder;
  at("folder").title = folder;
  const parts = {
    dialog: at("upload"), open: at("upload-open"), drop: at("drop"), file: at("file"), list: at("uploads"), note: at("upload-limits"),
  };
  if (upload) {
    new Uploads(parts, upload, {
      done: () => api.videos((rows, missing) => list.add(rows, missing)),
      show: (id) => list.select(list.all.find((row) => row.id === id)),
      removed: (id) => list.remove(id),
    });
  }
  let isFirst = true;
  await api.videos((rows, missing) => {
    list.add(rows, missing);
    if (isFirst && list.shown.length) {
      isFirst = false;
      list.select(list.shown[0]);
    }
    if (!missing && !list.all.length) clear("No predictions yet. Recognise a video to begin.");
  });
}

start().catch((error) => clear(error.message));
