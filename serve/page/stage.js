// The pictures, the code map and the panel beside them, kept in step with a session.

import { $, fillChoices, fillTable, fillTerms, make } from "./dom.js";
import { colour } from "./colours.js";
import { by, decibels, figures, number, timeRows } from "./figures.js";
import { Palette, place, sentence, showCell } from "./inspector.js";
import { CodeMap } from "./map.js";
import { cells, divider, numbers } from "./marks.js";
import { Panes } from "./panes.js";

// The paper of style.css, let through to some extent.
const PAPER = { light: "252 252 250", dark: "17 19 22" };

export const NOT_SHOWN = "not shown";

export class Stage {
  // act  {swap(index, code), say(text)}
  constructor(act) {
    this.act = act;
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", () => this.session && this.mark());
    this.reset();
    this.map = new CodeMap($("map"), [$("spoken-a"), $("spoken-b")], {
      onHover: (cell) => this.hover(cell),
      onSelect: (cell, how) => this.select(cell, how),
      onActivate: () => this.activate(),
      onType: (digit) => this.type(digit),
    });
    this.panes = new Panes(
      { input: $("input"), output: $("output") },
      {
        onMove: (at) => this.hover(at && this.plane?.at(...at)),
        onPress: (at) => this.plane && this.select(this.plane.at(...at)),
        onWipe: (share) => this.setWipe(share),
      },
    );
    this.palette = new Palette($("palette"), $("palette-more"), {
      onPick: (code) => this.swap(code),
      onHint: (code) => this.hint(code),
    });
    this.listen();
  }

  reset() {
    Object.assign(this, { frame: 0, scale: 0, level: 0, mode: "output", wipe: 0.5 });
    Object.assign(this, { cursor: null, hinted: null, picking: false, selected: null });
  }

  listen() {
    for (const input of document.querySelectorAll("input[name=mode]")) {
      input.addEventListener("change", () => this.setMode(input.value));
    }
    $("wipe").addEventListener("input", () => this.setWipe($("wipe").value / 100));
    $("swap").addEventListener("submit", (event) => {
      event.preventDefault();
      const typed = document.activeElement === $("new-code");
      if (this.swap(Number($("new-code").value)) && typed) this.focusMap();
    });
    $("new-code").addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation(); // the next one ends the picking of a cell
      this.focusMap();
      this.point(); // forgets what was typed
    });
    $("pick").addEventListener("click", () => this.setPicking(!this.picking));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.picking) this.setPicking(false);
    });
  }

  // --- what is looked at ---------------------------------------------------------------------

  open(session) {
    this.reset();
    this.session = session;
    const { codes } = session;
    this.scale = Math.max(0, codes.scales.length - 1);
    this.setChoice("output");
    fillChoices(
      $("levels"),
      "level",
      Array.from({ length: codes.depth }, (_, i) => `${i + 1}`),
      0,
      (level) => this.turn({ level }),
    );
    fillChoices(
      $("scales"),
      "scale",
      codes.scales.map((sides) => sides.join("×")),
      this.scale,
      (scale) => this.turn({ scale }),
    );
    $("new-code").max = codes.codebookSize - 1;
    this.palette.all = false;
    this.setPicking(false);
    this.setPlane();
    this.selected = [this.plane.rows >> 1, this.plane.cols >> 1];
    $("stage").hidden = false;
    this.dim(false);
    $("wipe-row").hidden = true;
    this.showCodes();
    this.showPictures();
  }

  // Nothing to look at any more.
  close() {
    $("stage").hidden = true;
    this.dim(false);
  }

  // To be seen, but not to be worked on.
  dim(on) {
    $("stage").inert = on;
  }

  turn(change) {
    const time = this.session.codes.timeOf(this.frame);
    Object.assign(this, change);
    const same = "frame" in change && this.session.codes.timeOf(this.frame) === time;
    if (!same) this.showCodes();
    if ("frame" in change) this.showPictures();
  }

  setPlane() {
    this.plane = this.session.codes.plane(this);
    this.cursor = null;
    const [row, col] = this.selected ?? [0, 0];
    const inside = [Math.min(row, this.plane.rows - 1), Math.min(col, this.plane.cols - 1)];
    this.selected = this.plane.index(...inside) < 0 ? [0, 0] : inside;
  }

  showCodes() {
    const { codes } = this.session;
    this.setPlane();
    this.counts = codes.counts(this.level);
    this.total = codes.ids.length / (codes.depth || 1);
    this.map.show(this.plane);
    this.palette.show(this.counts, codes.codebookSize);
    $("map-note").textContent = this.mapNote();
    this.point();
    this.showFigures();
  }

  mapNote() {
    const { codes } = this.session;
    const size = this.plane.strip
      ? `${this.plane.length} in a sequence`
      : by(this.plane.rows, this.plane.cols);
    const time = `${size}, time ${codes.timeOf(this.frame)} of 0–${codes.times - 1}`;
    return codes.times > 1 ? time : size;
  }

  showPictures() {
    const { input, output, first } = this.session;
    if (this.mode === "edit" && !this.session.codes.edits) this.setChoice("output");
    const comparable = this.session.psnr !== null;
    this.panes.show({ input, output, first, frame: this.frame, mode: this.mode, wipe: this.wipe });
    const [height, width] = this.session.codes.size;
    const where = make("span", { class: "wide" }, ", as the tokenizer sees it");
    $("input-note").replaceChildren(...(input ? [by(width, height), where] : [this.inputNote]));
    this.showMissing();
    $("output-note").textContent = comparable ? `${decibels(this.session.psnr)} PSNR` : "";
    $("mode-wipe").disabled = $("mode-difference").disabled = !comparable;
    $("edit-choice").hidden = !this.session.codes.edits;
    this.point();
    this.showFigures();
  }

  // Where the browser cannot read what the server could, words stand in the picture's place.
  showMissing() {
    const { input, source, codes } = this.session;
    const missing = this.inputNote === NOT_SHOWN && !input;
    $("no-input").hidden = !missing;
    $("no-input").textContent = missing
      ? `This browser cannot show ${source.name}. The server has read it: codes and decoded ` +
        `${codes.frames > 1 ? "clip" : "picture"} are right, but there is nothing to compare with.`
      : "";
  }

  showFigures() {
    const { codes, psnr, source, encoding, decoding } = this.session;
    fillTerms($("figures"), figures({ codes, level: this.level, psnr, file: source }));
    fillTable($("times"), timeRows([encoding, decoding ?? { timing: [] }]));
    const { edits } = codes;
    $("edits").textContent = edits ? `${number(edits)} swapped` : "";
  }

  setChoice(mode) {
    this.mode = mode;
    document.querySelector(`input[name=mode][value=${mode}]`).checked = true;
  }

  // --- modes -----------------------------------------------------------------------------------

  setMode(mode) {
    this.mode = mode;
    $("wipe-row").hidden = mode !== "wipe";
    this.showPictures();
  }

  setWipe(share) {
    this.wipe = Math.min(Math.max(share, 0), 1);
    $("wipe").value = Math.round(100 * this.wipe);
    this.showPictures();
  }

  setPicking(on) {
    this.picking = on;
    $("pick").setAttribute("aria-pressed", on);
    $("stage").classList.toggle("picking", on);
    if (on) {
      this.act.say("Choose the cell whose code to take: press it, or walk there and press Enter.");
      this.focusMap();
    } else if (this.session) this.hover(null);
  }

  // --- cells -----------------------------------------------------------------------------------

  hover(cell) {
    const inside = cell && this.plane.index(...cell) >= 0 ? cell : null;
    if (String(inside) === String(this.cursor)) return;
    this.cursor = inside;
    this.point();
  }

  select(cell, { walked = false } = {}) {
    if (this.picking && !walked) {
      this.swap(this.plane.code(...cell));
      return;
    }
    // While a code is picked, the selected cell waits for it: only the cursor moves.
    if (this.picking) this.cursor = cell;
    else Object.assign(this, { selected: cell, cursor: null });
    this.point();
  }

  activate() {
    if (this.picking) this.swap(this.plane.code(...(this.cursor ?? this.selected)));
    else {
      $("new-code").focus();
      $("new-code").select();
    }
  }

  type(digit) {
    $("new-code").value = digit;
    $("new-code").focus();
  }

  focusMap() {
    $("map").focus({ preventScroll: true });
  }

  hint(code) {
    this.hinted = code;
    this.mark();
  }

  swap(code) {
    const index = this.plane.index(...this.selected);
    if (this.picking) this.setPicking(false);
    return this.act.swap(index, code, place(this.plane, this.selected));
  }

  // The panel, the line under the map and the marks, for where cursor and selection are.
  point() {
    const { plane, counts, total, frame } = this;
    const { input, output } = this.session;
    const cell = this.cursor ?? this.selected;
    const text = sentence(plane, cell, counts);
    this.map.point(cell, text);
    $("readout").textContent = text;
    showCell({ plane, cell, counts, input, output, frame, total });
    $("swap-label").textContent = `New code for ${place(plane, this.selected)}`;
    if (document.activeElement !== $("new-code"))
      $("new-code").value = plane.code(...this.selected);
    this.mark();
  }

  mark() {
    const { plane, codes = this.session.codes } = this;
    const shown = this.hinted ?? plane.code(...(this.cursor ?? this.selected));
    const alikeCells = plane.cellsOf(shown);
    const paper = PAPER[this.dark.matches ? "dark" : "light"];
    const pointing = this.cursor || this.hinted !== null;
    this.markMap(alikeCells, pointing && `rgb(${paper} / 78%)`, codes);
    const box = (cell) => cell && !plane.strip && plane.box(...cell);
    const paint = cells({
      boxes: plane.strip ? [] : alikeCells.map(box),
      cursor: box(this.cursor),
      selected: box(this.selected),
      shade: pointing && `rgb(${paper} / 50%)`,
    });
    const line = this.mode === "wipe" && this.session.output;
    this.panes.mark(paint, line && divider(this.wipe, this.session.output.width));
  }

  markMap(alikeCells, shade, codes) {
    const { plane } = this;
    const unit = (cell) => cell && [...cell, 1, 1];
    const edited = [];
    for (let i = 0; codes.edits && i < plane.length; i += 1) {
      const cell = [Math.floor(i / plane.cols), i % plane.cols];
      if (plane.edited(...cell)) edited.push(unit(cell));
    }
    const paint = cells({
      boxes: alikeCells.map(unit),
      cursor: unit(this.cursor),
      selected: unit(this.selected),
      edited,
      shade,
    });
    const write = numbers(plane, (code) => colour(code, codes.codebookSize));
    this.map.view.paint = (...args) => (write(...args), paint(...args));
    this.map.view.repaint();
  }
}
