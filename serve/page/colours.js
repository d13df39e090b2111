// A colour for every code, the same on every picture and in every visit.

// Steps of these two spread points evenly over a square, whatever their number, so that codes near
// each other in number are far apart in hue, lightness or both.
const STEPS = [0.7548776662466927, 0.5698402909980532];
const LARGE = 4096; // above, neighbouring numbers need not look different, only stable

function hash(code) {
  let mixed = Math.imul(code ^ (code >>> 16), 0x45d9f3b);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x45d9f3b);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

const gamma = (x) => (x <= 0.0031308 ? 12.92 * x : 1.055 * x ** (1 / 2.4) - 0.055);
const byte = (x) => Math.round(255 * gamma(Math.min(1, Math.max(0, x))));

// Oklch keeps colours of one lightness equally light to the eye, as HSL does not.
function oklch(lightness, chroma, turn) {
  const [a, b] = [Math.cos(turn * 2 * Math.PI) * chroma, Math.sin(turn * 2 * Math.PI) * chroma];
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    byte(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    byte(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    byte(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ];
}

// [red, green, blue] of a code in a codebook of this size.
export function colour(code, codebookSize) {
  const number = codebookSize > LARGE ? hash(code) % 65521 : code;
  const [turn, light] = STEPS.map((step) => (number * step) % 1);
  const lightness = 0.42 + 0.46 * light;
  // Very light and very dark colours exist only paler.
  const chroma = 0.14 - 0.16 * Math.abs(lightness - 0.65);
  return oklch(lightness, chroma, turn);
}

export const css = (rgb) => `rgb(${rgb.join(" ")})`;

// Black or white, whichever is read better on the colour.
export function inkOn([red, green, blue]) {
  const [r, g, b] = [red, green, blue].map((x) => (x / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}
