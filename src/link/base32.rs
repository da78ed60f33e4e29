//! Base32 (RFC 4648 section 6) in lower case and without padding: the form a token takes in the
//! local part of a mail address, where letters may be folded to one case on the way.

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Lower-case base32 without padding.
pub(super) fn encode(data: &[u8]) -> String {
    let mut text = String::with_capacity((data.len() * 8).div_ceil(5));
    let (mut buffer, mut bits) = (0u16, 0u32);
    for &byte in data {
        buffer = (buffer << 8) | u16::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[usize::from((buffer >> bits) & 31)]));
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[usize::from((buffer << (5 - bits)) & 31)]));
    }
    text
}

/// Decodes either case; `None` for other characters, impossible lengths, and trailing bits that
/// are not zero, so that each token has one form only (RFC 4648 section 3.5).
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    if matches!(text.len() % 8, 1 | 3 | 6) {
        return None;
    }
    let mut data = Vec::with_capacity(text.len() * 5 / 8);
    let (mut buffer, mut bits) = (0u16, 0u32);
    for byte in text.bytes() {
        let value = match byte.to_ascii_lowercase() {
            letter @ b'a'..=b'z' => letter - b'a',
            digit @ b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        buffer = (buffer << 5) | u16::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            data.push((buffer >> bits) as u8);
            buffer &= (1 << bits) - 1;
        }
    }
    (buffer == 0).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    /// RFC 4648 section 10.
    #[test]
    fn reproduces_the_standards_vectors() {
        for (plain, text) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
            ("foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(encode(plain.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(plain.as_bytes()));
            assert_eq!(decode(&text.to_uppercase()).as_deref(), Some(plain.as_bytes()));
        }
    }

    #[test]
    fn refuses_what_no_encoder_writes() {
        for text in ["m", "mzx", "mzxw6y", "mz", "my=", "m1", "m y", "mö"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
