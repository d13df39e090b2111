// The little of Markdown that descriptions use: paragraphs, lists and `code`.

import { make } from "./dom.js";

const inline = (text) =>
  text.split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));

function block(text) {
  const lines = text.split("\n");
  if (!lines.every((line) => /^([-*] |  )/.test(line))) return make("p", {}, ...inline(text));
  const items = text.replace(/\n {2,}/g, " ").split("\n");
  return make("ul", {}, ...items.map((item) => make("li", {}, ...inline(item.slice(2)))));
}

export const prose = (text = "") =>
  text
    .split(/\n\s*\n/)
    .filter((part) => part.trim())
    .map((part) => block(part.trim()));
