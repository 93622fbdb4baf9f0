// The arithmetic of actionpool.localize, step by step (docs/protocols.md): the same doubles, in the same order.
// Arrays are flat: segments (N, 2), scores (N, K).

/**
 * Find when each class happens.
 * @param {{segments: Float64Array, scores: Float64Array, relevance: Float64Array}} curves
 * @param {number[]} probabilities K of the classes in the video
 * @param {string[]} classes K names
 * @param {object} settings every field of LocalizeSettings
 * @returns {{label: string, start: number, end: number, score: number}[]} by falling score
 */
export function localize(curves, probabilities, classes, settings) {
  const numSegments = curves.relevance.length;
  if (!numSegments) return [];
  const relevance = scaled(curves.relevance, settings);
  const found = [];
  for (const index of classesToFind(probabilities, settings)) {
    const curve = curveOf(curves.scores, index, classes.length, relevance, settings);
    const grid = makeGrid(curve, curves.segments, settings.cells_per_segment);
    const candidates = candidatesOf(grid, settings);
    const bonus = settings.video_score_weight * probabilities[index];
    for (const one of candidates) one.score = contrast(grid, one, settings.outer_margin) + bonus;
    for (const one of suppress(candidates, settings)) found.push({ ...one, index });
  }
  found.sort((a, b) => b.score - a.score || a.index - b.index || a.start - b.start || a.end - b.end);
  return found.slice(0, settings.max_detections)
    .map(({ start, end, score, index }) => ({ label: classes[index], start, end, score }));
}

function classesToFind(probabilities, settings) {
  const found = [];
  probabilities.forEach((probability, index) => {
    if (probability > settings.class_threshold) found.push(index);
  });
  if (!found.length && settings.always_best_class && probabilities.length) {
    found.push(probabilities.indexOf(largest(probabilities)));
  }
  return found;
}

function scaled(relevance, settings) {
  const most = largest(relevance);
  return settings.relevance_scale === "maximum" && most > 0 ? relevance.map((value) => value / most) : relevance;
}

function curveOf(scores, index, numClasses, relevance, settings) {
  return relevance.map((weight, segment) => {
    const score = scores[segment * numClasses + index];
    if (settings.source === "product") return score * weight;
    return weight >= settings.gate_threshold ? score : 0;
  });
}

/** The curve, interpolated between the middles of its segments: C cells of time. */
export function makeGrid(curve, segments, cellsPerSegment) {
  const count = curve.length;
  const middle = (n) => (segments[2 * n] + segments[2 * n + 1]) / 2;
  const bounds = new Float64Array(count + 1);
  bounds[0] = segments[0];
  for (let n = 1; n < count; n++) bounds[n] = (segments[2 * n - 1] + segments[2 * n]) / 2;
  bounds[count] = segments[2 * count - 1];
  const numCells = count * cellsPerSegment;
  const edges = new Float64Array(numCells + 1);
  for (let n = 0; n < count; n++) {
    for (let part = 0; part < cellsPerSegment; part++) {
      edges[n * cellsPerSegment + part] = bounds[n] + (bounds[n + 1] - bounds[n]) * (part / cellsPerSegment);
    }
  }
  edges[numCells] = bounds[count];
  const values = new Float64Array(numCells);
  const sums = new Float64Array(numCells + 1);
  let before = -1; // the last segment whose middle is not after the cell
  for (let cell = 0; cell < numCells; cell++) {
    const time = (edges[cell] + edges[cell + 1]) / 2;
    while (before + 1 < count && middle(before + 1) <= time) before++;
    if (count === 1) {
      values[cell] = curve[0];
    } else {
      const left = Math.min(Math.max(before, 0), count - 2);
      let share = (time - middle(left)) / (middle(left + 1) - middle(left));
      share = Math.min(Math.max(share, 0), 1);
      values[cell] = curve[left] + (curve[left + 1] - curve[left]) * share;
    }
    sums[cell + 1] = sums[cell] + values[cell] * (edges[cell + 1] - edges[cell]);
  }
  return { edges, values, sums };
}

function candidatesOf(grid, settings) {
  const high = largest(grid.values);
  const low = -largest(grid.values.map((value) => -value));
  if (high <= 0) return [];
  const found = new Map();
  for (const threshold of settings.thresholds) {
    let cut = threshold;
    if (settings.threshold_scale === "range") cut = low + threshold * (high - low);
    else if (settings.threshold_scale === "maximum") cut = threshold * high;
    for (const run of joined(runs(grid, cut), settings.merge_gap_seconds)) {
      const length = run.end - run.start;
      const longest = settings.max_length_seconds;
      if (length >= settings.min_length_seconds && (longest === null || length <= longest)) {
        found.set(`${run.start} ${run.end}`, run);
      }
    }
  }
  return [...found.values()];
}

function runs(grid, cut) {
  const found = [];
  let start = -1;
  for (let cell = 0; cell <= grid.values.length; cell++) {
    const above = cell < grid.values.length && grid.values[cell] >= cut;
    if (above && start < 0) start = cell;
    if (!above && start >= 0) {
      found.push({ start: grid.edges[start], end: grid.edges[cell] });
      start = -1;
    }
  }
  return found;
}

function joined(intervals, gap) {
  const found = [];
  for (const { start, end } of intervals) {
    const last = found.at(-1);
    if (last && start - last.end < gap) last.end = end;
    else found.push({ start, end });
  }
  return found;
}

function contrast(grid, { start, end }, margin) {
  const length = end - start;
  const first = Math.max(start - margin * length, grid.edges[0]);
  const last = Math.min(end + margin * length, grid.edges.at(-1));
  const atStart = integral(grid, start);
  const atEnd = integral(grid, end);
  const around = (atStart - integral(grid, first)) + (integral(grid, last) - atEnd);
  const aroundLength = (start - first) + (last - end);
  const outer = aroundLength > 0 ? around / aroundLength : 0;
  return (atEnd - atStart) / length - outer;
}

function integral({ edges, values, sums }, seconds) {
  const held = Math.min(Math.max(seconds, edges[0]), edges.at(-1));
  let low = 0;
  let high = edges.length; // the number of edges that are not after `held` lies between the two
  while (low < high) {
    const half = (low + high) >> 1;
    if (edges[half] <= held) low = half + 1;
    else high = half;
  }
  const cell = Math.min(low - 1, values.length - 1);
  return sums[cell] + values[cell] * (held - edges[cell]);
}

function suppress(candidates, settings) {
  let rest = candidates
    .sort((a, b) => b.score - a.score || a.start - b.start || a.end - b.end)
    .filter((one) => one.score > settings.min_score);
  const kept = [];
  while (rest.length && kept.length < settings.max_detections) {
    let best = rest[0];
    for (const one of rest) if (one.score > best.score) best = one;
    kept.push({ start: best.start, end: best.end, score: best.score });
    const others = [];
    for (const one of rest) {
      if (one === best) continue;
      const inside = Math.max(Math.min(one.end, best.end) - Math.max(one.start, best.start), 0);
      const tiou = inside / ((one.end - one.start) + (best.end - best.start) - inside);
      if (tiou > settings.nms_tiou) {
        if (settings.nms === "hard") continue;
        if (settings.nms === "soft") one.score *= 1 - tiou;
      }
      if (settings.nms !== "soft" || one.score > settings.min_score) others.push(one);
    }
    rest = others;
  }
  return kept;
}

function largest(values) {
  let most = -Infinity;
  for (const value of values) if (value > most) most = value;
  return most;
}
