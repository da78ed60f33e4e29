// Mints the signed unsubscribe fields of one message to one recipient (link token, version 1).
//
// One file on the standard library alone (Go 1.19 or newer): copy it into your mailer, give it your
// package's name, and drop main and keyAtHand.
//
//	fields, err := Headers(Message{
//		Key: os.Getenv("OPTOUT_KEY"), BaseURL: "https://leave.example.com",
//		List: "news.example.com", Recipient: "alice@example.org", Campaign: "2026-01",
//	})
//
// The key is what `optout key show ID` prints; keep it where you keep passwords. The recipient goes
// into the link as you write it: the service compares, so do not fold or normalise addresses here.
//
//	OPTOUT_KEY_FILE=key go run mint.go --base-url https://leave.example.com \
//		--list news.example.com --recipient alice@example.org
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	oneClick  = "List-Unsubscribe=One-Click"
	keyPrefix = "optout_key_"

	// Longest mail address in octets (RFC 5321 section 4.5.3.1.3, less the angle brackets).
	maxAddress = 254
	// Longest List-Unsubscribe value in octets; Amazon SES takes no longer one.
	maxValue = 870
)

// Message is what a link is minted for.
type Message struct {
	// Key is the signing key in text form, BaseURL what links begin with.
	Key, BaseURL string
	// List is the list that the message is sent for, Recipient whom it goes to.
	List, Recipient string
	// Campaign is your name for what is sent, for reports; it may be empty.
	Campaign string
	// MailtoHost is the host of the mailto form, for mail clients that do not POST; empty, none.
	MailtoHost string
	// WithListID adds List-Id.
	WithListID bool
	// Issued is now if it is zero. Give one time for a whole mailing, so that a message that is
	// sent again has the same link.
	Issued time.Time
}

// Field is one field of a message's header; the value goes into it as it is.
type Field struct{ Name, Value string }

// Headers mints the fields of one message. The mailto form is left out when its address would have
// more than 254 octets or the value more than 870. An error never repeats the key.
func Headers(message Message) ([]Field, error) {
	base, err := parseBaseURL(message.BaseURL)
	if err != nil {
		return nil, err
	}
	if message.MailtoHost != "" && !isHostName(message.MailtoHost) {
		return nil, errors.New("a mailto host is a host name in ASCII, such as leave.example.com")
	}
	secret, err := parseKey(message.Key)
	if err != nil {
		return nil, err
	}
	plaintext, err := plaintextOf(message)
	if err != nil {
		return nil, err
	}
	token := seal(secret, plaintext)
	value := "<" + base + "/u/" + base64.RawURLEncoding.EncodeToString(token) + ">"
	if len(value) > maxValue {
		return nil, fmt.Errorf("the link takes %d octets in List-Unsubscribe, which holds %d: "+
			"shorten the base URL, the list identifier or the campaign", len(value), maxValue)
	}
	if message.MailtoHost != "" {
		address := "unsubscribe+" + lowerBase32(token) + "@" + strings.ToLower(message.MailtoHost)
		both := value + ", <mailto:" + address + ">"
		if len(address) <= maxAddress && len(both) <= maxValue {
			value = both
		}
	}
	fields := []Field{{"List-Unsubscribe", value}, {"List-Unsubscribe-Post", oneClick}}
	if message.WithListID {
		fields = append(fields, Field{"List-Id", "<" + message.List + ">"})
	}
	return fields, nil
}

// Lines are the fields as they go into a message, without line ends: folded after the comma alone.
func Lines(fields []Field) []string {
	var lines []string
	for _, field := range fields {
		folded := strings.Replace(field.Value, ">, <", ">,\n <", 1)
		lines = append(lines, strings.Split(field.Name+": "+folded, "\n")...)
	}
	return lines
}

// parseKey reads the 32 bytes of a key in text form; white space in it is forgiven.
func parseKey(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\"'`") {
		return nil, errors.New("the signing key holds quotation marks: remove them")
	}
	kept := strings.Join(strings.Fields(text), "")
	if !strings.HasPrefix(kept, keyPrefix) {
		return nil, errors.New("a signing key begins with " + keyPrefix)
	}
	encoded := strings.TrimPrefix(kept, keyPrefix)
	if length := utf8.RuneCountInString(encoded); length != 43 {
		return nil, fmt.Errorf("a signing key has 43 characters after %s, this one has %d: copy it "+
			"whole", keyPrefix, length)
	}
	secret, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("a signing key holds only letters, digits, - and _ after %s, and its "+
			"last character is one that 32 bytes can end in: copy it again", keyPrefix)
	}
	return secret, nil
}

func plaintextOf(message Message) ([]byte, error) {
	if err := checkListID(message.List); err != nil {
		return nil, err
	}
	issued := message.Issued.Unix()
	if message.Issued.IsZero() {
		issued = time.Now().Unix()
	}
	if issued < 0 || issued > 0xFFFF_FFFF {
		return nil, errors.New("issued is a time in Unix seconds, from 0 to 4294967295")
	}
	if !utf8.ValidString(message.Campaign) {
		return nil, errors.New("the campaign is no Unicode text")
	}
	if !utf8.ValidString(message.Recipient) {
		return nil, errors.New("the recipient is no Unicode text")
	}
	if n := len(message.Campaign); n > 255 {
		return nil, fmt.Errorf("a campaign has at most 255 octets, this one has %d: shorten it", n)
	}
	if message.Recipient == "" {
		return nil, errors.New("the recipient is empty")
	}
	if n := len(message.Recipient); n > 320 {
		return nil, fmt.Errorf("a recipient has at most 320 octets, this one has %d", n)
	}
	plaintext := binary.BigEndian.AppendUint32(nil, uint32(issued))
	for _, part := range []string{message.List, message.Campaign} {
		plaintext = append(append(plaintext, byte(len(part))), part...)
	}
	return append(plaintext, message.Recipient...), nil
}

func seal(secret, plaintext []byte) []byte {
	prk := hmacOf([]byte("optout/1"), secret)
	header := append([]byte{1}, expand(prk, []byte("key id"), 4)...)
	siv := hmacOf(expand(prk, []byte("mac"), 32), header, plaintext)[:16]
	info := append([]byte("link"), siv...)
	stream := expand(expand(prk, []byte("seal"), 32), info, len(plaintext))
	token := append(header, siv...)
	for i, octet := range plaintext {
		token = append(token, octet^stream[i])
	}
	return token
}

func hmacOf(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, part := range parts {
		mac.Write(part)
	}
	return mac.Sum(nil)
}

// expand is HKDF-Expand (RFC 5869 section 2.3).
func expand(prk, info []byte, length int) []byte {
	var out, block []byte
	for counter := byte(1); len(out) < length; counter++ {
		block = hmacOf(prk, block, info, []byte{counter})
		out = append(out, block...)
	}
	return out[:length]
}

func lowerBase32(data []byte) string {
	encoding := base32.StdEncoding.WithPadding(base32.NoPadding)
	return strings.ToLower(encoding.EncodeToString(data))
}

var notInList = regexp.MustCompile(`[^a-z0-9-]`)

// checkListID refuses what is no list identifier: lower-case labels joined by dots (RFC 2919).
func checkListID(text string) error {
	if !utf8.ValidString(text) {
		return errors.New("the list identifier is no Unicode text")
	}
	if text == "" {
		return errors.New("a list identifier is empty")
	}
	if len(text) > 255 {
		return errors.New("a list identifier has more than 255 characters")
	}
	for _, label := range strings.Split(text, ".") {
		if label == "" {
			return errors.New("a list identifier has an empty part: remove the extra dot")
		}
		if strange := notInList.FindString(label); strange != "" {
			return fmt.Errorf("a list identifier cannot hold '%s': use lower-case letters, digits, "+
				"hyphens and dots, such as weekly.news.example.com", strange)
		}
		if len(label) > 63 {
			return errors.New("a part of a list identifier has more than 63 characters")
		}
		if strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return errors.New("a part of a list identifier begins or ends with a hyphen")
		}
	}
	return nil
}

var (
	schemeOf = regexp.MustCompile(`^(?i:https)://`)
	// No comma or angle bracket, which would end the URI inside the field.
	notInBase   = regexp.MustCompile(`[^A-Za-z0-9._~/:\[\]%-]`)
	authorityOf = regexp.MustCompile(`^(?:\[([^\]%]*)\]|([^:]*))(?::([0-9]+))?$`)
)

// parseBaseURL takes `https://HOST[:PORT][/PATH]`, and drops a slash at its end.
func parseBaseURL(text string) (string, error) {
	given := strings.TrimSpace(text)
	scheme := schemeOf.FindString(given)
	if scheme == "" {
		return "", errors.New("a base URL begins with https:// (mailbox providers accept no other " +
			"one-click link)")
	}
	given = given[len(scheme):]
	if strange := notInBase.FindString(given); strange != "" {
		return "", fmt.Errorf("a base URL cannot hold '%s': give scheme, host and path only, such "+
			"as https://leave.example.com", strange)
	}
	rest := strings.TrimRight(given, "/")
	authority, _, _ := strings.Cut(rest, "/")
	if parts := authorityOf.FindStringSubmatch(authority); parts == nil || !isHostAndPort(parts[1:]) {
		return "", errors.New("a base URL needs a host name in ASCII after https://, such as " +
			"https://leave.example.com")
	}
	return "https://" + rest, nil
}

// isHostAndPort looks at an address literal, or a host name instead, and a port if there is one.
func isHostAndPort(parts []string) bool {
	literal, name, port := parts[0], parts[1], parts[2]
	if _, err := strconv.ParseUint(port, 10, 16); port != "" && err != nil {
		return false
	}
	if literal == "" {
		return isHostName(name)
	}
	address, err := netip.ParseAddr(literal)
	return err == nil && address.Is6()
}

const hostLabel = `[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?`

// Letter-digit-hyphen labels (RFC 1123 section 2.1).
var hostName = regexp.MustCompile(`^` + hostLabel + `(?:\.` + hostLabel + `)*$`)

func isHostName(text string) bool {
	return len(text) <= 253 && hostName.MatchString(text)
}

// keyAtHand reads the environment or a file: a command line is seen by everybody on the machine.
func keyAtHand() (string, error) {
	if file := os.Getenv("OPTOUT_KEY_FILE"); file != "" {
		text, err := os.ReadFile(file)
		return string(text), err
	}
	if key, isSet := os.LookupEnv("OPTOUT_KEY"); isSet {
		return key, nil
	}
	return "", errors.New("no signing key: set OPTOUT_KEY_FILE or OPTOUT_KEY to what " +
		"`optout key show ID` prints")
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mint.go:", err)
		os.Exit(2)
	}
}

func run() error {
	var message Message
	flag.StringVar(&message.BaseURL, "base-url", "", "what links begin with")
	flag.StringVar(&message.List, "list", "", "the list that the message is sent for")
	flag.StringVar(&message.Recipient, "recipient", "", "whom it goes to")
	flag.StringVar(&message.Campaign, "campaign", "", "your name for what is sent, for reports")
	flag.StringVar(&message.MailtoHost, "mailto-host", "", "the host of the mailto form")
	flag.BoolVar(&message.WithListID, "list-id", false, "also print List-Id")
	issued := flag.Int64("issued", time.Now().Unix(), "when, in Unix seconds")
	flag.Parse()
	message.Issued = time.Unix(*issued, 0)
	key, err := keyAtHand()
	if err != nil {
		return err
	}
	message.Key = key
	fields, err := Headers(message)
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(Lines(fields), "\n"))
	return nil
}
