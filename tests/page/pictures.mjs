// Pictures: how they come in, and how the model sees them.
import assert from "node:assert/strict";
import { answer, ask, attach, example, open } from "./harness.mjs";

async function transferOf(page, ...files) {
  const list = files.map(({ name, mimeType, buffer }) => ({ name, mimeType, base64: buffer.toString("base64") }));
  return page.evaluateHandle((given) => {
    const transfer = new DataTransfer();
    for (const { name, mimeType, base64 } of given) {
      const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
      transfer.items.add(new File([bytes], name, { type: mimeType }));
    }
    return transfer;
  }, list);
}

// A JPEG as a camera held upright makes it: the picture lies on its side, EXIF says so.
async function sidewaysPhoto(page) {
  const base64 = await page.evaluate(async () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [240, 120];
    const draw = canvas.getContext("2d");
    draw.fillStyle = "#fff";
    draw.fillRect(0, 0, 240, 120);
    draw.fillStyle = "#e02020";
    draw.fillRect(0, 0, 120, 120); // left half red: turned by 90 degrees clockwise it is on top
    return canvas.toDataURL("image/jpeg").split(",")[1];
  });
  const jpeg = Buffer.from(base64, "base64");
  const tiff = Buffer.from("4d4d002a00000008000101120003000000010006000000000000", "hex");
  const exif = Buffer.concat([Buffer.from("Exif\0\0", "latin1"), tiff]);
  const head = Buffer.from([0xff, 0xe1, (exif.length + 2) >> 8, (exif.length + 2) & 0xff]);
  return { name: "photo.jpg", mimeType: "image/jpeg", buffer: Buffer.concat([jpeg.subarray(0, 2), head, exif, jpeg.subarray(2)]) };
}

export const tests = [
  { name: "a dropped picture is asked about", async body(page, t) {
    await open(page, t.open);
    const data = await transferOf(page, example("6-small-landscape"));
    await page.dispatchEvent("body", "dragenter", { dataTransfer: data });
    assert.ok(await page.locator("#drop").isVisible());
    await page.dispatchEvent("body", "drop", { dataTransfer: data });
    assert.ok(await page.locator("#drop").isHidden());
    await page.waitForSelector(".tray img");
    await ask(page, "What color is the star?");
    assert.equal(await answer(page), "orange");
  } },

  { name: "pictures are pasted, several go into one turn, one can be removed", async body(page, t) {
    await open(page, t.open);
    const data = await transferOf(page, example("5-wide"), example("9-first-of-two"), example("9-second-of-two"));
    await page.evaluate((clipboardData) => {
      document.querySelector("#composer textarea").dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
    }, data);
    await page.waitForFunction(() => document.querySelectorAll(".tray img").length === 3);
    await page.click("[aria-label='Remove 5-wide.png']");
    await ask(page, "Which of the two pictures has a pink square?");
    assert.equal(await answer(page), "the second");
    assert.equal(await page.locator(".user .thumb").count(), 2);
  } },

  { name: "a picture of an earlier turn is known in later ones", async body(page, t) {
    await open(page, t.open);
    await attach(page, "7-three-in-a-row");
    await ask(page, "How many shapes are there?");
    assert.equal(await answer(page), "3");
    await ask(page, "What colour is the ring?");
    assert.equal(await answer(page), "pink");
    assert.match(await page.locator(".usage").last().innerText(), /121 of pictures/);
  } },

  { name: "what is no picture is refused where it was added", async body(page, t) {
    await open(page, t.open);
    await page.setInputFiles("#composer input[type=file]", { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("no picture") });
    await page.waitForSelector("#composer .problem:visible");
    assert.match(await page.locator("#composer .problem").innerText(), /notes\.txt is no picture/);
    assert.equal(await page.locator(".tray img").count(), 0);
  } },

  { name: "locating without a picture says what is missing", async body(page, t) {
    await open(page, t.open);
    await ask(page, "the pink ring", "locate");
    assert.match(await page.locator("#composer .problem").innerText(), /needs a picture/);
    assert.equal(await page.locator(".turn").count(), 0);
  } },

  { name: "the tiles and tokens of a picture are shown on demand", async body(page, t) {
    let asked = 0;
    page.on("request", (request) => { asked += request.url().endsWith("/v1/images/plan"); });
    await open(page, t.open);
    await attach(page, "5-wide");
    await page.waitForSelector(".tray img");
    assert.equal(asked, 0);
    await page.click(".tray .thumb");
    await page.waitForSelector("#plan dl");
    assert.equal(asked, 1);
    const text = await page.locator("#plan").innerText();
    assert.match(text, /4 × 2 of 154 pixels/);
    assert.match(text, /768 × 384/);
    assert.match(text, /\b343\b/);
    assert.equal(await page.locator("#plan .tiles .column").count(), 3);
    assert.equal(await page.locator("#plan .tiles .row").count(), 1);
    await t.shot("plan");
    await page.keyboard.press("Escape");
    assert.ok(await page.locator("#plan").isHidden());
    // With three pictures each is one tile.
    await attach(page, "9-first-of-two", "9-second-of-two");
    await page.waitForFunction(() => document.querySelectorAll(".tray img").length === 3);
    await page.click(".tray .thumb >> nth=0");
    await page.waitForSelector("#plan dl");
    assert.match(await page.locator("#plan").innerText(), /1 × 1 of 154 pixels.*more than two/s);
  } },

  { name: "a photo that lies on its side is turned, unless the settings say no", async body(page, t) {
    await open(page, t.open);
    const photo = await sidewaysPhoto(page);
    await page.setInputFiles("#composer input[type=file]", photo);
    const size = () => page.locator(".tray img").last().evaluate((image) => image.decode().then(() => [image.naturalWidth, image.naturalHeight]));
    assert.deepEqual(await size(), [120, 240]);
    const seen = await t.pixels(await page.locator(".tray .thumb").screenshot());
    const [top, bottom] = [seen.at(seen.width / 2, 8), seen.at(seen.width / 2, seen.height - 8)];
    assert.ok(top[0] > 180 && top[1] < 90, `red on top: ${top}`);
    assert.ok(bottom[1] > 180, `white below: ${bottom}`);
    await page.click(".tray .remove");
    await page.click("#open-settings");
    await page.uncheck("[name=upright]");
    await page.keyboard.press("Escape");
    await page.setInputFiles("#composer input[type=file]", photo);
    await page.waitForSelector(".tray img");
    // Shown as the model sees it, which is not as EXIF says: red on the left.
    const asIs = await t.pixels(await page.locator(".tray .thumb").screenshot());
    const [left, right] = [asIs.at(8, asIs.height / 2), asIs.at(asIs.width - 8, asIs.height / 2)];
    assert.ok(left[0] > 180 && left[1] < 90 && right[1] > 180, `${left} ${right}`);
    await page.click(".tray .thumb");
    await page.waitForSelector("#plan dl");
    assert.match(await page.locator("#plan").innerText(), /240 × 120 pixels/);
  } },
];
