// Walks through the page as people do, in a real browser, and says what each step came to.
//
//   node walk.mjs BASE < LINKS     one path for each scenario, as JSON by its name
//
// Every state of the page is looked at by axe-core, and saved as a picture when PICTURES names a
// directory. What is wrong is written to standard error, and the exit status is 1 then.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

// Installed by npm outside of the checkout.
const require = createRequire(join(process.env.OPTOUT_TEST_NODE, "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core"), "utf8");

const base = process.argv[2];
const links = JSON.parse(readFileSync(0, "utf8"));
const wrong = [];
const expect = (is, what) => is || wrong.push(what);

const browser = await chromium.launch({
  executablePath: process.env.OPTOUT_TEST_CHROMIUM,
  // Containers run as root, and have little shared memory.
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});

/** A page of its own; axe needs scripts, which the page itself forbids. */
async function open(name, path, options = {}) {
  const context = await browser.newContext({ bypassCSP: true, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(60000);
  page.on("request", (request) =>
    expect(request.url().startsWith(base) || request.url().startsWith("data:"), `${name}: loads ${request.url()}`));
  await page.goto(base + path);
  return page;
}

/** Looks at the state that a page is in. */
async function look(name, page, title) {
  const heading = await page.textContent("h1");
  expect(!title || heading.includes(title), `${name}: ${heading}, not ${title}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  expect(!wide, `${name}: it has to be scrolled sideways`);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  for (const { id, help, nodes } of violations) {
    expect(false, `${name}: ${id}: ${help}: ${nodes.map((node) => node.target).join(" | ")}`);
  }
  if (process.env.PICTURES) {
    await page.screenshot({ path: join(process.env.PICTURES, `${name}.png`), fullPage: true });
  }
}

/** Presses the button of the form whose `act` this is. */
const press = (page, act) => page.click(`form:has(input[name=act][value=${act}]) button`);

async function leaveUndoAndSayWhy() {
  const page = await open("leave", links.leave);
  await look("offer", page, "Unsubscribe from Weekly offers?");
  await press(page, "opt_out");
  await look("left", page, "You have unsubscribed");
  await press(page, "undo");
  await look("undone", page, "It is undone");
  await press(page, "opt_out");
  await page.check("input[value=too_often]");
  await page.fill("textarea", "<b>every hour</b>");
  await press(page, "why");
  await look("thanks", page, "Thank you");
  await page.goto(base + links.leave);
  await look("standing", page, "You are unsubscribed");
}

async function pauseLessChooseAndStop() {
  const page = await open("others", links.others);
  await page.check("input[name=days][value='60']");
  await press(page, "pause");
  await look("paused", page, "Your break has begun");
  await page.goto(base + links.others);
  await look("pausing", page, "You are taking a break");
  const less = await open("less", links.less);
  await less.check("input[name=frequency][value=monthly]");
  await press(less, "frequency");
  await look("less", less, "Your choice is saved");
  const choose = await open("choose", links.choose);
  await choose.uncheck("input[name=keep][value='daily.shop.example']");
  await press(choose, "choose");
  await look("chosen", choose, "You have unsubscribed");
  const stop = await open("stop", links.stop);
  await press(stop, "everything");
  await look("stopped", stop, "You have unsubscribed");
  await stop.goto(base + links.stop);
  await look("all-stopped", stop, "You are unsubscribed");
}

async function otherWaysToSeeIt() {
  const narrow = { viewport: { width: 320, height: 640 } };
  await look("narrow", await open("narrow", links.look, narrow));
  await look("dark", await open("dark", links.look, { ...narrow, colorScheme: "dark" }));
  for (const tag of ["ar", "ja", "de"]) {
    const page = await open(tag, `${links.look}?lang=${tag}`, narrow);
    expect((await page.getAttribute("html", "lang")) === tag, `${tag}: another language`);
    await look(tag, page);
  }
  await look("not-found", await open("not-found", "/u/nonsense", narrow), "Nothing found here");
}

/** Without scripts, and with nothing but the keyboard. */
async function byKeyboardAlone() {
  const page = await open("keyboard", links.keyboard, { javaScriptEnabled: false });
  const reached = new Set();
  for (let presses = 0; presses < 60; presses += 1) {
    await page.keyboard.press("Tab");
    reached.add(await page.locator(":focus").evaluate((at) => at.outerHTML).catch(() => ""));
  }
  const all = await page.locator("button, a[href], input:not([type=hidden]):not(:disabled)").count();
  // Of a group of radio buttons only one is stopped at.
  const groups = await page.locator("input[type=radio]:not(:checked)").count();
  expect(reached.size >= all - groups, `keyboard: ${reached.size} of ${all - groups} reached`);
  await page.goto(base + links.keyboard);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForSelector("form.undo");
  expect((await page.textContent("h1")).includes("You have unsubscribed"), "keyboard: not left");
}

try {
  await leaveUndoAndSayWhy();
  await pauseLessChooseAndStop();
  await otherWaysToSeeIt();
  await byKeyboardAlone();
} catch (error) {
  wrong.push(String(error));
}
await browser.close();
wrong.forEach((what) => console.error(what));
process.exit(wrong.length > 0 ? 1 : 0);
