// Intervals as files: what actionpool's own write_detections writes, for one video.

/** ActivityNet's JSON of predictions. */
export function toActivityNet(video, intervals) {
  const found = intervals.map(({ label, start, end, score }) => ({ label, score, segment: [start, end] }));
  return JSON.stringify({ version: "actionpool 1", results: { [video]: found }, external_data: {} }, null, 2) + "\n";
}

/** A table that `actionpool eval --predictions` and spreadsheets read. */
export function toCsv(video, intervals) {
  const rows = intervals.map(({ label, start, end, score }) => [video, label.replaceAll("\\", "\\\\").replaceAll(";", "\\;"), start, end, score]);
  return [["video", "label", "start", "end", "score"], ...rows]
    .map((row) => row.map(quoted).join(",") + "\r\n").join("");
}

/** SubRip, for players: to the millisecond, in order of time. */
export function toSubRip(intervals) {
  return intervals
    .map(({ label, start, end, score }) => {
      const first = Math.round(1000 * start);
      const text = `${label.split(/\s+/).filter(Boolean).join(" ")} (${Number(score.toPrecision(6))})`;
      return { first, last: Math.max(Math.round(1000 * end), first + 1), text };
    })
    .sort((a, b) => a.first - b.first || a.last - b.last)
    .map(({ first, last, text }, index) => `${index + 1}\n${clock(first)} --> ${clock(last)}\n${text}\n`)
    .join("\n");
}

function quoted(value) {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function clock(milliseconds) {
  const pad = (value, digits) => String(value).padStart(digits, "0");
  const seconds = Math.floor(milliseconds / 1000);
  const hours = Math.floor(seconds / 3600);
  return `${pad(hours, 2)}:${pad(Math.floor(seconds / 60) % 60, 2)}:${pad(seconds % 60, 2)},${pad(milliseconds % 1000, 3)}`;
}
