//! Every command the server knows, gathered from the files that describe and run them.

use std::sync::LazyLock;

use super::{Keyed, Keys, Local, Run, Spec};
use super::{
    auth, bits, client, cluster, config, connection, debug, expiry, flush, introspect, keyspace, latency,
    memory, numbers, object, ranges, scan, server, slowlog, strings, transaction,
};

/// A row of the table: a command that this core runs.
pub const fn spec(
    name: &'static str,
    arity: i32,
    flags: &'static [&'static str],
    keys: Keys,
    group: &'static str,
    summary: &'static str,
    run: Local,
) -> Spec {
    Spec {
        name,
        arity,
        flags,
        keys,
        group,
        summary,
        run: Run::Local(run),
    }
}

/// A row of the table: a command that the core that owns its keys runs.
pub const fn keyed(
    name: &'static str,
    arity: i32,
    flags: &'static [&'static str],
    keys: Keys,
    group: &'static str,
    summary: &'static str,
    run: Keyed,
) -> Spec {
    Spec {
        name,
        arity,
        flags,
        keys,
        group,
        summary,
        run: Run::Keyed(run),
    }
}

/// Reads one key or few.
pub const READ: &[&str] = &["readonly", "fast"];
/// Reads many keys.
pub const READ_MANY: &[&str] = &["readonly"];
/// Writes many keys.
pub const WRITE: &[&str] = &["write", "denyoom"];
/// Writes one key.
pub const WRITE_FAST: &[&str] = &["write", "denyoom", "fast"];
/// Touches no key.
pub const FAST: &[&str] = &["loading", "stale", "fast"];
/// Runs for clients that have not said who they are.
pub const NO_AUTH: &[&str] = &["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"];
/// For operators.
pub const ADMIN: &[&str] = &["admin", "loading", "stale"];
/// Touches no key and may take a while.
pub const STALE: &[&str] = &["loading", "stale"];

/// All commands, sorted by name; a command's place here is its number for the life of the process.
pub static ALL: LazyLock<Vec<&'static Spec>> = LazyLock::new(|| {
    let groups = [
        auth::COMMANDS,
        bits::COMMANDS,
        client::COMMANDS,
        cluster::COMMANDS,
        connection::COMMANDS,
        config::COMMANDS,
        debug::COMMANDS,
        expiry::COMMANDS,
        flush::COMMANDS,
        introspect::COMMANDS,
        keyspace::COMMANDS,
        latency::COMMANDS,
        memory::COMMANDS,
        numbers::COMMANDS,
        object::COMMANDS,
        ranges::COMMANDS,
        scan::COMMANDS,
        server::COMMANDS,
        slowlog::COMMANDS,
        strings::COMMANDS,
        transaction::COMMANDS,
    ];
    let mut all: Vec<_> = groups.into_iter().flatten().collect();
    all.sort_unstable_by_key(|spec| spec.name);
    all
});

/// The longest name, in bytes.
const LONGEST: usize = 16;

/// The place in [`ALL`] of the command of this name, which is in lower case.
pub fn place(name: &str) -> Option<u16> {
    let place = ALL.binary_search_by(|spec| spec.name.cmp(name)).ok()?;
    u16::try_from(place).ok()
}

/// The number of a command: its place in [`ALL`].
pub type Number = u16;

/// The command of this name, in whatever case.
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    find_numbered(name).map(|(_, spec)| spec)
}

/// The command of this name, in whatever case, and its number.
pub fn find_numbered(name: &[u8]) -> Option<(Number, &'static Spec)> {
    let mut lower = [0; LONGEST];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let place = ALL
        .binary_search_by(|spec| spec.name.as_bytes().cmp(lower))
        .ok()?;
    Some((Number::try_from(place).ok()?, ALL[place]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_each_name_is_found_in_any_case() {
        for pair in ALL.windows(2) {
            assert!(
                pair[0].name < pair[1].name,
                "{} before {}",
                pair[0].name,
                pair[1].name
            );
        }
        for spec in ALL.iter() {
            assert!(spec.name.len() <= LONGEST && spec.arity != 0);
            // A command on keys runs where its keys are, and a lookup runs without a write.
            assert!(spec.keyed().is_none() || spec.keys.first == 1, "{}", spec.name);
            assert!(
                !(spec.writes() && spec.flags.contains(&"readonly")),
                "{}",
                spec.name
            );
            assert_eq!(find(spec.name.to_uppercase().as_bytes()).unwrap().name, spec.name);
            assert_eq!(ALL[usize::from(place(spec.name).unwrap())].name, spec.name);
        }
        assert!(find(b"").is_none() && find(b"getx").is_none() && find(&[b'a'; 1000]).is_none());
    }
}
