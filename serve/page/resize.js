// The filters that tokenizers resize with, so that the page shows what the encoder saw. They run
// in floats and round once an axis: a channel may be a step or two off the server's.

const triangle = (x) => Math.max(0, 1 - Math.abs(x));

function cubic(x) {
  const t = Math.abs(x);
  if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
  return t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
}

function lanczos(x) {
  if (x === 0) return 1;
  const turn = Math.PI * x;
  return Math.abs(x) < 3 ? (3 * Math.sin(turn) * Math.sin(turn / 3)) / (turn * turn) : 0;
}

const box = (x) => (x > -0.5 && x <= 0.5 ? 1 : 0);

// name -> its kernel, how far that reaches, and whether it widens when pictures shrink
const FILTERS = {
  "torch-u8-bicubic": [cubic, 2, true],
  "pillow-bilinear": [triangle, 1, true],
  "pillow-bicubic": [cubic, 2, true],
  "pillow-lanczos": [lanczos, 3, true],
  "adm-box-bicubic": [cubic, 2, true],
  "opencv-u8-bilinear": [triangle, 1, false],
};

// For every target pixel on an axis: its first source pixel, and the weights from there.
function taps(source, target, [kernel, reach, widens]) {
  const step = source / target;
  const wide = widens ? Math.max(step, 1) : 1;
  return Array.from({ length: target }, (_, i) => {
    const middle = (i + 0.5) * step;
    const from = Math.max(0, Math.floor(middle - reach * wide + 0.5));
    const to = Math.min(source, Math.floor(middle + reach * wide + 0.5));
    const weights = [];
    for (let j = from; j < Math.max(to, from + 1); j += 1) {
      weights.push(kernel((j + 0.5 - middle) / wide));
    }
    const sum = weights.reduce((all, one) => all + one, 0) || 1;
    return { from: Math.min(from, source - 1), weights: weights.map((weight) => weight / sum) };
  });
}

// Along one axis of (outer, length, inner) bytes.
function along(bytes, outer, length, inner, target, filter) {
  if (length === target) return bytes;
  const result = new Uint8ClampedArray(outer * target * inner);
  const all = taps(length, target, filter);
  for (let o = 0; o < outer; o += 1) {
    for (let t = 0; t < target; t += 1) {
      const { from, weights } = all[t];
      for (let i = 0; i < inner; i += 1) {
        let sum = 0;
        let at = (o * length + from) * inner + i;
        for (let w = 0; w < weights.length; w += 1, at += inner) sum += weights[w] * bytes[at];
        // Halves go up; left to itself, the array would send them to the even neighbour.
        result[(o * target + t) * inner + i] = Math.floor(sum + 0.5);
      }
    }
  }
  return result;
}

function scaled({ width, height, data }, size, filter) {
  const wide = along(data, height, width, 4, size[1], filter);
  const done = along(wide, 1, height, 4 * size[1], size[0], filter);
  return new ImageData(new Uint8ClampedArray(done), size[1], size[0]);
}

// An ImageData -> one of the size (height, width).
export function resize(image, size, name) {
  let now = image;
  if (name === "adm-box-bicubic") {
    while (Math.min(now.height, now.width) >= 2 * Math.min(...size)) {
      now = scaled(now, [now.height >> 1, now.width >> 1], [box, 0.5, true]);
    }
  }
  return scaled(now, size, FILTERS[name] ?? FILTERS["torch-u8-bicubic"]);
}
