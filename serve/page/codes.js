// The codes of one picture or clip: where each lies, what it stands for, how often it is used.

// Codes in a row where a sequence has no rows of its own.
const wrapped = (length) => Math.min(length, length > 128 ? 16 : 8);

function shapeOf(nested) {
  const shape = [];
  for (let level = nested; Array.isArray(level); level = level[0]) shape.push(level.length);
  return shape;
}

function nest(flat, shape) {
  if (shape.length < 2) return Array.from(flat);
  const step = flat.length / shape[0];
  return Array.from({ length: shape[0] }, (_, i) =>
    nest(flat.subarray(i * step, (i + 1) * step), shape.slice(1)),
  );
}

export class Codes {
  // answer  what /encode said; its first picture is the one
  // facts   of the model: stride, [frames,] pixels down and across that a code stands for; causal
  constructor(answer, { stride, causal, codebook_size: codebookSize }) {
    const picture = answer.pictures[0];
    this.answer = answer;
    this.shape = shapeOf(picture.codes);
    this.ids = Uint32Array.from(picture.codes.flat(Infinity));
    this.first = this.ids.slice(); // as the encoder gave them
    this.size = picture.size.slice(-2);
    this.frames = picture.size.length === 3 ? picture.size[0] : 1;
    this.codebookSize = answer.codebook_size ?? codebookSize;
    this.scales = picture.scales ?? answer.scales ?? [];
    this.depth = this.shape.length > picture.grid.length ? this.shape.at(-1) : 0;
    this.grid = picture.grid;
    this.stride = stride;
    this.causal = causal;
  }

  get times() {
    return this.grid.length === 3 ? this.grid[0] : 1;
  }

  // What posting to /decode needs: the answer with the codes as they are now.
  toAnswer() {
    const picture = { ...this.answer.pictures[0], codes: nest(this.ids, this.shape) };
    return { ...this.answer, pictures: [picture] };
  }

  // The time on the grid that a frame belongs to; in causal models the first is a token by itself.
  timeOf(frame) {
    const [deep] = this.stride.length === 3 ? this.stride : [1];
    const time = this.causal ? Math.ceil(frame / deep) : Math.floor(frame / deep);
    return Math.min(time, this.times - 1);
  }

  // What the map shows at once: one time of a clip, one scale, one level of the stack.
  plane({ frame = 0, scale = 0, level = 0 } = {}) {
    const step = this.depth || 1;
    const at = this.depth ? level : 0;
    if (this.scales.length) {
      const [rows, cols] = this.scales[scale];
      const before = this.scales.slice(0, scale).reduce((sum, [h, w]) => sum + h * w, 0);
      return new Plane(this, { rows, cols, length: rows * cols, start: before, step: 1 });
    }
    if (this.grid.length === 1) {
      const length = this.grid[0];
      const cols = wrapped(length);
      const rows = Math.ceil(length / cols);
      return new Plane(this, { rows, cols, length, start: at, step, strip: true });
    }
    const [rows, cols] = this.grid.slice(-2);
    const start = this.timeOf(frame) * rows * cols * step + at;
    return new Plane(this, { rows, cols, length: rows * cols, start, step });
  }

  // How often each code is used. Levels of a stack are counted apart, for a number means another
  // thing on each; times and scales together.
  counts(level = 0) {
    const counts = new Map();
    const step = this.depth || 1;
    for (let i = this.depth ? level : 0; i < this.ids.length; i += step) {
      counts.set(this.ids[i], (counts.get(this.ids[i]) ?? 0) + 1);
    }
    return counts;
  }

  get edits() {
    let edits = 0;
    for (let i = 0; i < this.ids.length; i += 1) edits += this.ids[i] !== this.first[i];
    return edits;
  }

  get bits() {
    return this.ids.length * Math.log2(this.codebookSize);
  }
}

class Plane {
  constructor(codes, layout) {
    Object.assign(this, { strip: false, ...layout, codes });
  }

  // Where a cell's code lies among all ids, or -1 where a strip has ended.
  index(row, col) {
    const cell = row * this.cols + col;
    const inside = row >= 0 && col >= 0 && col < this.cols && cell < this.length;
    return inside ? this.start + cell * this.step : -1;
  }

  code(row, col) {
    const index = this.index(row, col);
    return index < 0 ? -1 : this.codes.ids[index];
  }

  edited(row, col) {
    const index = this.index(row, col);
    return index >= 0 && this.codes.ids[index] !== this.codes.first[index];
  }

  // Height and width, in pixels, of what a cell stands for.
  get cell() {
    const { stride, size, scales } = this.codes;
    if (this.strip) return size;
    const [down, across] = stride.slice(-2);
    if (scales.length) return [size[0] / this.rows, size[1] / this.cols];
    return [down, across];
  }

  // The pixels that a cell stands for, [top, left, height, width], cut to the picture.
  box(row, col) {
    const [height, width] = this.codes.size;
    if (this.strip) return [0, 0, height, width];
    const [down, across] = this.cell;
    const [top, left] = [row * down, col * across];
    return [top, left, Math.min(down, height - top), Math.min(across, width - left)];
  }

  // The cell over a pixel.
  at(y, x) {
    const [down, across] = this.cell;
    const row = Math.min(Math.floor(y / down), this.rows - 1);
    return [row, Math.min(Math.floor(x / across), this.cols - 1)];
  }

  // Every cell with this code, [row, col].
  cellsOf(code) {
    const cells = [];
    for (let i = 0; i < this.length; i += 1) {
      if (this.codes.ids[this.start + i * this.step] === code) {
        cells.push([Math.floor(i / this.cols), i % this.cols]);
      }
    }
    return cells;
  }
}

// How many codes would be used if all were used alike: 2 to the entropy.
export function perplexity(counts) {
  let total = 0;
  for (const count of counts.values()) total += count;
  let entropy = 0;
  for (const count of counts.values()) entropy -= (count / total) * Math.log2(count / total);
  return 2 ** entropy;
}
