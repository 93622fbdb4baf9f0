// Where the network looks, laid over the video. A map is in multiples of an even share; only what exceeds it is coloured.

const STRENGTH = 0.7; // opacity of the strongest heat
const GAMMA = 0.8; // and how it grows from none

/** 256 colours as RGB bytes: those of the figures (actionpool.show.sheet.heat_table). */
export const HEAT = Uint8Array.from(atob([
  "VxBuVxBuWRBuWhFuXBJuXBJuXRJuXxNuYRNuYRNuYhRuZBVuZRVuZRVuZxZuaRZuahduahdubBhubRhubxlubxlucRluchpudBpudBpu",
  "dRtudxxteBxteBxteh1tfB1tfR5tfR5tfx5sgB9sgiBsgiBshCBrhSFrhyFrhyFriCJqiiJqjCNpjCNpjSNpjyRpkCVokCVokiVokyZn",
  "lSZnlSZnlydmmCdmmihlmihlmylknSlknypjnypjoCpjoitioyxhoyxhpSxgpi1gqC5fqC5fqS5eqy9erTBdrTBdrjBcsDFbsTJasTJa",
  "szJatDNZtjRYtjRYtzVXuTVWujZVvDdUvDdUvThTvzlSwDpRwDpRwTpQwztPxDxOxDxOxj1Nxz5MyD9LyD9LykBKy0FJzEJIzEJIzkNH",
  "z0RG0EVF0EVF0kZE00dD1EhC1EhC1UpB10s/2Ew+2Ew+2U092k4821A721A73VE63lI431M331M34FU24VY14lc04lc041kz5Fox5Vww",
  "5Vww5l0v514u6GAt6GAt6WEr6mMq62Qp62Qp62Yo7Gcm7Wkl7Wkl7mok72wj724h724h8G8g8XEf8XMd8XMd8nQc83Yb83gZ83gZ9HkY",
  "9XsX9X0V9X0V9n4U9oAT94IS94IS94QQ+IUP+IcO+IcO+IkM+YsL+YwK+Y4J+Y4J+pAI+pIH+pQH+pQH+5YG+5cG+5kG+5kG+5sG+50H",
  "/J8H/J8H/KEI/KMJ/KUK/KUK/KYM/KgN/KoP/KoP/KwR/K4S/LAU/LAU/LIW/LQY+7Ya+7Ya+7gd+7of+7wh+7wh+74j+sAm+sIo+sIo",
  "+sQq+sYt+ccv+ccv+cky+cs1+M03+M03+M8699E999NA99NA9tVD9tdG9dlJ9dlJ9dtM9N1P9N9T9N9T9OFW8+Na8+Vd8+Vd8uZh8uhl",
  "8upp8upp8ext8e1x8e918e918fF58vJ98vSC8vSC8/WG8/aK9PiO9PiO9fmS9vqW+Pua+Pua+fyd+v2h/P+k/P+k",
].join("")), (sign) => sign.charCodeAt(0));

/** The map at a time: two maps mixed in proportion, before the first and after the last one held. */
export function mapAt({ times, maps, size }, seconds) {
  let after = 0;
  while (after < times.length && times[after] < seconds) after++;
  const at = (index) => maps.subarray(index * size, (index + 1) * size);
  if (after === 0 || after === times.length) return at(Math.min(after, times.length - 1));
  const gap = times[after] - times[after - 1];
  const share = gap > 0 ? (seconds - times[after - 1]) / gap : 0;
  const [first, second] = [at(after - 1), at(after)];
  return first.map((value, index) => (1 - share) * value + share * second[index]);
}

/** A canvas over a video. */
export class SaliencyLayer {
  constructor(canvas) {
    this.canvas = canvas;
    this.track = null;
    this.small = document.createElement("canvas");
  }

  /** @param {?object} track what api.maps returned @param {?object} view the rectangle of the frame that maps cover */
  show(track, view) {
    this.track = track;
    this.view = view;
    this.canvas.hidden = !track;
  }

  /** Draw for a moment of a frame that fills `box` (CSS pixels, relative to the canvas). */
  draw(seconds, box) {
    if (!this.track) return;
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.beginPath();
    context.rect(box.left, box.top, box.width, box.height);
    context.clip();
    const { left, top, right, bottom } = this.view;
    const place = [
      box.left + left * box.width, box.top + top * box.height, (right - left) * box.width, (bottom - top) * box.height,
    ];
    this.paintSmall(mapAt(this.track, seconds));
    context.imageSmoothingQuality = "high";
    context.drawImage(this.small, ...place);
    context.strokeStyle = "#E69F00";
    context.setLineDash([5, 5]);
    context.strokeRect(place[0] + 0.5, place[1] + 0.5, place[2] - 1, place[3] - 1);
  }

  paintSmall(map) {
    const { height, width, top } = this.track;
    this.small.width = width;
    this.small.height = height;
    const picture = new ImageData(width, height);
    map.forEach((value, index) => {
      const heat = Math.min(Math.max((value - 1) / (top - 1), 0), 1) || 0;
      const level = Math.round(heat * 255);
      picture.data.set(HEAT.subarray(3 * level, 3 * level + 3), 4 * index);
      picture.data[4 * index + 3] = Math.round(255 * STRENGTH * (level / 255) ** GAMMA);
    });
    this.small.getContext("2d").putImageData(picture, 0, 0);
  }
}
