// node all.mjs OPEN_SERVER LOCKED_SERVER SCREENSHOT_FOLDER [NAME]: runs every test, or those whose name holds NAME.
import { Harness } from "./harness.mjs";
import * as answers from "./answers.mjs";
import * as boxes from "./boxes.mjs";
import * as conversation from "./conversation.mjs";
import * as hostile from "./hostile.mjs";
import * as looks from "./looks.mjs";
import * as pictures from "./pictures.mjs";

const [open, locked, folder, only = ""] = process.argv.slice(2);
const harness = await Harness.open({ open, locked, folder });
const all = [boxes, pictures, conversation, answers, hostile, looks].flatMap((file) => file.tests).filter(({ name }) => name.includes(only));
let failed = 0;
for (const test of all) {
  const start = Date.now();
  try {
    await harness.run(test);
    console.log(`ok      ${test.name} (${Date.now() - start} ms)`);
  } catch (error) {
    failed++;
    console.log(`FAILED  ${test.name}\n${error.stack}`);
  }
}
await harness.browser.close();
console.log(`page: ${all.length - failed} of ${all.length} tests passed`);
process.exit(failed > 0 || all.length === 0 ? 1 : 0);
