// What the browser itself makes of a file: one picture, or the frames of a clip.

import { fromImageData } from "./pixels.js";
import { prepare } from "./prepare.js";

// Bytes as they are stored, like the server: no colour profile is applied.
const AS_STORED = { colorSpaceConversion: "none" };

async function picture(file, settings) {
  const bitmap = await createImageBitmap(file, AS_STORED);
  const image = prepare(bitmap, [bitmap.height, bitmap.width], settings);
  bitmap.close();
  return fromImageData([image]);
}

// Animated pictures, where the browser can take them apart.
async function animation(file, type, count, settings) {
  const decoder = new ImageDecoder({ data: await file.arrayBuffer(), type, ...AS_STORED });
  const images = [];
  for (let frameIndex = 0; frameIndex < count; frameIndex += 1) {
    const { image } = await decoder.decode({ frameIndex });
    images.push(prepare(image, [image.displayHeight, image.displayWidth], settings));
    image.close();
  }
  decoder.close();
  return fromImageData(images);
}

const until = (target, name) =>
  new Promise((done, failed) => {
    target.addEventListener(name, done, { once: true });
    target.addEventListener("error", () => failed(new Error("not playable")), { once: true });
  });

// A browser does not tell frame rates. With the count from the server, the middle of each frame's
// share of the time lies inside that frame.
async function movie(file, count, settings, onFrame) {
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  const url = URL.createObjectURL(file);
  try {
    const loaded = until(video, "loadeddata");
    video.src = url;
    await loaded;
    const images = [];
    for (let i = 0; i < count; i += 1) {
      const there = until(video, "seeked");
      video.currentTime = ((i + 0.5) * video.duration) / count;
      await there;
      images.push(prepare(video, [video.videoHeight, video.videoWidth], settings));
      onFrame(i + 1);
    }
    return fromImageData(images);
  } finally {
    URL.revokeObjectURL(url);
  }
}

// A file of so many frames -> its pixels as the encoder saw them, or null where this browser
// cannot read what the server could.
export async function read(file, type, count, settings, onFrame) {
  try {
    if (type.startsWith("video/")) return await movie(file, count, settings, onFrame);
    if (count > 1) return await animation(file, type, count, settings);
    return await picture(file, settings);
  } catch {
    return null;
  }
}
