// Numbers about a picture's codes, in words.

import { perplexity } from "./codes.js";

const whole = new Intl.NumberFormat("en");
export const number = (value, digits = 0) =>
  digits ? value.toFixed(digits) : whole.format(Math.round(value));

export const by = (...sides) => sides.join(" × ");

export const decibels = (value) =>
  value === Infinity ? "no difference" : `${value.toFixed(2)} dB`;

export function bytes(count) {
  if (count < 10_000) return `${number(count)} B`;
  return count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

function shapeText(codes) {
  if (codes.scales.length) return `${codes.scales.length} scales`;
  if (codes.grid.length === 1) return "a sequence";
  return by(...codes.grid) + (codes.depth ? ` cells, ${codes.depth} each` : "");
}

function sizeText(codes, file) {
  const made = Math.ceil(codes.bits / 8);
  const times = file.size / made;
  const less = times >= 1 ? `${number(times, times < 10 ? 1 : 0)} times less` : "more";
  return [bytes(made), `${less} than the ${bytes(file.size)} of ${file.name}`];
}

// [term, text, note] of everything that is known.
export function figures({ codes, level, psnr, file }) {
  const counts = codes.counts(level);
  const on = codes.depth ? ` on level ${level + 1}` : "";
  const [height, width] = codes.size;
  const rows = [
    ["Codes", number(codes.ids.length), shapeText(codes)],
    [`Distinct${on}`, number(counts.size), `of ${number(codes.codebookSize)}`],
    [`Perplexity${on}`, number(perplexity(counts), 1), "2 to the entropy"],
    [
      "Bits a pixel",
      number(codes.bits / (codes.frames * height * width), 4),
      "log2 of the codebook",
    ],
    ["Size", ...sizeText(codes, file)],
  ];
  if (psnr !== null) rows.push(["PSNR", decibels(psnr), "decoded against seen"]);
  return rows;
}

// What the server calls its parts -> what they are to a reader.
const PARTS = { decode: "reading", queue: "waiting", model: "model" };

const span = (milliseconds) =>
  milliseconds === undefined ? "" : milliseconds.toFixed(milliseconds < 10 ? 1 : 0);

// Rows of [name, ...milliseconds of each request].
export function timeRows(requests) {
  const names = [...new Set(requests.flatMap(({ timing }) => timing.map(([name]) => name)))];
  const rows = names.map((name) => [
    PARTS[name] ?? name,
    ...requests.map(({ timing }) => span(timing.find(([part]) => part === name)?.[1])),
  ]);
  return [...rows, ["all, seen here", ...requests.map(({ took }) => span(took))]];
}
