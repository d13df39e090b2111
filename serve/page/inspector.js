// What one cell holds: its code, its pixels, and the codes that could take its place.

import { $, make, fillTerms } from "./dom.js";
import { colour, css, inkOn } from "./colours.js";
import { number } from "./figures.js";
import { imageData } from "./pixels.js";

const SHOWN = 60; // codes in the list until all are asked for

// "row 3, column 11", or "place 5" of a sequence; from 0, as in the codes' JSON.
export function place(plane, [row, col]) {
  return plane.strip ? `place ${row * plane.cols + col}` : `row ${row}, column ${col}`;
}

export function sentence(plane, cell, counts) {
  const code = plane.code(...cell);
  const used = counts.get(code) ?? 0;
  const where = place(plane, cell);
  const often = used === 1 ? "used once here" : `used ${number(used)} times here`;
  const edited = plane.edited(...cell) ? ", swapped" : "";
  return `${where}: code ${code}, ${often}${edited}`;
}

function crop(canvas, pixels, frame, [top, left, height, width]) {
  canvas.parentElement.hidden = !pixels;
  if (!pixels) return;
  canvas.width = Math.max(1, Math.round(width));
  canvas.height = Math.max(1, Math.round(height));
  canvas.getContext("2d").putImageData(imageData(pixels, frame), -left, -top);
}

function span(from, length) {
  const last = Math.ceil(from + length) - 1;
  return last > from ? `${Math.floor(from)}–${last}` : `${Math.floor(from)}`;
}

// The head of the panel: about the cell pointed at, or else the one selected.
export function showCell({ plane, cell, counts, input, output, frame, total }) {
  const code = plane.code(...cell);
  const rgb = colour(code, plane.codes.codebookSize);
  const used = counts.get(code) ?? 0;
  const box = plane.box(...cell);
  $("cell-code").textContent = code;
  $("cell-chip").style.backgroundColor = css(rgb);
  const first = plane.codes.first[plane.index(...cell)];
  fillTerms($("cell-facts"), [
    ["Cell", place(plane, cell)],
    ["Pixels", plane.strip ? "all: no code has a place of its own" : pixelsText(box)],
    ["Used here", usedText(used, total, plane.strip ? "places" : "cells")],
    ["Encoded as", first === code ? "this code" : `code ${first}`],
  ]);
  crop($("patch-input"), input, Math.min(frame, (input?.count ?? 1) - 1), box);
  crop($("patch-output"), output, frame, box);
}

const usedText = (used, total, cells) =>
  `by ${number(used)} of ${number(total)} ${cells} (${((100 * used) / total).toFixed(1)}\u00a0%)`;

const pixelsText = ([top, left, height, width]) => `x ${span(left, width)}, y ${span(top, height)}`;

// Buttons of the codes in use, the most used first.
export class Palette {
  constructor(list, more, { onPick, onHint }) {
    Object.assign(this, { list, more, onPick, onHint, all: false });
    more.addEventListener("click", () => {
      this.all = true;
      this.show(this.counts, this.codebookSize);
    });
  }

  show(counts, codebookSize) {
    Object.assign(this, { counts, codebookSize });
    const sorted = [...counts].sort(([a, n], [b, m]) => m - n || a - b);
    const shown = this.all ? sorted : sorted.slice(0, SHOWN);
    const focused = this.list.contains(document.activeElement) && document.activeElement.value;
    this.list.replaceChildren(...shown.map(([code, count]) => this.item(code, count)));
    // Redrawing took the focus away from the button that was pressed.
    if (focused) this.list.querySelector(`[value="${focused}"]`)?.focus({ preventScroll: true });
    this.more.hidden = shown.length === sorted.length;
    this.more.textContent = `Show all ${number(sorted.length)}`;
  }

  item(code, count) {
    const often = count === 1 ? "once" : `${number(count)} times`;
    const label = `Swap to code ${code}, used ${often}`;
    const button = make("button", { type: "button", value: code, "aria-label": label }, `${code}`);
    const rgb = colour(code, this.codebookSize);
    button.style.backgroundColor = css(rgb);
    button.style.color = inkOn(rgb);
    button.addEventListener("click", () => this.onPick(code));
    button.addEventListener("pointerenter", () => this.onHint(code));
    button.addEventListener("pointerleave", () => this.onHint(null));
    button.addEventListener("focus", () => this.onHint(code));
    button.addEventListener("blur", () => this.onHint(null));
    return make("li", {}, button, make("span", { "aria-hidden": "true" }, `${number(count)}×`));
  }
}
