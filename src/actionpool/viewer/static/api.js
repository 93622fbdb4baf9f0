// What the server says.

/** An answer that is no success; `message` is the server's own sentence. */
export class ServerError extends Error {}

async function ask(address, options) {
  let answer;
  try {
    answer = await fetch(address, { credentials: "same-origin", ...options });
  } catch {
    throw new ServerError("The viewer does not answer: was it stopped? Start it again and open its new address.");
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let sentence = text;
  try {
    const { detail } = JSON.parse(text);
    if (typeof detail === "string") sentence = detail;
  } catch {
    // A plain sentence.
  }
  throw new ServerError(sentence || `The viewer answered ${answer.status}.`);
}

const json = async (address) => (await ask(address)).json();

export const about = () => json("/api/about");
export const uploads = () => json("/api/uploads");
export const removeUpload = (id) => ask(`/api/uploads/${id}`, { method: "DELETE" });
export const video = (id) => json(`/api/videos/${id}`);
export const mediaAddress = (id) => `/api/videos/${id}/media`;
export const playableAddress = (id) => `/api/videos/${id}/playable`;

/** Has a copy made that browsers play; resolves when it is there. */
export const prepareCopy = (id) => ask(playableAddress(id), { headers: { Range: "bytes=0-0" } });

const post = (address, body) => ask(address, { method: "POST", headers: { "Content-Type": "application/json" }, body });

/** The detections of a video with some settings of the search changed; `changes` is JSON. */
export const localize = async (id, changes) => (await post(`/api/videos/${id}/localize`, changes)).json();

/** Intervals as a file of a format. */
export async function exported(id, format, intervals) {
  const rows = intervals.map(({ label, score, start, end }) => ({ label, score, start_seconds: start, end_seconds: end }));
  return (await post(`/api/videos/${id}/export?format=${format}`, JSON.stringify(rows))).blob();
}

/** Rows of the list as they are read: calls `receive(rows, howManyAreMissing)` until all have come. */
export async function videos(receive) {
  let start = 0;
  for (let wait = 30; ; wait = Math.min(2 * wait, 500)) {
    const { total, next, rows } = await json(`/api/videos?start=${start}`);
    start = next;
    receive(rows, total - next);
    if (next >= total) return;
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/** Segments, class scores and relevance as doubles. */
export async function curves(id, numSegments, numClasses) {
  const numbers = new Float64Array(await (await ask(`/api/videos/${id}/curves`)).arrayBuffer());
  const scores = 2 * numSegments;
  const relevance = scores + numSegments * numClasses;
  return {
    segments: numbers.subarray(0, scores),
    scores: numbers.subarray(scores, relevance),
    relevance: numbers.subarray(relevance, relevance + numSegments),
  };
}

/** The spatial maps in order of time. */
export async function maps(id) {
  const answer = await ask(`/api/videos/${id}/maps`);
  const [count, height, width] = answer.headers.get("X-Shape").split(",").map(Number);
  const buffer = await answer.arrayBuffer();
  return {
    times: new Float64Array(buffer, 0, count),
    maps: new Float32Array(buffer, 8 * count),
    size: height * width,
    height,
    width,
    top: Number(answer.headers.get("X-Top")),
  };
}

/** Send a file; `progress(share)` as it goes. Resolves to the upload's state. */
export function upload(file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/uploads?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("Content-Type", file.type.startsWith("video/") ? file.type : "application/octet-stream");
    request.upload.onprogress = (event) => progress(event.loaded / event.total);
    request.onerror = () => reject(new ServerError("The transfer broke off: too large a file, or the viewer stopped."));
    request.onload = () => {
      let reply = {};
      try {
        reply = JSON.parse(request.responseText);
      } catch {
        // Not JSON: the general sentence below is used.
      }
      if (request.status === 202) resolve(reply);
      else reject(new ServerError(typeof reply.detail === "string" ? reply.detail : "The file was refused."));
    };
    request.send(file);
  });
}
