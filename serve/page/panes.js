// The pictures: what the tokenizer saw, and what came back in one of several ways of looking.

import { alike, difference, emphasised, imageData } from "./pixels.js";
import { View } from "./view.js";

const GAIN = 4; // a difference of 64 levels is shown as the brightest

// Left of the line one, right of it the other.
function wiped(left, right, share) {
  const edge = Math.round(share * left.width);
  const rgb = right.rgb.slice();
  for (let row = 0; row < left.count * left.height; row += 1) {
    const start = row * left.width * 3;
    rgb.set(left.rgb.subarray(start, start + edge * 3), start);
  }
  return { ...right, rgb };
}

const frameOf = (pixels, frame) => {
  const size = pixels.height * pixels.width * 3;
  const rgb = pixels.rgb.subarray(frame * size, (frame + 1) * size);
  return { ...pixels, count: 1, rgb };
};

export class Panes {
  constructor({ input, output }, handlers) {
    this.input = new View(input);
    this.output = new View(output);
    this.input.follow(handlers);
    this.output.follow({
      onMove: (at, event) => {
        if (this.mode === "wipe" && event.buttons && at)
          handlers.onWipe((at[1] + 0.5) / this.width);
        else handlers.onMove(at, event);
      },
      onPress: (at, event) => {
        if (this.mode === "wipe") handlers.onWipe((at[1] + 0.5) / this.width);
        else handlers.onPress(at, event);
      },
    });
  }

  get width() {
    return this.output.image.width;
  }

  // What cannot be compared with, for want of the input or of changes, falls back to the picture.
  picture({ input, output, first, frame, mode, wipe }) {
    const now = frameOf(output, frame);
    if (mode === "edit" && alike(first, output)) return emphasised(now, frameOf(first, frame));
    if (!alike(input, output)) return now;
    if (mode === "wipe") return wiped(frameOf(input, frame), now, wipe);
    if (mode === "difference") return difference(frameOf(input, frame), now, GAIN);
    return now;
  }

  show(state) {
    this.mode = state.mode;
    if (state.input)
      this.input.show(imageData(state.input, Math.min(state.frame, state.input.count - 1)));
    else this.input.clear();
    if (state.output) this.output.show(imageData(this.picture(state)));
    else this.output.clear();
  }

  mark(paint, over) {
    this.input.paint = paint;
    this.output.paint = over ? (...args) => (paint(...args), over(...args)) : paint;
    this.input.repaint();
    this.output.repaint();
  }
}
