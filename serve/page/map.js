// The code map: a cell for every code, walked over by pointer and keyboard.

import { colour } from "./colours.js";
import { View } from "./view.js";

// The cell that a key leads to, or null where it is not one of moving.
function step(plane, [row, col], { key, ctrlKey, metaKey }) {
  const far = ctrlKey || metaKey;
  const moves = {
    ArrowUp: [row - 1, col],
    ArrowDown: [row + 1, col],
    ArrowLeft: [row, col - 1],
    ArrowRight: [row, col + 1],
    Home: [far ? 0 : row, 0],
    End: [far ? plane.rows - 1 : row, plane.cols - 1],
    PageUp: [row - 8, col],
    PageDown: [row + 8, col],
  };
  const to = moves[key];
  if (!to) return null;
  const last = Math.ceil(plane.length / plane.cols) - 1;
  const r = Math.min(Math.max(to[0], 0), last);
  const end = Math.min(plane.cols, plane.length - r * plane.cols) - 1;
  return [r, Math.min(Math.max(to[1], 0), end)];
}

// The next cell with the code of this one, around the end; back with `back`.
function sibling(plane, [row, col], back) {
  const cells = plane.cellsOf(plane.code(row, col));
  const at = cells.findIndex(([r, c]) => r === row && c === col);
  return cells.at((at + (back ? -1 : 1)) % cells.length);
}

function image(plane) {
  const made = new ImageData(plane.cols, plane.rows);
  for (let i = 0; i < plane.length; i += 1) {
    const code = plane.codes.ids[plane.start + i * plane.step];
    made.data.set([...colour(code, plane.codes.codebookSize), 255], 4 * i);
  }
  return made;
}

// root    gets the canvas, the focus and the role of a grid
// spoken  two hidden cells, named in turn: a reader speaks when the active one is another
export class CodeMap {
  constructor(root, spoken, { onHover, onSelect, onActivate, onType }) {
    this.root = root;
    this.spoken = spoken;
    this.view = new View(root);
    this.view.follow({
      onMove: (at) => onHover(at && this.cell(at)),
      onPress: (at) => {
        root.focus({ preventScroll: true });
        if (this.cell(at)) onSelect(this.cell(at));
      },
    });
    root.addEventListener("keydown", (event) => {
      if (!this.plane) return;
      const to = this.target(event);
      if (to) onSelect(to, { walked: true });
      else if (event.key === "Enter" || event.key === " ") onActivate();
      else if (/^[0-9]$/.test(event.key) && !event.ctrlKey && !event.metaKey) onType(event.key);
      else return;
      event.preventDefault();
    });
  }

  target(event) {
    if (!event.ctrlKey && !event.metaKey && !event.altKey && /^[np]$/i.test(event.key)) {
      return sibling(this.plane, this.at, event.key.toLowerCase() === "p");
    }
    return step(this.plane, this.at, event);
  }

  cell([row, col]) {
    return this.plane.index(row, col) < 0 ? null : [row, col];
  }

  show(plane) {
    this.plane = plane;
    this.root.setAttribute("aria-rowcount", plane.rows);
    this.root.setAttribute("aria-colcount", plane.cols);
    // A sequence stands in lines, like text, with cells wide enough for their numbers.
    this.view.show(image(plane), (plane.cols / plane.rows) * (plane.strip ? 1.6 : 1));
  }

  // Which cell the keyboard is on, and what a screen reader says of it.
  point([row, col], text) {
    this.at = [row, col];
    const now = this.spoken.find(
      (cell) => cell.id !== this.root.getAttribute("aria-activedescendant"),
    );
    now.textContent = text;
    now.setAttribute("aria-colindex", col + 1);
    now.parentElement.setAttribute("aria-rowindex", row + 1);
    this.root.setAttribute("aria-activedescendant", now.id);
  }
}
