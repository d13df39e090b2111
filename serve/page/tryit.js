// A form for each operation: sends what its fields say, and shows what comes back.

import { ask } from "./api.js";
import { make } from "./dom.js";
import { bytes, number } from "./figures.js";
import { typeOf } from "./source.js";

const SHOWN = 4000; // characters of an answer

// One of several words, or none of them.
function choice({ name, schema }) {
  const options = ["", ...schema.enum].map((one) =>
    make("option", { value: one }, one || "default"),
  );
  return make("label", {}, `${name} `, make("select", { name }, ...options));
}

// A file, or JSON where no files are taken; with what its body is then.
function bodyField(content) {
  if (Object.keys(content).some((type) => type.startsWith("image/"))) {
    const input = make("input", { type: "file", required: "" });
    const read = () => ({ body: input.files[0], type: typeOf(input.files[0]) });
    return { field: make("label", {}, "File ", input), read };
  }
  const example = Object.values(content["application/json"]?.examples ?? {})[0]?.value ?? {};
  const input = make("textarea", { rows: 2, spellcheck: "false" }, JSON.stringify(example));
  const read = () => ({ body: input.value, type: "application/json" });
  return { field: make("label", {}, "Body, JSON ", input), read };
}

const cut = (text) =>
  text.length > SHOWN
    ? `${text.slice(0, SHOWN)} … ${number(text.length - SHOWN)} characters more`
    : text;

async function shown(response) {
  const type = (response.headers.get("content-type") ?? "").split(";")[0];
  const blob = await response.blob();
  const head = make("p", { class: "quiet" }, `${response.status}, ${type}, ${bytes(blob.size)}`);
  if (type.endsWith("json") || type.startsWith("text/")) {
    return [head, make("pre", { tabindex: 0 }, cut(await blob.text()))];
  }
  const link = { href: URL.createObjectURL(blob), download: `answer.${type.split(/[/-]/).pop()}` };
  const kept = make("p", {}, make("a", link, `Save ${link.download}`));
  const picture = type.startsWith("image/") ? [make("img", { src: link.href, alt: type })] : [];
  return [head, ...picture, kept];
}

// What can be sent from here: no path with a name to fill in, and no pages.
const can = ({ path, responses = {} }, resolve) =>
  !path.includes("{") &&
  !Object.values(responses).some((one) => "text/html" in (resolve(one).content ?? {}));

// operation  with its parameters and answers; `resolve` follows references of the description
export function tryIt(operation, content, resolve) {
  if (!can(operation, resolve)) return [];
  const { path, method, parameters } = operation;
  const asked = parameters.filter((one) => one.in === "query" && one.schema?.enum);
  const { field, read } = method === "post" ? bodyField(content) : {};
  const send = make("button", { type: "submit" }, "Send");
  const answer = make("div", { class: "answer", role: "status" });
  const form = make("form", {}, ...(field ? [field] : []), ...asked.map(choice), send);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    const { body, type } = read?.() ?? {};
    const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    const url = `${path.slice(1)}${query.size ? `?${query}` : ""}`;
    const headers = type ? { "Content-Type": type } : {};
    try {
      const { response } = await ask(url, { method: method.toUpperCase(), headers, body });
      answer.replaceChildren(...(await shown(response)));
    } catch (error) {
      answer.replaceChildren(make("p", { class: "wrong" }, `${error.status || ""} ${error.message}`));
    }
    send.disabled = false;
  });
  return [make("details", { class: "try" }, make("summary", {}, "Try it"), form, answer)];
}
