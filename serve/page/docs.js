// Renders /openapi.json for people, each operation with lines to paste into a shell.

import * as api from "./api.js";
import { curls } from "./curl.js";
import { $, fillTerms, make } from "./dom.js";
import { prose } from "./prose.js";
import { tryIt } from "./tryit.js";

const METHODS = ["get", "post", "put", "delete"];
const base = new URL(".", document.baseURI).href.replace(/\/$/, "");

// {"$ref": "#/components/responses/Busy"} -> what it stands for.
function resolved(document, value) {
  if (!value?.$ref) return value ?? {};
  const path = value.$ref.replace("#/", "").split("/");
  return resolved(
    document,
    path.reduce((at, name) => at?.[name], document),
  );
}

const id = (method, path) => `${method}${path.replace(/[^a-z0-9]+/gi, "-")}`.replace(/-$/, "");

// The path that asks the first model for the same; "" where there is none.
const shorter = (path) => (path.includes("/models/{") ? path.replace(/\/models\/\{\w+\}/, "") : "");

// Each with the other path that it has, of several models, in `also`.
function operations(document) {
  const all = Object.entries(document.paths);
  const twins = new Map(all.map(([path]) => [shorter(path), path]));
  const shown = all.filter(([path]) => !(shorter(path) in document.paths));
  return shown.flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => {
      const { parameters = [], ...operation } = item[method];
      const all = [...(item.parameters ?? []), ...parameters];
      const named = all.map((one) => resolved(document, one));
      return { path, method, also: twins.get(path), ...operation, parameters: named };
    }),
  );
}

function copyable(line) {
  const button = make("button", { type: "button", "aria-label": `Copy: ${line}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(line);
      $("status").textContent = "Copied.";
      button.textContent = "Copied";
    } catch {
      $("status").textContent = "This browser does not let the page copy.";
    }
  });
  const pre = make("pre", {}, line);
  return make("div", { class: "curl" }, pre, button);
}

function terms(title, rows) {
  if (!rows.length) return [];
  const list = make("dl", { class: "terms" });
  fillTerms(list, rows);
  return [make("h3", {}, title), list];
}

// What most readers skip.
function folded(title, rows) {
  const [, list] = terms(title, rows);
  if (!list) return [];
  return [
    make("details", {}, make("summary", {}, `${title}: ${rows.map(([s]) => s).join(" ")}`), list),
  ];
}

const plain = (text = "") => text.replaceAll("`", "").trim();

function values({ enum: choices, type, default: standard }) {
  const parts = [choices ? choices.join(" | ") : [type].flat().filter(Boolean).join(" or ")];
  if (standard !== undefined) parts.push(`by default ${JSON.stringify(standard)}`);
  return parts.filter(Boolean).join(", ");
}

const parameterRow = ({ name, in: place, required, description, schema = {} }) => [
  name,
  plain(description) || values(schema),
  [place, required ? "required" : "", description ? values(schema) : ""]
    .filter(Boolean)
    .join(" · "),
];

const media = (content) => Object.keys(content ?? {}).join(", ");

// Files of a kind differ in nothing that a reader needs to know, so they share a row.
function mediaRows(document, content) {
  const rows = Object.entries(content).map(([type, { schema }]) => {
    const { description, title } = resolved(document, schema);
    const [family, ending] = type.split("/");
    if (["image", "video"].includes(family)) return [`${family}/…`, "a file", ending];
    return [type, plain(description) || title || (schema?.$ref ?? "").split("/").pop() || "bytes"];
  });
  const families = Map.groupBy(rows, ([type]) => type);
  return [...families].map(([type, [[, text, ending], ...rest]]) => {
    const endings = [ending, ...rest.map(([, , other]) => other)].join(", ");
    return [type, ending ? `${text}: ${endings}` : text];
  });
}

function article(document, operation) {
  const { path, method, also, summary = "", description = "", parameters, requestBody } = operation;
  const body = resolved(document, requestBody).content ?? {};
  const answers = Object.entries(operation.responses ?? {}).map(([status, response]) => {
    const { description: meaning, content } = resolved(document, response);
    return [status, plain(meaning), status < "400" ? media(content) : ""];
  });
  const [good, bad] = [answers.filter(([s]) => s < "400"), answers.filter(([s]) => s >= "400")];
  return make(
    "article",
    { "aria-labelledby": id(method, path) },
    make(
      "h2",
      { id: id(method, path) },
      make("span", { class: "method" }, method.toUpperCase()),
      " ",
      make("code", {}, path),
    ),
    make(
      "div",
      { class: "text" },
      make("p", {}, plain(summary)),
      ...prose(description),
      ...(also
        ? [make("p", { class: "quiet" }, "To ask another tokenizer, name it: ", make("code", {}, also))]
        : []),
    ),
    ...curls(base, operation, body, Boolean(document.security?.length)).map(copyable),
    ...tryIt(operation, body, (one) => resolved(document, one)),
    ...terms("Parameters and headers", parameters.map(parameterRow)),
    ...terms("Body", mediaRows(document, body)),
    ...terms("Answers", good),
    ...folded("Errors", bad),
  );
}

async function start() {
  const document = await api.openapi();
  const { title, version, description } = document.info;
  $("title").textContent = title;
  $("version").textContent = `version ${version}, OpenAPI ${document.openapi}`;
  $("intro").replaceChildren(...prose(description));
  const all = operations(document);
  const links = all.map(({ method, path }) =>
    make(
      "li",
      {},
      make("span", { class: "method" }, method.toUpperCase()),
      " ",
      make("a", { href: `#${id(method, path)}` }, path),
    ),
  );
  $("contents").replaceChildren(make("ul", {}, ...links));
  $("operations").replaceChildren(...all.map((operation) => article(document, operation)));
  if (document.security?.length) await api.models(); // or the key is still to come
}

async function attempt() {
  try {
    await start();
    $("key-form").hidden = true;
  } catch (error) {
    if (error.status === 401) askKey();
    else {
      $("error").hidden = false;
      $("error").textContent = error.message;
    }
  }
  document.body.setAttribute("aria-busy", "false");
}

function askKey() {
  $("key-label").textContent = api.key.get()
    ? "The server did not take this key; try another"
    : "This server asks for a key";
  $("key-form").hidden = false;
  $("key").focus();
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  api.key.set($("key").value.trim());
  attempt();
});
attempt();
