// The page: which tokenizer, which picture, and what is said about how it goes.

import * as api from "./api.js";
import { $, fillTerms, make } from "./dom.js";
import { bytes, by, number } from "./figures.js";
import { Player } from "./player.js";
import { fromImageData } from "./pixels.js";
import * as sample from "./sample.js";
import { Session } from "./session.js";
import * as source from "./source.js";
import { NOT_SHOWN, Stage } from "./stage.js";
import * as take from "./take.js";

const REFUSED = [400, 413, 415, 422];
const SIDE = 256; // of the sample: at least, or where pictures keep their size

// The precisions that the server names -> the numbers that these are.
const ARITHMETIC = {
  ieee32: "float32",
  tf32: "TF32",
  bf16: "bfloat16",
  fp16: "float16",
};

let models = [];
let session = null;
let pending = null; // the session that is to take its place, once the server has answered
let last = null; // the file that was tokenized last; null of the sample, which each one draws anew
let busy = 0;

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const say = (text) => {
  $("status").textContent = text;
};

// --- errors ----------------------------------------------------------------------------------

function fail(error, again, about) {
  if (error.name === "AbortError") return;
  say("");
  if (error.status === 401) {
    askKey(again);
    return;
  }
  $("error").hidden = false;
  // What the server will not take is the file's fault; that it cannot be reached is not.
  const refused = about && REFUSED.includes(error.status);
  const text = refused ? `${about}: ${error.message}` : capital(error.message);
  $("error-text").textContent = /[.?!]$/.test(text) ? text : `${text}.`;
  const wait = error.retryAfter ? `Try again in ${error.retryAfter} s.` : "";
  const id = error.requestId ? `Request ${error.requestId}.` : "";
  $("error-more").textContent = [wait, id].filter(Boolean).join(" ");
  $("again").onclick = again;
  if (!(error instanceof api.ServerError)) throw error; // a fault of the page: to the console, too
}

function askKey(again) {
  $("key-form").hidden = false;
  $("key-label").textContent = api.key.get()
    ? "The server did not take this key; try another"
    : "This server asks for a key";
  $("key").focus();
  $("key-form").onsubmit = (event) => {
    event.preventDefault();
    api.key.set($("key").value.trim());
    again();
  };
}

// Runs one thing that asks the server, and says where it went wrong, and of which file.
async function attempt(act, about = "") {
  const again = () => attempt(act, about);
  $("error").hidden = true;
  busy += 1;
  document.body.setAttribute("aria-busy", "true");
  try {
    await act();
    $("key-form").hidden = true;
  } catch (error) {
    fail(error, again, about);
  } finally {
    busy -= 1;
    document.body.setAttribute("aria-busy", busy > 0);
  }
}

// --- tokenizers ------------------------------------------------------------------------------

const facts = () => models.find(({ name }) => name === $("model").value) ?? models[0];

function describe({ name, tokenizer, codebook_size: size, stride, depth, precision, check }) {
  document.title = `${name} · vqtok`;
  $("name").textContent = name;
  const each = depth ? `, ${depth} a cell` : "";
  const parts = [
    `${number(size)} codes${each}`,
    `${by(...stride)} ${stride.length > 2 ? "frames and pixels" : "pixels"} a cell`,
    ARITHMETIC[precision] ?? precision,
  ];
  if (check !== "unchecked") parts.push(check === "exact" ? "self-check passed" : `self-check: ${check}`);
  if (tokenizer !== name) parts.unshift(tokenizer);
  $("line").textContent = parts.join(" · ");
  $("line").title =
    `Precision ${precision}: the arithmetic that codes are made with. Self-check ${check}: whether ` +
    "the codes of its test picture, kept with the weights, came out again.";
}

function showPrint({ schema, ...parts }) {
  const digits = Object.values(parts).map((part) => part.slice(0, 8));
  $("print-short").textContent = `${schema}:${digits.join("-")}`;
  $("prints").hidden = false;
  fillTerms($("print"), Object.entries(parts));
}

function choose() {
  describe(facts());
  $("what").textContent = facts().stride.length > 2 ? "clip of any length, or a picture" : "picture";
  showPrint(facts().fingerprint);
  $("source").textContent = "";
  stage.dim(true); // what is there came from another tokenizer
  return last ? tokenize(last) : useSample();
}

async function start() {
  models = await api.models();
  $("model").replaceChildren(...models.map(({ name }) => make("option", { value: name }, name)));
  $("model-row").hidden = models.length < 2;
  await choose();
}

// --- pictures --------------------------------------------------------------------------------

async function drawn() {
  const { stride, causal, preprocess } = facts();
  const side = [preprocess.size ?? SIDE].flat()[0];
  if (stride.length < 3) return sample.file(Math.max(side, SIDE));
  const pixels = fromImageData(sample.clip(side, 4 * stride[0] + Number(causal)));
  const { count, height, width, rgb } = pixels;
  return {
    name: "sample clip",
    size: rgb.length,
    body: rgb,
    pixels,
    type: "application/octet-stream",
    shape: [count, height, width, 3],
  };
}

const useSample = async () => tokenize(await drawn(), { again: null });

const nameSource = ({ name, size }) => {
  $("source").textContent = `${name}, ${bytes(size)}`;
};

// What is there belongs to another file, or another tokenizer, than the one that is named now.
function putAway() {
  session?.cancel();
  session = null;
  $("source").textContent = "";
  player.stop();
  stage.close();
}

// What is there stays beside what is said of a file that could not be tokenized, where it is whole
// and of the tokenizer that is named.
function keepOrPutAway() {
  if (session?.facts !== facts() || !session.output) {
    putAway();
    return;
  }
  nameSource(session.source);
  stage.dim(false);
}

// more   is said at the end
// again  what another tokenizer is to take
function tokenize(file, { more = "", again = file } = {}) {
  const given =
    file instanceof File
      ? { name: file.name, size: file.size, type: source.typeOf(file), body: file }
      : file;
  return attempt(async () => {
    const before = last;
    last = again;
    const opened = new Session(facts(), (what, count) => changed(opened, what, count));
    pending?.cancel();
    session?.cancel();
    pending = opened;
    say(`Encoding ${given.name} …`);
    try {
      await opened.load(given);
    } catch (error) {
      // Codes that came, though nothing was decoded of them, are this file's own.
      if (opened === pending && opened !== session) {
        last = before;
        keepOrPutAway();
      }
      throw error;
    }
    const took = opened.encoding.took + opened.decoding.took;
    say(`Encoded and decoded in ${number(took)} ms. ${more}`.trim());
  }, given.name);
}

function changed(which, what, count) {
  if (what === "codes" && which === pending) {
    session = which;
    nameSource(which.source);
    stage.inputNote = "reading …";
    stage.open(session);
    player.open(session.codes.frames);
    say("Decoding …");
  }
  if (which !== session) return; // an earlier one that had not heard yet
  if (what === "reading") {
    $("input-note").textContent = `reading frame ${count} of ${session.codes.frames}`;
    return;
  }
  if (what === "input" && !session.input) stage.inputNote = NOT_SHOWN;
  if (what === "swapped") stage.showCodes();
  if (what !== "codes") stage.showPictures();
  showButtons();
}

// --- swapping --------------------------------------------------------------------------------

function showButtons() {
  $("undo").disabled = !session.history.canUndo;
  $("redo").disabled = !session.history.canRedo;
  $("reset").disabled = !session.codes.edits;
}

const span = (from, to) => (to > from ? `${from}–${to}` : `${from}`);

function changeText({ pixels, strong, share, most, limit, box: [top, left, bottom, right] }) {
  if (!pixels) return "no pixel changed";
  const part = `${number(pixels)} ${pixels === 1 ? "pixel" : "pixels"} changed`;
  const all = `${part} (${(100 * share).toFixed(1)} %)`;
  const where = `x ${span(left, right)}, y ${span(top, bottom)}`;
  if (!strong || strong === pixels) return `${all}, ${where}, by up to ${most} levels`;
  return `${all}, ${number(strong)} of them by more than ${limit} levels, up to ${most}: ${where}`;
}

function edit(what, act) {
  let applied = false;
  return attempt(async () => {
    // Another try sends the codes again; it must not change them twice.
    const again = applied;
    applied = true;
    const found = await (again ? session.redecode() : act());
    say(found ? `${what}: ${changeText(found)}.` : `${what}: the code is the same.`);
  });
}

// --- the page --------------------------------------------------------------------------------

// Whether the code is one that there is.
function swap(index, code, where) {
  const last = session.codes.codebookSize - 1;
  if (!Number.isInteger(code) || code < 0 || code > last) {
    say(`Codes of this tokenizer are whole numbers from 0 to ${last}.`);
    return false;
  }
  edit(`Swapped ${where} to ${code}`, () => session.swap([[index, code]]));
  return true;
}

const stage = new Stage({ swap, say });
const player = new Player((frame) => stage.turn({ frame }));
const undo = () => session?.history.canUndo && edit("Undone", () => session.undo());
const redo = () => session?.history.canRedo && edit("Redone", () => session.redo());

function keys(event) {
  const command = event.ctrlKey || event.metaKey;
  if (!command || event.target.matches("input[type=number], input[type=password]")) return;
  const letter = event.key.toLowerCase();
  const again = letter === "y" || (letter === "z" && event.shiftKey);
  if (!again && letter !== "z") return;
  event.preventDefault();
  (again ? redo : undo)();
}

const leftOut = (count) =>
  count ? `One file at a time: ${number(count)} more ${count > 1 ? "were" : "was"} left out.` : "";

source.listen({
  input: $("file"),
  zone: $("drop"),
  onFiles: ([file, ...rest]) => tokenize(file, { more: leftOut(rest.length) }),
  onNone: say,
});
take.listen(() => ({ session, frame: stage.frame, fps: player.fps }), say, attempt);
$("sample").addEventListener("click", useSample);
$("model").addEventListener("change", choose);
$("undo").addEventListener("click", undo);
$("redo").addEventListener("click", redo);
$("reset").addEventListener("click", () => edit("Back to the encoder's", () => session.reset()));
document.addEventListener("keydown", keys);
attempt(start);
