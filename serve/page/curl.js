// Lines for a shell that show an operation at work.

// What stands for a file of a type on the command line.
const FILES = {
  "image/*": ["cat.jpg", "image/jpeg"],
  "image/jpeg": ["cat.jpg", "image/jpeg"],
  "image/png": ["cat.png", "image/png"],
  "video/*": ["clip.mp4", "video/mp4"],
  "video/mp4": ["clip.mp4", "video/mp4"],
  "application/x-npy": ["codes.npy", "application/x-npy"],
  "application/json": ["codes.json", "application/json"],
};

// Where the line leaves what comes back, of operations whose answer a terminal cannot show.
const OUTPUTS = { encode: " -o codes.json", decode: " -o back.png", reconstruct: " -o back.png" };

// One line for pictures, one for clips or codes, not one for each type there is.
function chosen(types) {
  const picture = types.find((type) => type.startsWith("image/"));
  const clip = types.find((type) => type.startsWith("video/"));
  const named = [picture, clip].filter(Boolean);
  if (named.length) return named;
  return types.filter((type) => type in FILES).slice(0, 2);
}

export function curls(base, { path, method }, body, needsKey) {
  const url = `${base}${path.replace("{name}", "NAME").replace("{model}", "NAME")}`;
  const key = needsKey ? ` -H "Authorization: Bearer $VQTOK_SERVE_API_KEY"` : "";
  if (method === "get") return [`curl -f${key} ${url}`];
  const end = OUTPUTS[path.split("/").pop()] ?? "";
  return chosen(Object.keys(body)).map((type) => {
    const [file, kind] = FILES[type] ?? FILES[`${type.split("/")[0]}/*`];
    return `curl -f${key} --data-binary @${file} -H 'Content-Type: ${kind}' ${url}${end}`;
  });
}
