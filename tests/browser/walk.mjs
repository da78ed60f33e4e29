// Walks through the page as people do, in a real browser, and says what each step came to.
//
//   node walk.mjs BASE < LINKS     one path for each scenario, as JSON by its name, for a browser
//                                  with scripts and for one without
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
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});

/** Whether the browser runs scripts. axe needs them; the page itself forbids them. */
let scripted = true;

/** A page of its own. */
async function open(name, path, options = {}) {
  const how = { bypassCSP: scripted, javaScriptEnabled: scripted, ...options };
  const context = await browser.newContext(how);
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
  if (scripted) {
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    expect(!wide, `${name}: it has to be scrolled sideways`);
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    for (const { id, help, nodes } of violations) {
      expect(false, `${name}: ${id}: ${help}: ${nodes.map((node) => node.target).join(" | ")}`);
    }
  }
  if (process.env.PICTURES) {
    await page.screenshot({ path: join(process.env.PICTURES, `${scripted ? name : `${name}-plain`}.png`), fullPage: true });
  }
}

/** Presses the button of the form whose `act` this is. */
const press = (page, act) => page.click(`form:has(input[name=act][value=${act}]) button`);

async function leaveUndoAndSayWhy(links) {
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

async function pauseLessChooseAndStop(links) {
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

async function otherWaysToSeeIt(links) {
  const narrow = { viewport: { width: 320, height: 640 } };
  // 400 % of a window of 1280 by 1024 pixels.
  const zoomed = { viewport: { width: 320, height: 256 }, deviceScaleFactor: 4 };
  await look("zoomed", await open("zoomed", links.look, zoomed));
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
async function byKeyboardAlone(links) {
  const page = await open("keyboard", links.keyboard);
  await reachesAll("offer", page);
  await page.goto(base + links.keyboard);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForSelector("form.undo");
  expect((await page.textContent("h1")).includes("You have unsubscribed"), "keyboard: not left");
  await reachesAll("left", page);
}

/** Of a group of radio buttons that none is chosen of, the first is stopped at, else the chosen. */
async function reachesAll(name, page) {
  const stops = "button, a[href], textarea, input:not([type=hidden]):not(:disabled)";
  const missed = new Set();
  for (const stop of await page.locator(stops).all()) {
    const is = (what) => stop.evaluate((at, what) => at.matches(what), what);
    if (!(await is("[type=radio]")) || (await is(":checked"))) {
      missed.add(await stop.evaluate((at) => at.outerHTML));
    }
  }
  for (let presses = 0; presses < 60; presses += 1) {
    await page.keyboard.press("Tab");
    missed.delete(await page.evaluate(() => document.activeElement?.outerHTML));
  }
  expect(missed.size === 0, `${name} by keyboard: not reached: ${[...missed].join(" | ")}`);
}

try {
  await leaveUndoAndSayWhy(links.scripted);
  await pauseLessChooseAndStop(links.scripted);
  await otherWaysToSeeIt(links.scripted);
  scripted = false;
  await leaveUndoAndSayWhy(links.plain);
  await pauseLessChooseAndStop(links.plain);
  await byKeyboardAlone(links.plain);
} catch (error) {
  wrong.push(String(error));
}
await browser.close();
wrong.forEach((what) => console.error(what));
process.exit(wrong.length > 0 ? 1 : 0);
