#!/usr/bin/env node
/**
 * Mints the signed unsubscribe fields of one message to one recipient (link token, version 1).
 *
 * One file on Node's own modules alone: copy it beside your mailer.
 *
 *     import { headers } from './mint.mjs';
 *
 *     const fields = headers({
 *       key: process.env.OPTOUT_KEY, baseUrl: 'https://leave.example.com',
 *       list: 'news.example.com', recipient: 'alice@example.org', campaign: '2026-01',
 *     });
 *
 * The key is what `optout key show ID` prints; keep it where you keep passwords. The recipient
 * goes into the link as you write it: the service compares, so do not fold or normalise addresses
 * here.
 *
 *     OPTOUT_KEY_FILE=key node mint.mjs --base-url https://leave.example.com \
 *         --list news.example.com --recipient alice@example.org
 */

import { createHmac } from 'node:crypto';
import { readFileSync, realpathSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const ONE_CLICK = 'List-Unsubscribe=One-Click';
const KEY_PREFIX = 'optout_key_';

/** Longest mail address in octets (RFC 5321 section 4.5.3.1.3, less the angle brackets). */
const MAX_ADDRESS = 254;
/** Longest List-Unsubscribe value in octets; Amazon SES takes no longer one. */
const MAX_VALUE = 870;

/**
 * The fields of one message, by their names; the values go into it as they are.
 *
 * `issued` is in Unix seconds: give one time for a whole mailing, so that a message that is sent
 * again has the same link. Without it, it is now. The mailto form, for mail clients that do not
 * POST, is left out when its address would have more than 254 octets or the value more than 870.
 *
 * Throws an Error that says what is wrong and never repeats the key.
 */
export function headers({
  key = '', baseUrl, list, recipient, campaign = '', mailtoHost, withListId = false,
  issued = Math.floor(Date.now() / 1000),
}) {
  const base = parseBaseUrl(baseUrl);
  const listId = parseListId(list);
  const host = mailtoHost === undefined ? undefined : parseMailtoHost(mailtoHost);
  const token = seal(parseKey(key), plaintextOf(issued, listId, campaign, recipient));
  let value = `<${base}/u/${token.toString('base64url')}>`;
  if (value.length > MAX_VALUE) {
    throw new Error(`the link takes ${value.length} octets in List-Unsubscribe, which holds `
      + `${MAX_VALUE}: shorten the base URL, the list identifier or the campaign`);
  }
  if (host !== undefined) {
    const address = `unsubscribe+${base32(token)}@${host}`;
    const both = `${value}, <mailto:${address}>`;
    if (address.length <= MAX_ADDRESS && both.length <= MAX_VALUE) value = both;
  }
  const fields = { 'List-Unsubscribe': value, 'List-Unsubscribe-Post': ONE_CLICK };
  if (withListId) fields['List-Id'] = `<${listId}>`;
  return fields;
}

/** The lines as they go into a message, without their ends: folded after the comma alone. */
export function lines(fields) {
  const whole = Object.entries(fields).map(([name, value]) => `${name}: ${value}`);
  return whole.join('\n').replace('>, <', '>,\n <').split('\n');
}

/** The 32 bytes of a key in text form; white space in it is forgiven. */
function parseKey(text) {
  if (/["'`]/.test(text)) throw new Error('the signing key holds quotation marks: remove them');
  const kept = text.replace(/\s/g, '');
  if (!kept.startsWith(KEY_PREFIX)) throw new Error(`a signing key begins with ${KEY_PREFIX}`);
  const encoded = kept.slice(KEY_PREFIX.length);
  const length = [...encoded].length;
  if (length !== 43) {
    throw new Error(`a signing key has 43 characters after ${KEY_PREFIX}, this one has ${length}: `
      + 'copy it whole');
  }
  const secret = Buffer.from(encoded, 'base64url');
  // The decoder skips what is no base64url.
  if (secret.toString('base64url') !== encoded) {
    throw new Error(`a signing key holds only letters, digits, - and _ after ${KEY_PREFIX}, and `
      + 'its last character is one that 32 bytes can end in: copy it again');
  }
  return secret;
}

function plaintextOf(issued, list, campaign, recipient) {
  if (!Number.isInteger(issued) || issued < 0 || issued >= 2 ** 32) {
    throw new Error('issued is a time in Unix seconds, from 0 to 4294967295');
  }
  const [campaignOctets, recipientOctets] =
    [octets('campaign', campaign), octets('recipient', recipient)];
  if (campaignOctets.length > 255) {
    throw new Error(`a campaign has at most 255 octets, this one has ${campaignOctets.length}: `
      + 'shorten it');
  }
  if (recipientOctets.length === 0) throw new Error('the recipient is empty');
  if (recipientOctets.length > 320) {
    throw new Error(`a recipient has at most 320 octets, this one has ${recipientOctets.length}`);
  }
  const time = Buffer.alloc(4);
  time.writeUInt32BE(issued);
  const counted = [Buffer.from(list), campaignOctets]
    .flatMap((part) => [Buffer.from([part.length]), part]);
  return Buffer.concat([time, ...counted, recipientOctets]);
}

/** UTF-8; half a surrogate pair would become another character in silence. */
function octets(what, text) {
  const encoded = Buffer.from(text, 'utf8');
  if (encoded.toString('utf8') !== text) throw new Error(`the ${what} is no Unicode text`);
  return encoded;
}

function seal(secret, plaintext) {
  const prk = hmac('optout/1', secret);
  const header = Buffer.concat([Buffer.from([1]), expand(prk, 'key id', 4)]);
  const siv = hmac(expand(prk, 'mac', 32), header, plaintext).subarray(0, 16);
  const info = Buffer.concat([Buffer.from('link'), siv]);
  const stream = expand(expand(prk, 'seal', 32), info, plaintext.length);
  return Buffer.concat([header, siv, plaintext.map((byte, i) => byte ^ stream[i])]);
}

function hmac(key, ...parts) {
  const mac = createHmac('sha256', key);
  parts.forEach((part) => mac.update(part));
  return mac.digest();
}

/** HKDF-Expand (RFC 5869 section 2.3). */
function expand(prk, info, length) {
  const blocks = [Buffer.alloc(0)];
  while (blocks.length <= Math.ceil(length / 32)) {
    blocks.push(hmac(prk, blocks.at(-1), info, Buffer.from([blocks.length])));
  }
  return Buffer.concat(blocks).subarray(0, length);
}

/** RFC 4648 section 6, in lower case and without padding. */
function base32(data) {
  const bits = [...data].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  const groups = bits.match(/.{1,5}/g);
  return groups.map((group) => parseInt(group.padEnd(5, '0'), 2))
    .map((value) => 'abcdefghijklmnopqrstuvwxyz234567'[value]).join('');
}

/** A list identifier: lower-case labels joined by dots (RFC 2919). */
function parseListId(text) {
  if (text === '') throw new Error('a list identifier is empty');
  if (octets('list identifier', text).length > 255) {
    throw new Error('a list identifier has more than 255 characters');
  }
  for (const label of text.split('.')) {
    const strange = label.match(/[^a-z0-9-]/u);
    if (label === '') {
      throw new Error('a list identifier has an empty part: remove the extra dot');
    }
    if (strange) {
      throw new Error(`a list identifier cannot hold '${strange[0]}': use lower-case letters, `
        + 'digits, hyphens and dots, such as weekly.news.example.com');
    }
    if (label.length > 63) {
      throw new Error('a part of a list identifier has more than 63 characters');
    }
    if (label.startsWith('-') || label.endsWith('-')) {
      throw new Error('a part of a list identifier begins or ends with a hyphen');
    }
  }
  return text;
}

/** `https://HOST[:PORT][/PATH]`, without a slash at its end. */
function parseBaseUrl(text) {
  const scheme = text.trim().match(/^https:\/\//i);
  if (!scheme) {
    throw new Error('a base URL begins with https:// (mailbox providers accept no other one-click '
      + 'link)');
  }
  const given = text.trim().slice(scheme[0].length);
  // No comma or angle bracket, which would end the URI inside the field.
  const strange = given.match(/[^A-Za-z0-9._~/:[\]%-]/u);
  if (strange) {
    throw new Error(`a base URL cannot hold '${strange[0]}': give scheme, host and path only, such `
      + 'as https://leave.example.com');
  }
  const rest = given.replace(/\/+$/, '');
  const parts = rest.split('/')[0].match(/^(?:\[([^\]%]*)\]|([^:]*))(?::([0-9]+))?$/);
  const hostFits = parts && (parts[1] ? isIPv6(parts[1]) : isHostName(parts[2] ?? ''));
  if (!hostFits || Number(parts[3] ?? 0) > 65535) {
    throw new Error('a base URL needs a host name in ASCII after https://, such as '
      + 'https://leave.example.com');
  }
  return `https://${rest}`;
}

function parseMailtoHost(text) {
  if (!isHostName(text)) {
    throw new Error('a mailto host is a host name in ASCII, such as leave.example.com');
  }
  return text.toLowerCase();
}

/** Letter-digit-hyphen labels (RFC 1123 section 2.1). */
function isHostName(text) {
  const label = /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
  return text.length <= 253 && text.split('.').every((part) => label.test(part));
}

/** From the environment or a file: a command line is seen by everybody on the machine. */
function keyAtHand() {
  const { OPTOUT_KEY_FILE: file, OPTOUT_KEY: key } = process.env;
  if (file) return readFileSync(file, 'utf8');
  if (key === undefined) {
    throw new Error('no signing key: set OPTOUT_KEY_FILE or OPTOUT_KEY to what `optout key show ID`'
      + ' prints');
  }
  return key;
}

function main() {
  const text = { type: 'string' };
  const { values: given } = parseArgs({
    options: {
      'base-url': text, list: text, recipient: text, campaign: text, 'mailto-host': text,
      'list-id': { type: 'boolean' }, issued: text,
    },
  });
  for (const name of ['base-url', 'list', 'recipient']) {
    if (given[name] === undefined) throw new Error(`give --${name}`);
  }
  const fields = headers({
    key: keyAtHand(),
    baseUrl: given['base-url'],
    list: given.list,
    recipient: given.recipient,
    campaign: given.campaign,
    mailtoHost: given['mailto-host'],
    withListId: given['list-id'],
    issued: given.issued === undefined ? undefined : Number(given.issued),
  });
  console.log(lines(fields).join('\n'));
}

// Only when it is run, not when it is imported.
if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    main();
  } catch (error) {
    console.error(`mint.mjs: ${error.message}`);
    process.exitCode = 2;
  }
}
