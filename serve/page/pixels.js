// Arithmetic on pixels: {count, height, width, rgb} with rgb (count, height, width, 3) bytes.

// One frame, ready for a canvas.
export function imageData({ height, width, rgb }, frame = 0) {
  const image = new ImageData(width, height);
  const start = frame * height * width * 3;
  for (let from = start, to = 0; to < image.data.length; from += 3, to += 4) {
    image.data[to] = rgb[from];
    image.data[to + 1] = rgb[from + 1];
    image.data[to + 2] = rgb[from + 2];
    image.data[to + 3] = 255;
  }
  return image;
}

export function fromImageData(images) {
  const [{ height, width }] = images;
  const rgb = new Uint8Array(images.length * height * width * 3);
  let to = 0;
  for (const { data } of images) {
    for (let from = 0; from < data.length; from += 4) {
      rgb[to++] = data[from];
      rgb[to++] = data[from + 1];
      rgb[to++] = data[from + 2];
    }
  }
  return { count: images.length, height, width, rgb };
}

export const alike = (a, b) =>
  Boolean(a && b) && a.count === b.count && a.height === b.height && a.width === b.width;

// In decibels, over every byte, with a peak of 255.
export function psnr(a, b) {
  let sum = 0;
  for (let i = 0; i < a.rgb.length; i += 1) sum += (a.rgb[i] - b.rgb[i]) ** 2;
  return 10 * Math.log10((255 * 255 * a.rgb.length) / sum);
}

// Each channel's distance, times `gain` so that small ones are seen.
export function difference(a, b, gain) {
  const rgb = new Uint8Array(a.rgb.length);
  for (let i = 0; i < rgb.length; i += 1)
    rgb[i] = Math.min(255, gain * Math.abs(a.rgb[i] - b.rgb[i]));
  return { ...a, rgb };
}

const STRONG = 8; // levels; networks move much of a picture by one or two when a far code changes

// The largest step of a channel, for each pixel.
function* steps(a, b) {
  for (let at = 0; at < a.rgb.length; at += 3) {
    yield Math.max(
      Math.abs(a.rgb[at] - b.rgb[at]),
      Math.abs(a.rgb[at + 1] - b.rgb[at + 1]),
      Math.abs(a.rgb[at + 2] - b.rgb[at + 2]),
    );
  }
}

// Where two differ: how many pixels, how many of them strongly, the largest step, and the box
// [top, left, bottom, right], all inside, around the strong ones, or around all where none is.
export function changes(a, b) {
  const found = { pixels: 0, strong: 0, most: 0, share: 0, limit: STRONG };
  for (const step of steps(a, b)) {
    found.pixels += step > 0;
    found.strong += step > STRONG;
    found.most = Math.max(found.most, step);
  }
  found.share = (found.pixels * 3) / a.rgb.length;
  return { ...found, box: around(a, b, found.strong ? STRONG : 0) };
}

function around(a, b, limit) {
  const box = [Infinity, Infinity, -1, -1];
  let i = -1;
  for (const step of steps(a, b)) {
    i += 1;
    if (step <= limit) continue;
    const [y, x] = [Math.floor(i / a.width) % a.height, i % a.width];
    box[0] = Math.min(box[0], y);
    box[1] = Math.min(box[1], x);
    box[2] = Math.max(box[2], y);
    box[3] = Math.max(box[3], x);
  }
  return box;
}

// `now`, faded towards grey the less it differs from `before`.
export function emphasised(now, before) {
  const rgb = now.rgb.slice();
  let at = 0;
  for (const step of steps(now, before)) {
    const kept = Math.min(1, step / (4 * STRONG));
    const grey = 0.3 * rgb[at] + 0.6 * rgb[at + 1] + 0.1 * rgb[at + 2];
    const base = 0.35 * grey + 0.65 * 128;
    for (let i = at; i < at + 3; i += 1) rgb[i] = kept * rgb[i] + (1 - kept) * base;
    at += 3;
  }
  return { ...now, rgb };
}
