// Plays the frames of a clip, original and reconstruction together.

import { $ } from "./dom.js";

const RATE = 12; // frames a second; files do not tell theirs to a page

export class Player {
  constructor(onFrame) {
    this.onFrame = onFrame;
    this.timer = 0;
    $("frame").addEventListener("input", () => {
      this.stop();
      this.go(Number($("frame").value));
    });
    $("play").addEventListener("click", () => (this.timer ? this.stop() : this.start()));
  }

  open(count) {
    this.stop();
    this.count = count;
    $("clip").hidden = count < 2;
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
    $("play").textContent = "Pause";
    this.timer = setInterval(() => this.go((this.frame + 1) % this.count), 1000 / RATE);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    $("play").textContent = "Play";
  }
}
