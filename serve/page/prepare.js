// What a tokenizer's preprocessing makes of a picture, computed here: `vqtok/geometry.py` again.
// The server tokenizes the file itself; this is only for looking at, and for PSNR.

import { resize } from "./resize.js";

// Python's round: halves go to the even neighbour.
function even(x) {
  const low = Math.floor(x);
  if (x - low !== 0.5) return Math.round(x);
  return low % 2 ? low + 1 : low;
}

function shapedLike([down, across], height, width) {
  if (width * down >= height * across) {
    return [height, Math.max(1, Math.floor((2 * height * across + down) / (2 * down)))];
  }
  return [Math.max(1, Math.floor((2 * width * down + across) / (2 * across))), width];
}

function whole(height, width, scaled, size) {
  const at = [0, 1].map((axis) => Math.trunc((size[axis] - scaled[axis]) / 2));
  return { box: [0, 0, height, width], scaled, at, size };
}

function within(height, width, area) {
  if (!area || height * width <= area) return [height, width];
  const shrunk = [(area * height) / width, (area * width) / height];
  return shrunk.map((side) => Math.max(1, Math.floor(Math.sqrt(side))));
}

function covering(height, width, shape, sides) {
  const scale = sides[0] / Math.min(...shape);
  return whole(
    height,
    width,
    shape.map((side) => even(side * scale)),
    sides,
  );
}

function halved(height, width, side) {
  let now = [height, width];
  while (Math.min(...now) >= 2 * side) now = now.map((length) => length >> 1);
  return now;
}

const POLICIES = {
  center(height, width, { sides }) {
    const box = shapedLike(sides, height, width);
    const [top, left] = [(height - box[0]) >> 1, (width - box[1]) >> 1];
    return { box: [top, left, ...box], scaled: sides, at: [0, 0], size: sides };
  },
  stretch: (height, width, { sides }) => whole(height, width, sides, sides),
  pad: (height, width, { sides }) =>
    whole(height, width, shapedLike([height, width], ...sides), sides),
  native(height, width, { stride, area }) {
    const scaled = within(height, width, area);
    return whole(
      height,
      width,
      scaled,
      scaled.map((side) => side - (side % stride)),
    );
  },
  // The edges that are repeated come off again in decoding, so they are left out here at once.
  extend(height, width, { area }) {
    const scaled = within(height, width, area);
    return whole(height, width, scaled, scaled);
  },
  adm: (height, width, { sides }) =>
    covering(height, width, halved(height, width, Math.min(...sides)), sides),
  taming: (height, width, { sides }) => covering(height, width, [height, width], sides),
  torchvision(height, width, { sides: [side] }) {
    const scaled = [height, width].map((all) => Math.floor((side * all) / Math.min(height, width)));
    const at = scaled.map((all) => -even((all - side) / 2));
    return { box: [0, 0, height, width], scaled, at, size: [side, side] };
  },
};

// Which part of a picture ends up where; `box` is top, left, height, width.
export function geometry(height, width, settings) {
  const { policy = "center", size, stride = 1, max_area: area } = settings;
  const sides = Array.isArray(size) ? size : [size, size];
  return POLICIES[policy](height, width, { sides, stride, area });
}

function canvas(height, width) {
  const made = document.createElement("canvas");
  Object.assign(made, { height, width });
  return made.getContext("2d", { willReadFrequently: true });
}

// Anything a canvas draws -> the ImageData that the encoder sees.
export function prepare(drawable, [height, width], settings) {
  const plan = geometry(height, width, settings);
  const [top, left, down, across] = plan.box;
  const background = `rgb(${(settings.background ?? [255, 255, 255]).join(" ")})`;
  const source = canvas(down, across);
  source.fillStyle = background;
  source.fillRect(0, 0, across, down);
  source.drawImage(drawable, left, top, across, down, 0, 0, across, down);
  const part = resize(source.getImageData(0, 0, across, down), plan.scaled, settings.resize);
  const result = canvas(...plan.size);
  result.fillStyle = background;
  result.fillRect(0, 0, plan.size[1], plan.size[0]);
  result.putImageData(part, plan.at[1], plan.at[0]);
  return result.getImageData(0, 0, plan.size[1], plan.size[0]);
}
