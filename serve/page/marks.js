// Marks over pictures and the code map: boxes are [top, left, height, width] in picture pixels.

import { css, inkOn } from "./colours.js";

const onScreen = ([top, left, height, width], [down, across]) => [
  left * across,
  top * down,
  width * across,
  height * down,
];

// Dark and light together, so that it is seen on any picture.
function ring(context, box, unit, thick) {
  const edge = thick / 2 + 1;
  const [left, top, across, down] = onScreen(box, unit);
  // Along the picture's edge it moves inwards, where half of it would be cut off.
  const x = Math.max(left, edge);
  const y = Math.max(top, edge);
  const width = Math.min(left + across, unit[1] * unit.width - edge) - x;
  const height = Math.min(top + down, unit[0] * unit.height - edge) - y;
  context.lineWidth = thick + 2;
  context.strokeStyle = "rgb(0 0 0 / 85%)";
  context.strokeRect(x, y, width, height);
  context.lineWidth = thick;
  context.strokeStyle = "#fff";
  context.strokeRect(x, y, width, height);
}

// Everything but the boxes steps back.
function veil(context, boxes, unit, colour) {
  const { width, height } = context.canvas;
  context.save();
  context.beginPath();
  context.rect(0, 0, width, height);
  for (const box of boxes) context.rect(...onScreen(box, unit));
  context.fillStyle = colour;
  context.fill("evenodd");
  context.restore();
}

function corner(context, box, unit) {
  const [x, y, width, height] = onScreen(box, unit);
  const side = Math.max(4, Math.min(width, height) / 2.5);
  context.beginPath();
  context.moveTo(x + width, y);
  context.lineTo(x + width, y + side);
  context.lineTo(x + width - side, y);
  context.fillStyle = "#000";
  context.fill();
  context.lineWidth = 1;
  context.strokeStyle = "#fff";
  context.stroke();
}

// boxes     cells of one code, which stand out
// cursor    the cell pointed at
// selected  the cell that a swap changes
// edited    cells that are no longer the encoder's
export function cells({ boxes = [], cursor, selected, edited = [], shade }) {
  return (context, unit) => {
    if (shade && boxes.length) veil(context, boxes, unit, shade);
    for (const box of edited) corner(context, box, unit);
    if (selected) ring(context, selected, unit, 2);
    if (cursor) ring(context, cursor, unit, 1.5);
  };
}

// The numbers themselves, where cells are large enough to hold them.
export function numbers(plane, colourOf) {
  return (context, [down, across]) => {
    const size = Math.min(12, across / 2.9, down / 1.5);
    if (size < 8) return;
    context.font = `${size}px ui-monospace, "DejaVu Sans Mono", monospace`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let row = 0; row < plane.rows; row += 1) {
      for (let col = 0; col < plane.cols; col += 1) {
        const code = plane.code(row, col);
        if (code < 0) continue;
        context.fillStyle = inkOn(colourOf(code));
        context.fillText(code, (col + 0.5) * across, (row + 0.5) * down, across - 2);
      }
    }
  };
}

// A line between two halves.
export const divider = (share, width) => (context, unit) => {
  const x = share * width * unit[1];
  context.fillStyle = css([0, 0, 0]);
  context.fillRect(x - 2, 0, 4, context.canvas.height);
  context.fillStyle = css([255, 255, 255]);
  context.fillRect(x - 1, 0, 2, context.canvas.height);
};
