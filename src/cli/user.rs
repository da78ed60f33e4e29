//! Who runs a command, for the record.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

/// The operating system's name of the user that the process runs as; `uid N` where it has none.
/// Not from the environment, which anybody can set.
pub(super) fn name() -> Option<String> {
    let uid = fs::metadata("/proc/self").ok()?.uid();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, own) = (fields.next()?, fields.next()?, fields.next()?);
        (own.parse() == Ok(uid)).then(|| name.to_owned())
    });
    Some(named.unwrap_or_else(|| format!("uid {uid}")))
}
