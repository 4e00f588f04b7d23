// Pictures of the user: checked, measured, and turned into what a request takes.
import { newId } from "./dom.js";

const READ_BY_SERVER = new Set(["image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif"]);
export const MOST_BYTES = 44 << 20; // in base64 that is what the server's default limit of a request has room for
const MOST_PIXELS = 100e6;

export class PictureProblem extends Error {}

// The orientation of a JPEG's EXIF data, 1 (upright) to 8.
export function exifOrientation(buffer) {
  const view = new DataView(buffer);
  if (view.byteLength < 4 || view.getUint16(0) !== 0xffd8) return 1;
  for (let at = 2; at + 10 < view.byteLength;) {
    const marker = view.getUint16(at), length = view.getUint16(at + 2);
    if ((marker & 0xff00) !== 0xff00 || marker === 0xffda || length < 2) return 1;
    if (marker === 0xffe1 && view.getUint32(at + 4) === 0x45786966) return orientationOfTiff(view, at + 10, at + 2 + length);
    at += 2 + length;
  }
  return 1;
}

function orientationOfTiff(view, start, end) {
  end = Math.min(end, view.byteLength);
  if (start + 8 > end) return 1;
  const little = view.getUint16(start) === 0x4949;
  const list = start + view.getUint32(start + 4, little);
  if (list + 2 > end) return 1;
  const entries = view.getUint16(list, little);
  for (let i = 0; i < entries && list + 14 + 12 * i <= end; ++i) {
    const entry = list + 2 + 12 * i;
    if (view.getUint16(entry, little) !== 0x0112) continue;
    const value = view.getUint16(entry + 8, little);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

// How a browser sees it, drawn anew: for files the server does not read, and photos that lie on their side.
async function redrawn(blob, type) {
  const bitmap = await createImageBitmap(blob);
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  return new Promise((resolve, reject) => canvas.toBlob((made) => (made ? resolve(made) : reject(new Error("too large"))), type, 0.95));
}

// A picture of a stored blob: { id, name, blob, url, width, height }. `url` holds until release().
export async function pictureOf(blob, name, id = newId()) {
  const url = URL.createObjectURL(blob);
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    if (image.naturalWidth * image.naturalHeight > MOST_PIXELS) throw new PictureProblem(`${name} has more than 100 million pixels.`);
    if (!(image.naturalWidth > 0)) throw new Error("no size");
    // As the server sees it: `naturalWidth` is that of the turned picture where EXIF says so.
    const turned = exifOrientation(await blob.slice(0, 256 << 10).arrayBuffer()) >= 5;
    const [width, height] = turned ? [image.naturalHeight, image.naturalWidth] : [image.naturalWidth, image.naturalHeight];
    return { id, name, blob, url, width, height };
  } catch (error) {
    URL.revokeObjectURL(url);
    throw error instanceof PictureProblem ? error : new PictureProblem(`${name} is no picture this browser can read.`);
  }
}

// `upright`: turn photos as their EXIF data says.
export async function pictureOfFile(file, upright) {
  const name = file.name || "picture";
  if (file.size > MOST_BYTES) throw new PictureProblem(`${name} is larger than ${MOST_BYTES >> 20} MB.`);
  let blob = file;
  try {
    if (!READ_BY_SERVER.has(file.type)) blob = await redrawn(file, "image/png");
    else if (upright && exifOrientation(await file.slice(0, 256 << 10).arrayBuffer()) > 1) blob = await redrawn(file, "image/jpeg");
  } catch {
    throw new PictureProblem(`${name} is no picture this browser can read.`);
  }
  return pictureOf(blob, name);
}

export function release(picture) {
  URL.revokeObjectURL(picture.url);
}

const encoded = new WeakMap(); // pictures are sent again with every turn

export function dataUrl(picture) {
  if (!encoded.has(picture))
    encoded.set(picture, new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.onerror = () => reject(new PictureProblem(`${picture.name} cannot be read any more.`));
      reader.readAsDataURL(picture.blob);
    }));
  return encoded.get(picture);
}
