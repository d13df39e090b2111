// Taking codes and pictures along: to the clipboard, and as files.

import * as api from "./api.js";
import { $ } from "./dom.js";
import { download, json, npy, png } from "./files.js";
import { imageData } from "./pixels.js";

const stem = (name) => name.replace(/\.[^.]*$/, "");

// current  gives {session, frame, fps} as they are at the time
// attempt  runs what asks the server
export function listen(current, say, attempt) {
  const on = (id, act) =>
    $(id).addEventListener("click", () => {
      const { session, frame, fps } = current();
      act(session, frame, stem(session.source.name), fps);
    });
  on("copy-codes", async ({ codes }) => {
    try {
      await navigator.clipboard.writeText(JSON.stringify(codes.toAnswer()));
      say("Codes copied. Posted to /v1/decode as they are, they give this picture.");
    } catch {
      say("This browser does not let the page copy; download the codes instead.");
    }
  });
  on("save-json", ({ codes }, frame, name) =>
    download(json(codes.toAnswer()), `${name}.codes.json`),
  );
  on("save-npy", ({ codes }, frame, name) =>
    download(npy(codes.ids, codes.shape, codes.codebookSize), `${name}.codes.npy`),
  );
  on("save-png", async ({ output, codes }, frame, name) => {
    if (!output) return;
    const part = codes.frames > 1 ? `.frame${frame}` : "";
    download(await png(imageData(output, frame)), `${name}.decoded${part}.png`);
  });
  on("save-clip", ({ facts, codes }, frame, name, fps) =>
    attempt(async () => {
      say("Making the clip …");
      download(await api.film(facts.name, codes.toAnswer(), fps), `${name}.decoded.mp4`);
      say(`The clip has ${fps} frames a second.`);
    }),
  );
}
