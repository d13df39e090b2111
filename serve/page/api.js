// Speaks to the server this page came from, and to no other.

const KEY = "vqtok-key";

// What the server, or the way to it, had to say.
export class ServerError extends Error {
  constructor(message, { status = 0, code = "", requestId = "", retryAfter = 0 } = {}) {
    super(message);
    Object.assign(this, { status, code, requestId, retryAfter });
  }
}

// The key lives in this tab alone: sessionStorage ends with it, and is sent nowhere by itself.
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

// "queue;dur=0.3, model;dur=14" -> [["queue", 0.3], ["model", 14]], in milliseconds.
export function timings(header) {
  return (header ?? "").split(",").flatMap((part) => {
    const [name, ...rest] = part.trim().split(";");
    const dur = rest.map((piece) => piece.trim()).find((piece) => piece.startsWith("dur="));
    return name && dur ? [[name, Number(dur.slice(4))]] : [];
  });
}

async function toError(response) {
  const text = await response.text().catch(() => "");
  let told = {};
  try {
    const body = JSON.parse(text);
    told = body.error ?? body.pictures?.[0]?.error ?? {};
  } catch {
    // A proxy in between answers in its own words, which are of no use to a reader.
  }
  return new ServerError(
    told.message ?? `The server answered ${response.status} ${response.statusText}`.trim() + ".",
    {
      status: response.status,
      code: told.code ?? "",
      requestId: told.request_id ?? response.headers.get("x-request-id") ?? "",
      retryAfter: Number(response.headers.get("retry-after")) || 0,
    },
  );
}

// One request. Gives the response, how long it took as seen from here, and what the server timed.
export async function ask(path, { headers = {}, ...options } = {}) {
  const secret = key.get();
  const all = { ...headers, ...(secret ? { Authorization: `Bearer ${secret}` } : {}) };
  const began = performance.now();
  let response;
  try {
    // Relative, so that the page also works behind a proxy that gives it a path of its own.
    response = await fetch(path, { ...options, headers: all });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server cannot be reached. Is it still running?");
  }
  if (!response.ok) throw await toError(response);
  const timing = timings(response.headers.get("server-timing"));
  return { response, timing, took: () => performance.now() - began };
}

export async function models() {
  const { response } = await ask("v1/models");
  return (await response.json()).models;
}

// A file, or raw frames with their shape -> the answer of /encode, and the times.
export async function encode(model, { body, type, shape, signal }) {
  const headers = { "Content-Type": type, Accept: "application/json" };
  if (shape) Object.assign(headers, { "X-VQTok-Shape": shape.join(","), "X-VQTok-Dtype": "uint8" });
  const path = `v1/models/${encodeURIComponent(model)}/encode`;
  const { response, timing, took } = await ask(path, { method: "POST", headers, body, signal });
  const answer = await response.json();
  return { answer, timing, took: took() };
}

// An answer of /encode, codes changed or not -> pixels (count, height, width, 3), and the times.
export async function decode(model, answer, signal) {
  const { response, timing, took } = await ask(`v1/models/${encodeURIComponent(model)}/decode`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/octet-stream" },
    body: JSON.stringify(answer),
    signal,
  });
  const rgb = new Uint8Array(await response.arrayBuffer());
  const shape = (response.headers.get("x-vqtok-shape") ?? "").split(",").map(Number);
  const [height, width] = shape.slice(-3);
  const count = shape.slice(0, -3).reduce((all, one) => all * one, 1);
  if (rgb.length !== count * height * width * 3) {
    throw new ServerError("The server's answer does not have the size that it says.");
  }
  return { pixels: { count, height, width, rgb }, timing, took: took() };
}

// The same -> a film of so many frames a second.
export async function film(model, answer, fps) {
  const query = new URLSearchParams({ format: "mp4", fps });
  const { response } = await ask(`v1/models/${encodeURIComponent(model)}/decode?${query}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(answer),
  });
  return response.blob();
}

// The description that docs.html shows.
export async function openapi() {
  const { response } = await ask("openapi.json");
  return response.json();
}
