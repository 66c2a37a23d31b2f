//! What hostile clients send. Pure: each kind's messages, sent in turn.

use crate::hostile::kinds::{Kind, USER};
use crate::workload::rng::Rng;

/// Bytes of nested arrays, of noise and of a line without end: above the server's longest line (64 KiB), so that each is
/// refused, and small enough that connecting counts for something.
const GARBAGE_BYTES: usize = 96 << 10;

/// A command as an array of bulk strings.
pub fn command(arguments: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// What a kind that connects anew for each message sends, one message a connection.
pub fn messages(kind: Kind) -> Vec<Vec<u8>> {
    match kind {
        Kind::Oversized => oversized(),
        Kind::Truncated => truncated(),
        Kind::Garbage => garbage(),
        // Each another one: what the server remembers of a password that was wrong must not help it.
        Kind::WrongPassword => (0..1000)
            .map(|n: u32| command(&[b"AUTH", USER.as_bytes(), format!("wrong-{n}").as_bytes()]))
            .collect(),
        Kind::Storm => vec![Vec::new()],
        Kind::Busy | Kind::Slow | Kind::Deaf | Kind::Idle => Vec::new(),
    }
}

/// Beyond the limits, at them, and within them but never sent.
fn oversized() -> Vec<Vec<u8>> {
    [
        "*1048577\r\n",
        "*99999999999999999999\r\n",
        "*2\r\n$3\r\nGET\r\n$536870913\r\n",
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67108864\r\nonly this",
        "*65536\r\n$4\r\nMGET\r\n$1\r\nk\r\n",
        "*1024\r\n$3\r\nSET\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// One command, cut at every byte.
fn truncated() -> Vec<Vec<u8>> {
    let whole = command(&[b"SET", b"hostile-cut", &[b'x'; 100]]);
    (1..whole.len()).map(|end| whole[..end].to_vec()).collect()
}

fn garbage() -> Vec<Vec<u8>> {
    let mut rng = Rng::new(7);
    let noise = (0..GARBAGE_BYTES)
        .map(|_| rng.next_u64().to_le_bytes()[0])
        .collect();
    vec![
        b"*1\r\n".repeat(GARBAGE_BYTES / 4),
        noise,
        vec![b'a'; GARBAGE_BYTES],
        b"POST / HTTP/1.1\r\nHost: a\r\n\r\nSET http 1\r\n".to_vec(),
        b"\"unbalanced\r\n".to_vec(),
        b"*2\r\n$3\r\nGET\r\n$-7\r\n".to_vec(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        assert_eq!(command(&[b"GET", b"a"]), b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
    }

    #[test]
    fn no_cut_is_the_whole_command_and_none_is_empty() {
        let cuts = truncated();
        let whole = command(&[b"SET", b"hostile-cut", &[b'x'; 100]]);
        assert_eq!(cuts.len(), whole.len() - 1);
        assert!(
            cuts.iter()
                .all(|cut| !cut.is_empty() && whole.starts_with(cut) && cut.len() < whole.len())
        );
    }

    #[test]
    fn whoever_connects_anew_has_something_to_do() {
        for kind in [
            Kind::Oversized,
            Kind::Truncated,
            Kind::Garbage,
            Kind::Storm,
            Kind::WrongPassword,
        ] {
            assert!(!messages(kind).is_empty(), "{kind:?}");
        }
        let passwords = messages(Kind::WrongPassword);
        assert_ne!(passwords[0], passwords[1]);
    }
}
