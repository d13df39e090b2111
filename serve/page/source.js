// Ways for a picture to come in: dropped anywhere, pasted, or chosen.

// onFiles  gets the files, at least one
// onNone   gets what to say where something came in that is none
export function listen({ input, zone, onFiles, onNone }) {
  input.addEventListener("change", () => {
    if (input.files.length) onFiles([...input.files]);
    input.value = ""; // so that choosing the same file again is a change
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) onFiles(files);
    else if (!event.target.matches?.("input")) onNone("There is no picture to paste.");
  });
  let inside = 0; // entering a child comes before leaving its parent
  document.addEventListener("dragenter", () => {
    inside += 1;
    zone.classList.add("over");
  });
  document.addEventListener("dragleave", () => {
    inside -= 1;
    if (!inside) zone.classList.remove("over");
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    zone.classList.remove("over");
    const files = [...event.dataTransfer.files];
    if (files.length) onFiles(files);
    else onNone("What was dropped is no file: drop the file of a picture.");
  });
}

// Some systems do not know the types of newer or rarer files.
const TYPES = {
  avif: "image/avif",
  bmp: "image/bmp",
  gif: "image/gif",
  jpeg: "image/jpeg",
  jpg: "image/jpeg",
  mkv: "video/x-matroska",
  mov: "video/quicktime",
  mp4: "video/mp4",
  png: "image/png",
  tif: "image/tiff",
  tiff: "image/tiff",
  webm: "video/webm",
  webp: "image/webp",
};

export function typeOf(file) {
  const ending = file.name.split(".").pop().toLowerCase();
  return file.type || TYPES[ending] || "application/octet-stream";
}
