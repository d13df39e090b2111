// One picture on its way through a tokenizer: its codes, what came back, and what was swapped.
// Knows the server, not the page; `onChange(what)` tells the page, in words of its own parts.

import * as api from "./api.js";
import { Codes } from "./codes.js";
import { read } from "./frames.js";
import { History } from "./history.js";
import { alike, changes, psnr } from "./pixels.js";

export class Session {
  constructor(facts, onChange) {
    Object.assign(this, { facts, onChange });
  }

  // What preprocessing does; the server's own limit on areas counts where pictures keep their size.
  get settings() {
    const { preprocess, limits } = this.facts;
    const areas = [preprocess.max_area, limits?.max_area].filter(Boolean);
    return { ...preprocess, max_area: areas.length ? Math.min(...areas) : null };
  }

  // source  {name, size, type, body} of a file, or also {shape, pixels} of frames made here
  async load(source) {
    this.cancel();
    const { signal } = this.controller;
    const { answer, timing, took } = await api.encode(this.facts.name, { ...source, signal });
    this.source = source;
    this.codes = new Codes(answer, this.facts);
    this.history = new History(this.codes.ids);
    this.encoding = { timing, took };
    this.input = this.output = this.first = null;
    this.onChange("codes");
    await Promise.all([this.look(), this.decode()]);
  }

  async look() {
    const { source, codes, settings } = this;
    const progress = (count) => this.onChange("reading", count);
    this.input =
      source.pixels ?? (await read(source.body, source.type, codes.frames, settings, progress));
    this.onChange("input");
  }

  // The latest codes win: a request that is still under way for earlier ones is given up.
  async decode() {
    this.cancel();
    const { codes, controller } = this;
    const { pixels, timing, took } = await api.decode(
      this.facts.name,
      codes.toAnswer(),
      controller.signal,
    );
    const before = this.output;
    this.output = pixels;
    this.first ??= pixels;
    this.decoding = { timing, took };
    this.onChange("output");
    return before ? changes(before, pixels) : null;
  }

  // Of what came back against what went in; computed once, for it takes all pixels of a clip.
  get psnr() {
    const [input, output] = this.compared ?? [];
    if (input !== this.input || output !== this.output || !this.compared) {
      this.compared = [this.input, this.output];
      this.decibels = alike(this.input, this.output) ? psnr(this.input, this.output) : null;
    }
    return this.decibels;
  }

  cancel() {
    this.controller?.abort();
    this.controller = new AbortController();
  }

  // Each of these gives what changed in the picture, or null where no code did.
  async swap(list) {
    return this.history.apply(list) ? this.redecode() : null;
  }

  async undo() {
    this.history.undo();
    return this.redecode();
  }

  async redo() {
    this.history.redo();
    return this.redecode();
  }

  async reset() {
    return this.history.reset(this.codes.first) ? this.redecode() : null;
  }

  redecode() {
    this.onChange("swapped");
    return this.decode();
  }
}
