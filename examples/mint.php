<?php

/**
 * Mints the signed unsubscribe fields of one message to one recipient (link token, version 1).
 *
 * One file on PHP 8's own functions alone: copy it beside your mailer.
 *
 *     require 'mint.php';
 *
 *     $fields = Optout\headers(
 *         key: getenv('OPTOUT_KEY'), baseUrl: 'https://leave.example.com',
 *         list: 'news.example.com', recipient: 'alice@example.org', campaign: '2026-01',
 *     );
 *     mail($to, $subject, $body, $fields);
 *
 * The key is what `optout key show ID` prints; keep it where you keep passwords. The recipient
 * goes into the link as you write it: the service compares, so do not fold or normalise addresses
 * here. Texts are UTF-8.
 *
 *     OPTOUT_KEY_FILE=key php mint.php --base-url https://leave.example.com \
 *         --list news.example.com --recipient alice@example.org
 */

declare(strict_types=1);

namespace Optout;

use InvalidArgumentException;
use SensitiveParameter;

const ONE_CLICK = 'List-Unsubscribe=One-Click';
const KEY_PREFIX = 'optout_key_';

/** Longest mail address in octets (RFC 5321 section 4.5.3.1.3, less the angle brackets). */
const MAX_ADDRESS = 254;
/** Longest List-Unsubscribe value in octets; Amazon SES takes no longer one. */
const MAX_VALUE = 870;

/**
 * The fields of one message, by their names; the values go into it as they are.
 *
 * $issued is in Unix seconds: give one time for a whole mailing, so that a message that is sent
 * again has the same link. Without it, it is now. The mailto form, for mail clients that do not
 * POST, is left out when its address would have more than 254 octets or the value more than 870.
 *
 * @return array<string, string>
 * @throws InvalidArgumentException which says what is wrong and never repeats the key
 */
function headers(
    #[SensitiveParameter] string $key,
    string $baseUrl,
    string $list,
    string $recipient,
    string $campaign = '',
    ?string $mailtoHost = null,
    bool $withListId = false,
    ?int $issued = null,
): array {
    $base = parse_base_url($baseUrl);
    check_list_id($list);
    $host = $mailtoHost === null ? null : parse_mailto_host($mailtoHost);
    $token = seal(parse_key($key), plaintext($issued ?? time(), $list, $campaign, $recipient));
    $value = "<$base/u/" . base64url($token) . '>';
    $length = strlen($value);
    if ($length > MAX_VALUE) {
        throw new InvalidArgumentException("the link takes $length octets in List-Unsubscribe, "
            . 'which holds ' . MAX_VALUE . ': shorten the base URL, the list identifier or the '
            . 'campaign');
    }
    if ($host !== null) {
        $address = 'unsubscribe+' . base32($token) . "@$host";
        $both = "$value, <mailto:$address>";
        if (strlen($address) <= MAX_ADDRESS && strlen($both) <= MAX_VALUE) {
            $value = $both;
        }
    }
    $fields = ['List-Unsubscribe' => $value, 'List-Unsubscribe-Post' => ONE_CLICK];
    return $withListId ? $fields + ['List-Id' => "<$list>"] : $fields;
}

/**
 * The lines as they go into a message, without their ends: folded after the comma alone.
 *
 * @param array<string, string> $fields
 * @return list<string>
 */
function lines(array $fields): array
{
    $write = fn (string $name, string $value): string => "$name: $value";
    $whole = implode("\n", array_map($write, array_keys($fields), $fields));
    return explode("\n", str_replace('>, <', ">,\n <", $whole));
}

/** The 32 bytes of a key in text form; white space in it is forgiven. */
function parse_key(#[SensitiveParameter] string $text): string
{
    if (preg_match('/["\'`]/', $text)) {
        throw new InvalidArgumentException('the signing key holds quotation marks: remove them');
    }
    $kept = preg_replace('/\s/', '', $text);
    if (!str_starts_with($kept, KEY_PREFIX)) {
        throw new InvalidArgumentException('a signing key begins with ' . KEY_PREFIX);
    }
    $encoded = substr($kept, strlen(KEY_PREFIX));
    $length = strlen($encoded);
    if ($length !== 43) {
        throw new InvalidArgumentException('a signing key has 43 characters after ' . KEY_PREFIX
            . ", this one has $length: copy it whole");
    }
    $secret = base64_decode(strtr($encoded, '-_', '+/'), true);
    // The decoder forgives the other alphabet and bits that are left over.
    if ($secret === false || base64url($secret) !== $encoded) {
        throw new InvalidArgumentException('a signing key holds only letters, digits, - and _ '
            . 'after ' . KEY_PREFIX . ', and its last character is one that 32 bytes can end in: '
            . 'copy it again');
    }
    return $secret;
}

function plaintext(int $issued, string $list, string $campaign, string $recipient): string
{
    if ($issued < 0 || $issued > 0xFFFFFFFF) {
        throw new InvalidArgumentException(
            'issued is a time in Unix seconds, from 0 to 4294967295'
        );
    }
    check_utf8('campaign', $campaign);
    check_utf8('recipient', $recipient);
    [$campaignLength, $recipientLength] = [strlen($campaign), strlen($recipient)];
    if ($campaignLength > 255) {
        throw new InvalidArgumentException(
            "a campaign has at most 255 octets, this one has $campaignLength: shorten it"
        );
    }
    if ($recipientLength === 0) {
        throw new InvalidArgumentException('the recipient is empty');
    }
    if ($recipientLength > 320) {
        throw new InvalidArgumentException(
            "a recipient has at most 320 octets, this one has $recipientLength"
        );
    }
    return pack('N', $issued) . chr(strlen($list)) . $list . chr($campaignLength) . $campaign
        . $recipient;
}

function check_utf8(string $what, string $text): void
{
    if (!preg_match('//u', $text)) {
        throw new InvalidArgumentException("the $what is no Unicode text");
    }
}

function seal(#[SensitiveParameter] string $secret, string $plaintext): string
{
    $prk = hmac('optout/1', $secret);
    $header = "\x01" . expand($prk, 'key id', 4);
    $siv = substr(hmac(expand($prk, 'mac', 32), $header . $plaintext), 0, 16);
    $stream = expand(expand($prk, 'seal', 32), "link$siv", strlen($plaintext));
    return $header . $siv . ($plaintext ^ $stream);
}

function hmac(#[SensitiveParameter] string $key, #[SensitiveParameter] string $data): string
{
    return hash_hmac('sha256', $data, $key, true);
}

/** HKDF-Expand (RFC 5869 section 2.3); PHP's hash_hkdf has no form without the extraction. */
function expand(#[SensitiveParameter] string $prk, string $info, int $length): string
{
    $out = $block = '';
    for ($counter = 1; strlen($out) < $length; $counter++) {
        $block = hmac($prk, $block . $info . chr($counter));
        $out .= $block;
    }
    return substr($out, 0, $length);
}

function base64url(#[SensitiveParameter] string $data): string
{
    return rtrim(strtr(base64_encode($data), '+/', '-_'), '=');
}

/** RFC 4648 section 6, in lower case and without padding. */
function base32(string $data): string
{
    $bits = '';
    foreach (str_split($data) as $byte) {
        $bits .= sprintf('%08b', ord($byte));
    }
    $letter = fn (string $group): string =>
        'abcdefghijklmnopqrstuvwxyz234567'[bindec(str_pad($group, 5, '0'))];
    return implode(array_map($letter, str_split($bits, 5)));
}

/** A list identifier: lower-case labels joined by dots (RFC 2919). */
function check_list_id(string $text): void
{
    check_utf8('list identifier', $text);
    if ($text === '') {
        throw new InvalidArgumentException('a list identifier is empty');
    }
    if (strlen($text) > 255) {
        throw new InvalidArgumentException('a list identifier has more than 255 characters');
    }
    foreach (explode('.', $text) as $label) {
        if ($label === '') {
            throw new InvalidArgumentException(
                'a list identifier has an empty part: remove the extra dot'
            );
        }
        if (preg_match('/[^a-z0-9-]/u', $label, $strange)) {
            throw new InvalidArgumentException("a list identifier cannot hold '$strange[0]': use "
                . 'lower-case letters, digits, hyphens and dots, such as weekly.news.example.com');
        }
        if (strlen($label) > 63) {
            throw new InvalidArgumentException(
                'a part of a list identifier has more than 63 characters'
            );
        }
        if ($label[0] === '-' || $label[-1] === '-') {
            throw new InvalidArgumentException(
                'a part of a list identifier begins or ends with a hyphen'
            );
        }
    }
}

/** `https://HOST[:PORT][/PATH]`, without a slash at its end. */
function parse_base_url(string $text): string
{
    check_utf8('base URL', $text);
    $given = trim($text);
    if (!preg_match('~^https://~i', $given)) {
        throw new InvalidArgumentException('a base URL begins with https:// (mailbox providers '
            . 'accept no other one-click link)');
    }
    $given = substr($given, strlen('https://'));
    // No comma or angle bracket, which would end the URI inside the field.
    if (preg_match('~[^A-Za-z0-9._\~/:[\]%-]~u', $given, $strange)) {
        throw new InvalidArgumentException("a base URL cannot hold '$strange[0]': give scheme, "
            . 'host and path only, such as https://leave.example.com');
    }
    $rest = rtrim($given, '/');
    $authority = explode('/', $rest)[0];
    $isOne = preg_match('~^(?:\[([^\]%]*)\]|([^:]*))(?::([0-9]+))?$~D', $authority, $parts);
    $isIpv6 = fn (string $literal): bool =>
        filter_var($literal, FILTER_VALIDATE_IP, FILTER_FLAG_IPV6) !== false;
    $fits = $isOne && ($parts[1] !== '' ? $isIpv6($parts[1]) : is_host_name($parts[2] ?? ''));
    if (!$fits || (int) ($parts[3] ?? 0) > 65535) {
        throw new InvalidArgumentException('a base URL needs a host name in ASCII after https://, '
            . 'such as https://leave.example.com');
    }
    return "https://$rest";
}

function parse_mailto_host(string $text): string
{
    if (!is_host_name($text)) {
        throw new InvalidArgumentException(
            'a mailto host is a host name in ASCII, such as leave.example.com'
        );
    }
    return strtolower($text);
}

/** Letter-digit-hyphen labels (RFC 1123 section 2.1). */
function is_host_name(string $text): bool
{
    $label = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?';
    return strlen($text) <= 253 && preg_match("~^$label(?:\\.$label)*\$~D", $text) === 1;
}

/** From the environment or a file: a command line is seen by everybody on the machine. */
function key_at_hand(): string
{
    $file = getenv('OPTOUT_KEY_FILE');
    $key = $file ? @file_get_contents($file) : getenv('OPTOUT_KEY');
    if ($key === false) {
        throw new InvalidArgumentException($file ? "$file cannot be read" :
            'no signing key: set OPTOUT_KEY_FILE or OPTOUT_KEY to what `optout key show ID` '
            . 'prints');
    }
    return $key;
}

function main(): void
{
    $given = getopt('', ['base-url:', 'list:', 'recipient:', 'campaign:', 'mailto-host:',
        'list-id', 'issued:']);
    // What is given twice comes as an array: the last counts, as it does elsewhere.
    $given = array_map(fn ($value) => is_array($value) ? end($value) : $value, $given);
    $issued = $given['issued'] ?? null;
    if ($issued !== null && !ctype_digit($issued)) {
        throw new InvalidArgumentException('--issued is a number of seconds');
    }
    $fields = headers(
        key: key_at_hand(),
        baseUrl: $given['base-url'] ?? '',
        list: $given['list'] ?? '',
        recipient: $given['recipient'] ?? '',
        campaign: $given['campaign'] ?? '',
        mailtoHost: $given['mailto-host'] ?? null,
        withListId: isset($given['list-id']),
        issued: $issued === null ? null : (int) $issued,
    );
    echo implode("\n", lines($fields)), "\n";
}

// Only when it is run, not when it is required.
if (PHP_SAPI === 'cli' && realpath($_SERVER['SCRIPT_FILENAME']) === __FILE__) {
    try {
        main();
    } catch (InvalidArgumentException $error) {
        fwrite(STDERR, "mint.php: {$error->getMessage()}\n");
        exit(2);
    }
}
