// Looks at pages that were written to files as people do, in a real browser: wide, on a phone, in
// the dark and printed.
//
//   node document.mjs FILE...
//
// Each is looked at by axe-core, and saved as a picture when PICTURES names a directory. What is
// wrong is written to standard error, and the exit status is 1 then.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";

// Installed by npm outside of the checkout.
const require = createRequire(join(process.env.OPTOUT_TEST_NODE, "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core"), "utf8");

const wrong = [];

const browser = await chromium.launch({
  executablePath: process.env.OPTOUT_TEST_CHROMIUM,
  // Containers run as root, and have little shared memory.
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});

const ways = {
  wide: { viewport: { width: 1200, height: 900 } },
  narrow: { viewport: { width: 320, height: 640 } },
  dark: { viewport: { width: 800, height: 900 }, colorScheme: "dark" },
  // A4 without its margins.
  printed: { viewport: { width: 688, height: 1000 } },
};

/** What does not fit: the page, or the letters of a plot. Runs in the page. */
function overflowing(isPrinted) {
  const found = [];
  if (document.documentElement.scrollWidth > innerWidth) found.push("it has to be scrolled sideways");
  for (const table of document.querySelectorAll(".table")) {
    if (isPrinted && table.scrollWidth > innerWidth) found.push(`printed too wide: ${table.ariaLabel}`);
  }
  for (const plot of document.querySelectorAll("svg.plot")) {
    const { left, right, top, bottom } = plot.getBoundingClientRect();
    const texts = [...plot.querySelectorAll("text")].map((at) => ({ at, box: at.getBoundingClientRect() }));
    const shown = texts.filter(({ box }) => box.width > 0);
    // Boxes are higher than their letters.
    const touch = (a, b) => a.left < b.right && b.left < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom;
    shown.forEach(({ at, box }, n) => {
      if (box.left < left - 1 || box.right > right + 1 || box.top < top - 1 || box.bottom > bottom + 1) {
        found.push(`outside its plot: ${at.textContent}`);
      }
      for (const other of shown.slice(n + 1)) {
        if (touch(box, other.box)) found.push(`${at.textContent} lies on ${other.at.textContent}`);
      }
    });
  }
  return found;
}

async function lookClosely(page, tell) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
  for (const { id, help, nodes } of violations) {
    tell(`${id}: ${help}: ${nodes.map((node) => node.target).join(" | ")}`);
  }
}

async function look(file, way, options) {
  const name = `${basename(file, ".html")}-${way}`;
  const tell = (what) => wrong.push(`${name}: ${what}`);
  // axe is a script, which the page forbids.
  const context = await browser.newContext({ ...options, bypassCSP: true });
  const page = await context.newPage();
  page.on("console", (message) => tell(`console: ${message.text()}`));
  page.on("pageerror", (error) => tell(`error: ${error}`));
  page.on("request", (request) => request.url().startsWith("file:") || tell(`loads ${request.url()}`));
  if (way === "printed") await page.emulateMedia({ media: "print" });
  await page.goto(pathToFileURL(file).href);
  (await page.evaluate(overflowing, way === "printed")).forEach(tell);
  if (way !== "printed") await lookClosely(page, tell);
  if (process.env.PICTURES) {
    await page.screenshot({ path: join(process.env.PICTURES, `${name}.png`), fullPage: true });
  }
  await context.close();
}

/** As people open it, with its own policy. */
async function open(file) {
  const page = await browser.newPage();
  page.on("console", (message) => wrong.push(`${file}: console: ${message.text()}`));
  await page.goto(pathToFileURL(file).href);
  const styled = await page.evaluate(() => getComputedStyle(document.querySelector("h1")).fontSize);
  if (styled === "32px") wrong.push(`${file}: its style does not apply`);
  await page.close();
}

try {
  for (const file of process.argv.slice(2)) {
    await open(file);
    for (const [way, options] of Object.entries(ways)) await look(file, way, options);
  }
} catch (error) {
  wrong.push(String(error));
}
await browser.close();
wrong.forEach((what) => console.error(what));
process.exit(wrong.length > 0 ? 1 : 0);
