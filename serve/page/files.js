// Codes and pictures as files that other programs read.

// NumPy's format 1.0: magic, a header padded so that the data is aligned, little-endian numbers.
export function npy(ids, shape, codebookSize) {
  const wide = codebookSize > 65536;
  const data = wide ? Uint32Array.from(ids) : Uint16Array.from(ids);
  const tuple = `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;
  let header = `{'descr': '<u${wide ? 4 : 2}', 'fortran_order': False, 'shape': ${tuple}, }`;
  header = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11) + "\n";
  const magic = [0x93, ...new TextEncoder().encode("NUMPY"), 1, 0];
  const length = [header.length & 255, header.length >> 8];
  const parts = [new Uint8Array([...magic, ...length]), header, data];
  return new Blob(parts, { type: "application/x-npy" });
}

export const json = (answer) =>
  new Blob([`${JSON.stringify(answer)}\n`], { type: "application/json" });

export async function png(imageData) {
  const canvas = document.createElement("canvas");
  canvas.width = imageData.width;
  canvas.height = imageData.height;
  canvas.getContext("2d").putImageData(imageData, 0, 0);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser has begun to read it by then; without this the memory stays taken.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
