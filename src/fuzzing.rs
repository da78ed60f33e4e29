//! Doorways for `tests/fuzz` to what is private otherwise. They are no part of the interface, and
//! nothing else may use them.

use crate::link::{SigningKey, Token};

/// Seals octets that need not be laid out as a link, which only the holder of a key can. At most
/// 836, as many as a link may have.
pub fn seal(plaintext: &[u8], key: &SigningKey) -> Token {
    crate::link::seal_plaintext(plaintext.to_vec(), key)
}

/// Whether a POST's body is the page's own form, and not a provider's click.
pub fn is_the_pages_form(content_type: &[u8], body: &[u8]) -> bool {
    crate::serve::is_the_pages_form(content_type, body)
}

/// What is wrong with a configuration of a file (its name and text), of environment variables
/// and of what stands after `--set`.
///
/// # Errors
///
/// The line that a person would read.
pub fn check_configuration(
    file: (&str, &str),
    variables: &[(&str, &str)],
    settings: &[String],
) -> Result<(), String> {
    crate::cli::check_layers(file, variables, settings)
}
