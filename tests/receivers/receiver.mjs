// A webhook receiver that trusts nothing but npm's standardwebhooks.
//
//     node receiver.mjs PORT SECRET LOG
//
// As receiver.py beside it. OPTOUT_TEST_NODE is the directory that the package is installed in.
import { appendFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.OPTOUT_TEST_NODE}/package.json`);
const { Webhook } = require("standardwebhooks");

const [port, secret, log] = process.argv.slice(2);
const webhook = new Webhook(secret);

const server = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const { headers, url: path } = request;
    let line;
    try {
      const message = webhook.verify(Buffer.concat(parts).toString(), headers);
      line = { headers, message, path };
    } catch (error) {
      line = { refused: String(error) };
    }
    appendFileSync(log, `${JSON.stringify(line)}\n`);
    response.writeHead(line.refused ? 400 : 204).end();
  });
});
server.listen(Number(port), "127.0.0.1", () => console.log(server.address().port));
