//! What fuzzers feed: any bytes, through the paths that read what strangers send. Each entry panics where a promise is
//! broken, whatever the bytes were. Not part of the server: it is there for tests and under the feature `fuzzing`.
//!
//! ```text
//! resp    one byte that chooses the cuts, then what a client sends: over a whole connection and a store in memory
//! rest    one byte that chooses a decoder, then what it is given
//! ```

use crate::admin::{batch, body, cursor, query};
use crate::testing::answers;

/// Parts into which a client's bytes are cut at most: enough to cut within each part of a command.
const MAX_PIECES: usize = 64;

/// Most answers that a reply may announce and be believed; no command over a small store gives more.
const MAX_ELEMENTS: usize = 1 << 20;

/// Serves a client that sends `data` but for its first byte, in pieces which that chooses. What it is answered must be
/// whole replies.
///
/// # Panics
/// Where an answer is none.
pub fn resp(data: &[u8]) {
    let Some((&choice, sent)) = data.split_first() else {
        return;
    };
    let heard = answers(cut(choice, sent));
    assert!(
        well_formed(&heard),
        "an answer that is none: {}",
        heard.escape_ascii()
    );
}

/// Cuts bytes by the numbers that follow from `choice`.
fn cut(choice: u8, mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut state = usize::from(choice);
    let mut pieces = Vec::new();
    while pieces.len() + 1 < MAX_PIECES && bytes.len() > 1 {
        // A linear congruence is as good as any chance here; its high bits vary best.
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let most = if choice.is_multiple_of(2) { 4 } else { bytes.len() };
        let (piece, rest) = bytes.split_at(1 + (state >> 16) % most.min(bytes.len() - 1));
        pieces.push(piece.to_vec());
        bytes = rest;
    }
    pieces.push(bytes.to_vec());
    pieces
}

/// Whether bytes are whole replies of either version of the protocol, and nothing else.
fn well_formed(mut bytes: &[u8]) -> bool {
    // Elements of replies begun that have yet to come.
    let mut wanted = 0_usize;
    while let Some((&kind, behind)) = bytes.split_first() {
        let Some(end) = behind.windows(2).position(|pair| pair == b"\r\n") else {
            return false;
        };
        let (line, rest) = (&behind[..end], &behind[end + 2..]);
        let number = std::str::from_utf8(line)
            .ok()
            .and_then(|text| text.parse::<i64>().ok());
        wanted = wanted.saturating_sub(1);
        bytes = match (kind, number.map(usize::try_from)) {
            (b'+' | b'-' | b',' | b'(', _) => rest,
            (b':', Some(_)) => rest,
            (b'_', _) if line.is_empty() => rest,
            (b'#', _) if line == b"t" || line == b"f" => rest,
            (b'$' | b'*', Some(Err(_))) if line == b"-1" => rest,
            (b'$' | b'=', Some(Ok(length))) => match rest.split_at_checked(length) {
                Some((_, rest)) if rest.starts_with(b"\r\n") => &rest[2..],
                _ => return false,
            },
            (b'*' | b'~' | b'>' | b'%', Some(Ok(count))) if count <= MAX_ELEMENTS => {
                wanted += if kind == b'%' { 2 * count } else { count };
                rest
            }
            _ => return false,
        };
    }
    wanted == 0
}

/// Gives `data` but for its first byte to one of the decoders of the admin plane, and what it made of it back to the
/// encoder, where there is one.
///
/// # Panics
/// Where what was read does not read back.
pub fn rest(data: &[u8]) {
    let Some((&choice, given)) = data.split_first() else {
        return;
    };
    let text = std::str::from_utf8(given).ok();
    match (choice % 4, text) {
        (0, _) => {
            let encoded: String = given.iter().map(|byte| format!("%{byte:02x}")).collect();
            let decoded = query::decode("key", encoded.as_bytes());
            assert_eq!(decoded.as_deref(), Ok(given), "every byte has its code");
            if let Ok(key) = query::decode("key", given) {
                assert!(key.len() <= given.len(), "decoding makes nothing longer");
            }
        }
        (1, Some(text)) => read_query(text),
        (2, Some(text)) => {
            for range in [[b"a".as_slice(), b"b"], [b"".as_slice(), given]] {
                if let Ok(key) = cursor::decode(&range, text) {
                    assert_eq!(cursor::encode(&range, &key), text, "one cursor for each place");
                }
            }
            let made = cursor::encode(&[given], b"key");
            assert_eq!(cursor::decode(&[given], &made).as_deref(), Ok(b"key".as_slice()));
        }
        (3, _) => {
            let asked = body::parse::<batch::BatchBody>(given);
            // Refused or made; that it does not panic and bounds what it makes is the promise.
            let _made = asked.and_then(|asked| batch::batch_of(asked.operations, u64::MAX));
        }
        _ => {}
    }
}

/// Reads a query as a scan's is read.
fn read_query(text: &str) {
    const KNOWN: [&str; 4] = ["start", "limit", "reverse", "keys_only"];
    let Ok(query) = query::Query::parse(Some(text), &KNOWN) else {
        return;
    };
    let start = query.bytes("start").map_or(0, <[u8]>::len);
    assert!(start <= text.len(), "decoding makes nothing longer");
    if query.number("limit").is_ok_and(|limit| limit.is_some()) {
        assert!(query.text("limit").is_ok(), "a number is a text");
    }
    let _refused_or_read = (query.flag("reverse"), query.flag("keys_only"));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every file of a target's seeds.
    #[expect(clippy::disallowed_methods, reason = "files of the test")]
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let place = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds");
        let files = std::fs::read_dir(format!("{place}/{target}")).expect("seeds are committed");
        let seeds: Vec<_> = files
            .map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .collect();
        assert!(seeds.len() >= 5, "{} seeds of {target}", seeds.len());
        seeds
    }

    #[test]
    fn every_seed_keeps_every_promise_at_every_cut() {
        for seed in seeds("resp") {
            for choice in 0..=255 {
                resp(&[&[choice], &seed[1..]].concat());
            }
        }
        for seed in seeds("rest") {
            for choice in 0..4 {
                rest(&[&[choice], &seed[1..]].concat());
            }
        }
    }

    #[test]
    fn replies_are_told_from_what_is_none() {
        for good in [
            "",
            "+OK\r\n",
            "$-1\r\n:1\r\n",
            "*2\r\n$1\r\na\r\n*0\r\n",
            "%1\r\n+a\r\n_\r\n",
        ] {
            assert!(well_formed(good.as_bytes()), "{good:?}");
        }
        for bad in [
            "OK",
            "+OK",
            "$3\r\na\r\n",
            "*2\r\n+a\r\n",
            ":x\r\n",
            "*-2\r\n",
            "?\r\n",
        ] {
            assert!(!well_formed(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn pieces_are_what_was_cut() {
        let bytes: Vec<u8> = (0..=255).collect();
        for choice in 0..=255 {
            let pieces = cut(choice, &bytes);
            assert!(pieces.len() > 1 && pieces.concat() == bytes, "{choice}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_keep_every_promise(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            resp(&data);
            rest(&data);
        }

        /// A seed with some bytes changed comes further than chance does.
        #[test]
        fn seeds_with_some_bytes_changed_keep_every_promise(
            chosen: proptest::sample::Index,
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        ) {
            for (target, run) in [("resp", resp as fn(&[u8])), ("rest", rest)] {
                let seeds = seeds(target);
                let mut data = chosen.get(&seeds).clone();
                for (at, byte) in &changes {
                    *at.get_mut(&mut data) = *byte;
                }
                run(&data);
            }
        }
    }
}
