// A picture of our own, drawn anew each time: smooth sky, hard edges, fine texture and small
// details, so that each kind of loss shows. `phase` from 0 to 1 moves it, for clips.

// The same every time, unlike Math.random.
function noise(seed) {
  let now = seed;
  return () => {
    now = (Math.imul(now, 1664525) + 1013904223) >>> 0;
    return now / 2 ** 32;
  };
}

function sky(g, phase) {
  const light = g.createLinearGradient(0, 0, 0, 640);
  light.addColorStop(0, "#1f3a5f");
  light.addColorStop(0.55, "#e08e79");
  light.addColorStop(1, "#f7d9a8");
  g.fillStyle = light;
  g.fillRect(0, 0, 1000, 640);
  g.fillStyle = "#fff4d6";
  g.beginPath();
  g.arc(690, 300 + 160 * phase, 74, 0, 2 * Math.PI);
  g.fill();
}

function ridge(g, { base, height, shade, seed }) {
  const random = noise(seed);
  const bumps = Array.from({ length: 5 }, (_, i) => [(i + 1) * 0.0021, random() * 7, 1 / (i + 1)]);
  g.fillStyle = shade;
  g.beginPath();
  g.moveTo(0, 1000);
  for (let x = 0; x <= 1000; x += 4) {
    const rise = bumps.reduce((sum, [f, p, a]) => sum + a * Math.sin(2 * Math.PI * f * x + p), 0);
    g.lineTo(x, base - height * (0.5 + rise / 3));
  }
  g.lineTo(1000, 1000);
  g.fill();
}

function water(g, phase) {
  g.fillStyle = "#2a5673";
  g.fillRect(0, 640, 1000, 360);
  const random = noise(7);
  for (let i = 0; i < 420; i += 1) {
    const y = 645 + 350 * random() ** 1.5;
    const x = (random() * 1100 + 80 * phase * (y / 640)) % 1100;
    const near = Math.abs(x - 690) < 40 + (y - 640) / 3;
    g.fillStyle = near ? "#ffd9a0" : random() < 0.5 ? "#3d7391" : "#1f435c";
    g.fillRect(x - 50, y, 20 + random() * (y - 600) * 0.25, 2 + (y - 640) / 90);
  }
}

function boat(g, phase) {
  const x = 150 + 240 * phase;
  g.fillStyle = "#7b1e2b";
  g.beginPath();
  g.moveTo(x, 740);
  g.lineTo(x + 210, 740);
  g.lineTo(x + 170, 790);
  g.lineTo(x + 40, 790);
  g.fill();
  g.fillStyle = "#f4efe4";
  g.beginPath();
  g.moveTo(x + 100, 470);
  g.lineTo(x + 100, 725);
  g.lineTo(x + 205, 725);
  g.fill();
  g.fillStyle = "#d8573c";
  g.beginPath();
  g.moveTo(x + 88, 520);
  g.lineTo(x + 88, 725);
  g.lineTo(x + 14, 725);
  g.fill();
  g.font = "bold 34px sans-serif";
  g.fillStyle = "#f4efe4";
  g.fillText("VQ", x + 72, 778);
}

export function draw(side, phase = 0) {
  const canvas = document.createElement("canvas");
  canvas.width = side;
  canvas.height = side;
  const g = canvas.getContext("2d");
  g.scale(side / 1000, side / 1000);
  sky(g, phase);
  ridge(g, { base: 620, height: 260, shade: "#6b5b7b", seed: 3 });
  ridge(g, { base: 660, height: 130, shade: "#3b3f5c", seed: 11 });
  water(g, phase);
  boat(g, phase);
  return canvas;
}

export async function file(side) {
  const canvas = draw(side);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  return new File([blob], "sample.png", { type: "image/png" });
}

export const clip = (side, count) =>
  Array.from({ length: count }, (_, i) =>
    draw(side, i / Math.max(1, count - 1))
      .getContext("2d")
      .getImageData(0, 0, side, side),
  );
