// Plays the frames of a clip, original and reconstruction together.

import { $ } from "./dom.js";

const RATE = 25; // frames a second, as the server has it; files do not tell theirs to a page

export class Player {
  constructor(onFrame) {
    this.onFrame = onFrame;
    this.timer = 0;
    $("frame").addEventListener("input", () => {
      this.stop();
      this.go(Number($("frame").value));
    });
    $("play").addEventListener("click", () => (this.timer ? this.stop() : this.start()));
    $("fps").addEventListener("change", () => this.timer && this.start());
  }

  // Frames a second, also of clips that are taken along.
  get fps() {
    const { valueAsNumber, validity } = $("fps");
    return validity.valid && valueAsNumber ? valueAsNumber : RATE;
  }

  open(count) {
    this.stop();
    this.count = count;
    $("clip").hidden = $("save-clip").hidden = count < 2;
    $("frame").max = count - 1;
    this.show(0);
  }

  show(frame) {
    this.frame = frame;
    $("frame").value = frame;
    $("frame-note").textContent = `frame ${frame} of 0–${this.count - 1}`;
  }

  go(frame) {
    this.show(frame);
    this.onFrame(frame);
  }

  start() {
    this.stop();
    $("play").textContent = "Pause";
    this.timer = setInterval(() => this.go((this.frame + 1) % this.count), 1000 / this.fps);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    $("play").textContent = "Play";
  }
}
