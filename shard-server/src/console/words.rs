//! From a line as typed to a command: words by the rules of inline commands, and how often it is to run.

use crate::resp::inline;

/// Most times that one line may run its command, so that a slip of the finger ends.
const MAX_TIMES: u32 = 1_000_000;

/// A line that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How often the command runs: `3 PING` means three times.
    pub times: u32,
    /// The command and its arguments.
    pub words: Vec<Vec<u8>>,
}

/// What a line says; `None` where it says nothing.
///
/// # Errors
/// In `redis-cli`'s words: a quote that does not close, or a number of times that makes no sense.
pub fn read(line: &[u8]) -> Result<Option<Line>, &'static str> {
    let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
    inline::split(line, &mut bytes, &mut ranges).map_err(|_| "Invalid argument(s)")?;
    let mut words: Vec<Vec<u8>> = ranges
        .into_iter()
        .map(|(from, to)| bytes[from..to].to_vec())
        .collect();
    let times = match words.as_slice() {
        [] => return Ok(None),
        // A number alone is a command, if an unknown one.
        [first, _, ..] => times(first)?,
        [_] => None,
    };
    if times.is_some() {
        words.remove(0);
    }
    Ok(Some(Line {
        times: times.unwrap_or(1),
        words,
    }))
}

fn times(word: &[u8]) -> Result<Option<u32>, &'static str> {
    if word.is_empty() || !word.iter().all(u8::is_ascii_digit) {
        return Ok(None);
    }
    std::str::from_utf8(word)
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|times| (1..=MAX_TIMES).contains(times))
        .map(Some)
        .ok_or("Invalid repeat command option value; it goes from 1 to 1000000")
}

/// Whether a line holds a secret, which belongs into no history.
pub fn is_secret(words: &[Vec<u8>]) -> bool {
    let is = |place: usize, name: &str| {
        words
            .get(place)
            .is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    is(0, "auth")
        || (is(0, "hello") && (2..words.len()).any(|place| is(place, "auth")))
        || (is(0, "acl") && is(1, "setuser"))
        || (is(0, "config") && is(1, "set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Option<(u32, Vec<String>)> {
        read(text.as_bytes()).unwrap().map(|line| {
            let words = line.words.iter().map(|w| String::from_utf8_lossy(w).into_owned());
            (line.times, words.collect())
        })
    }

    #[test]
    fn a_line_is_words_and_perhaps_a_number_of_times() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(line("  "), None);
        assert_eq!(line("GET k\r\n"), Some((1, words(&["GET", "k"]))));
        assert_eq!(line("3 PING"), Some((3, words(&["PING"]))));
        assert_eq!(line("3"), Some((1, words(&["3"]))));
        assert_eq!(line("\"3\" PING"), Some((3, words(&["PING"]))));
        assert_eq!(
            line(r#"SET 'a b' "\x41\n""#),
            Some((1, words(&["SET", "a b", "A\n"])))
        );
        assert_eq!(line(r#"-3 PING"#), Some((1, words(&["-3", "PING"]))));
        assert!(read(b"0 PING").is_err() && read(b"99999999999 PING").is_err());
        assert_eq!(read(b"SET a \"b"), Err("Invalid argument(s)"));
    }

    #[test]
    fn lines_with_secrets_are_known() {
        let secret = |text: &str| is_secret(&read(text.as_bytes()).unwrap().unwrap().words);
        for text in [
            "auth x",
            "AUTH user x",
            "HELLO 3 AUTH u p",
            "acl setuser u >p",
            "CONFIG SET requirepass x",
        ] {
            assert!(secret(text), "{text}");
        }
        for text in ["GET auth", "HELLO 3", "ACL LIST", "CONFIG GET *"] {
            assert!(!secret(text), "{text}");
        }
    }
}
