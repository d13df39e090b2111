// Small helpers over the document.

export const $ = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A list of terms: [term, text], or [term, text, note].
export function fillTerms(list, rows) {
  list.replaceChildren(
    ...rows.map(([term, text, note]) => {
      const said = make("dd", {}, text);
      if (note) said.append(make("small", {}, note));
      return make("div", {}, make("dt", {}, term), said);
    }),
  );
}

export function fillTable(body, rows) {
  body.replaceChildren(
    ...rows.map(([name, ...cells]) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, name),
        ...cells.map((cell) => make("td", {}, cell)),
      ),
    ),
  );
}

// A group of radio buttons that look like one control.
export function fillChoices(group, name, labels, chosen, onChoose) {
  const legend = group.querySelector("legend");
  const choices = labels.map((label, index) => {
    const input = make("input", { type: "radio", name, value: index });
    input.checked = index === chosen;
    input.addEventListener("change", () => onChoose(index));
    return make("label", {}, input, make("span", {}, label));
  });
  group.replaceChildren(legend, ...choices);
  group.hidden = labels.length < 2;
}
