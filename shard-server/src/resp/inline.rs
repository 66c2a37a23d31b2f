//! Splits an inline command into words, with quotes and escapes as `sdssplitargs` of Redis understands them.
//!
//! Words are separated by white space. `"…"` knows `\n \r \t \b \a \xHH` and takes any other escaped byte as itself;
//! `'…'` knows only `\'`. A closing quote must be followed by white space or the end.

use super::ProtocolError;

/// Appends the words of `line` to `bytes`, unescaped, and where each lies in `bytes` to `ranges`. No word is longer
/// than the line, so what is appended is no longer than it either.
///
/// # Errors
/// [`ProtocolError::UnbalancedQuotes`].
pub fn split(
    line: &[u8],
    bytes: &mut Vec<u8>,
    ranges: &mut Vec<(usize, usize)>,
) -> Result<(), ProtocolError> {
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        // Redis reads the line as a C string; what follows a NUL is not there.
        if matches!(rest.first(), None | Some(0)) {
            return Ok(());
        }
        let start = bytes.len();
        rest = word(rest, bytes)?;
        ranges.push((start, bytes.len()));
    }
}

/// Reads one word and returns what follows it.
fn word<'a>(mut rest: &'a [u8], bytes: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        match rest {
            [] | [0 | b' ' | b'\t' | b'\n' | b'\r', ..] => return Ok(rest),
            [b'"', inner @ ..] => return closed(double_quoted(inner, bytes)?),
            [b'\'', inner @ ..] => return closed(single_quoted(inner, bytes)?),
            [byte, after @ ..] => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
}

fn closed(rest: &[u8]) -> Result<&[u8], ProtocolError> {
    match rest.first() {
        Some(byte) if !byte.is_ascii_whitespace() && *byte != 0 => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(rest),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], bytes: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'"', after @ ..] => return Ok(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            [b'\\', escaped, after @ ..] => {
                bytes.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = after;
            }
            [byte, after @ ..] => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], bytes: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'\'', after @ ..] => return Ok(after),
            [b'\\', b'\'', after @ ..] => {
                bytes.push(b'\'');
                rest = after;
            }
            [byte, after @ ..] => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        split(line, &mut bytes, &mut ranges)?;
        Ok(ranges
            .into_iter()
            .map(|(from, to)| bytes[from..to].to_vec())
            .collect())
    }

    #[test]
    fn words_quotes_and_escapes_read_as_redis_reads_them() {
        let cases: [(&[u8], &[&[u8]]); 8] = [
            (b"", &[]),
            (b"  \t ", &[]),
            (b"SET  a\tb ", &[b"SET", b"a", b"b"]),
            (br#"SET k "a b""#, &[b"SET", b"k", b"a b"]),
            (br#"ECHO "\x41\n\q\"""#, &[b"ECHO", b"A\nq\""]),
            (br"ECHO 'a\'b\n'", &[b"ECHO", br"a'b\n"]),
            (br#"ECHO """#, &[b"ECHO", b""]),
            (br#"ECHO a"b""#, &[b"ECHO", b"ab"]),
        ];
        for (line, expected) in cases {
            assert_eq!(words(line).unwrap(), expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn quotes_that_do_not_close_are_refused() {
        for line in [
            br#"ECHO "a"#.as_slice(),
            br#"ECHO 'a"#,
            br#"ECHO "a"b"#,
            br#"ECHO "a\"#,
        ] {
            assert_eq!(
                words(line),
                Err(ProtocolError::UnbalancedQuotes),
                "{}",
                line.escape_ascii()
            );
        }
    }
}
