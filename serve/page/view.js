// A picture on the page: one canvas holds its pixels, one above it is drawn on in screen pixels.

export class View {
  constructor(root) {
    this.root = root;
    this.base = document.createElement("canvas");
    this.marks = document.createElement("canvas");
    this.marks.className = "marks";
    for (const canvas of [this.base, this.marks]) canvas.setAttribute("aria-hidden", "true");
    root.append(this.base, this.marks);
    this.paint = () => {};
    new ResizeObserver(() => this.repaint()).observe(root);
  }

  get empty() {
    return !this.image;
  }

  // `ratio` is width by height on the screen, where pixels are not to be square.
  show(image, ratio = image.width / image.height) {
    this.image = image;
    this.base.width = image.width;
    this.base.height = image.height;
    this.base.getContext("2d").putImageData(image, 0, 0);
    this.root.style.aspectRatio = String(ratio);
    this.repaint();
  }

  clear() {
    this.image = null;
    this.base.width = this.base.width; // empties it
    this.repaint();
  }

  // `paint(context, unit)` draws above the picture; `unit` is a pixel's [height, width] on screen,
  // and has the picture's `height` and `width` in pixels.
  repaint() {
    const { clientHeight: height, clientWidth: width } = this.root;
    const dense = window.devicePixelRatio || 1;
    this.marks.height = Math.round(height * dense);
    this.marks.width = Math.round(width * dense);
    const context = this.marks.getContext("2d");
    context.scale(dense, dense);
    if (this.image && width) {
      const unit = [height / this.image.height, width / this.image.width];
      const { height: down, width: across } = this.image;
      this.paint(context, Object.assign(unit, { height: down, width: across }));
    }
  }

  // Where a pointer is, in the picture's pixels, [y, x].
  locate(event) {
    const box = this.root.getBoundingClientRect();
    const y = ((event.clientY - box.top) / box.height) * this.image.height;
    const x = ((event.clientX - box.left) / box.width) * this.image.width;
    const inside = (value, length) => Math.min(Math.max(Math.floor(value), 0), length - 1);
    return [inside(y, this.image.height), inside(x, this.image.width)];
  }

  // Calls back with [y, x] as a pointer moves over, null as it leaves, and on a press.
  follow({ onMove, onPress }) {
    const quiet = (event) => this.empty || event.pointerType === "touch";
    this.root.addEventListener("pointermove", (event) => {
      if (!quiet(event)) onMove(this.locate(event), event);
    });
    this.root.addEventListener("pointerleave", (event) => {
      if (!quiet(event)) onMove(null, event);
    });
    this.root.addEventListener("pointerdown", (event) => {
      if (!this.empty && event.button === 0) onPress(this.locate(event), event);
    });
  }
}
