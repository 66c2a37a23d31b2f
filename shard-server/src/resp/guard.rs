//! Finds where a request ends, before anything else is read of it.
//!
//! What a parser of the protocol would do wrong here: start over at each attempt, so that a request arriving in many pieces
//! costs the square of its length; recurse into nested arrays, so that `*1\r\n*1\r\n…` exhausts the stack; take any length
//! it is told. The guard walks the length prefixes once, remembers where it stopped, refuses what Redis refuses with the
//! same words, and releases a request only when its last byte is there. It keeps nothing of one that is not (R17): the
//! places of arguments are kept as their lengths are read where the whole request is there at first sight, which it nearly
//! always is, and read once more at the end where it came in pieces.
//!
//! ```text
//! request := '*' count CRLF ('$' length CRLF byte{length} CRLF){count}    an array of bulk strings
//!          | line LF                                                      inline: words, as typed into telnet
//! ```

use super::{
    MAX_ARGUMENTS, MAX_BULK_BYTES, MAX_COMMAND_BYTES, MAX_LINE_BYTES, ProtocolError,
    number::{parse_i64, short_line},
};
use crate::config::Limits;

/// Where an argument begins and ends, from the start of its request.
pub type Place = (usize, usize);

/// How long a request may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most arguments.
    pub arguments: usize,
    /// Longest argument in bytes.
    pub argument_bytes: usize,
    /// Longest request in bytes.
    pub command_bytes: usize,
    /// Whether these are the narrow bounds of a client that has not said who it is: its errors say so.
    pub unknown: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            arguments: MAX_ARGUMENTS,
            argument_bytes: MAX_BULK_BYTES,
            command_bytes: MAX_COMMAND_BYTES,
            unknown: false,
        }
    }
}

impl Bounds {
    /// Those of a client that has said who it is, or has not. The limits never widen what the server can take.
    pub fn of(limits: &Limits, authenticated: bool) -> Self {
        let most = Self::default();
        let command_bytes = limits.command_bytes.min(most.command_bytes);
        if authenticated {
            let arguments = limits.arguments_of_keys.max(limits.arguments);
            return Self {
                arguments: arguments.min(most.arguments),
                command_bytes,
                ..most
            };
        }
        Self {
            arguments: limits.unknown_arguments.min(most.arguments),
            argument_bytes: limits.unknown_argument_bytes.min(most.argument_bytes),
            command_bytes,
            unknown: true,
        }
    }

    /// Whether a request may have `arguments` arguments.
    ///
    /// # Errors
    /// It may not.
    pub fn check_count(&self, arguments: usize) -> Result<(), ProtocolError> {
        match arguments > self.arguments {
            true if self.unknown => Err(ProtocolError::UnknownMultibulkLength),
            true => Err(ProtocolError::MultibulkLength),
            false => Ok(()),
        }
    }
}

/// A whole request at the start of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// An array of `arguments` bulk strings (at least one) in the first `bytes` bytes.
    Array {
        /// How many arguments there are.
        arguments: usize,
        /// Length of the request in bytes.
        bytes: usize,
    },
    /// An inline command: the line is the first `line` bytes, the request the first `bytes` bytes.
    Inline {
        /// Length of the line without its end.
        line: usize,
        /// Length of the request in bytes.
        bytes: usize,
    },
    /// An array of no arguments in the first `bytes` bytes: skipped without an answer.
    Nothing {
        /// Length of the request in bytes.
        bytes: usize,
    },
}

/// How far the request at the start of the input has been read. All positions count from that start.
#[derive(Debug, Default)]
pub struct Guard {
    /// Everything before this byte has been understood.
    at: usize,
    /// From `at` up to here there is no line end.
    searched: usize,
    /// Arguments in all, once their count was read.
    arguments: Option<usize>,
    /// Arguments still to come.
    left: usize,
}

impl Guard {
    /// The request at the start of `input`, `None` while it is not all there; the places of an array's arguments go into
    /// `places`, which is empty. Between two calls `input` may only grow, until a request was returned and its bytes were
    /// taken off the front.
    ///
    /// # Errors
    /// The input is not a request; it stays unreadable.
    pub fn next(
        &mut self,
        input: &[u8],
        bounds: &Bounds,
        places: &mut Vec<Place>,
    ) -> Result<Option<Frame>, ProtocolError> {
        assert!(
            self.at <= input.len() || self.arguments.is_some(),
            "the input only grows"
        );
        let Some(&first) = input.first() else {
            return Ok(None);
        };
        let frame = if first == b'*' {
            let in_pieces = self.arguments.is_some();
            let frame = self.array(input, bounds, (!in_pieces).then_some(&mut *places))?;
            match frame {
                None => places.clear(),
                Some(Frame::Array { arguments, bytes }) if in_pieces => {
                    read_again(&input[..bytes], arguments, places);
                }
                Some(_) => {}
            }
            frame
        } else {
            self.inline(input, bounds)?
        };
        match frame {
            Some(_) => *self = Self::default(),
            None if input.len() > bounds.command_bytes => {
                return Err(ProtocolError::CommandBytes(bounds.command_bytes));
            }
            None => {}
        }
        Ok(frame)
    }

    fn array(
        &mut self,
        input: &[u8],
        bounds: &Bounds,
        mut places: Option<&mut Vec<Place>>,
    ) -> Result<Option<Frame>, ProtocolError> {
        let arguments = match self.arguments {
            Some(arguments) => arguments,
            None => match self.number(
                input,
                ProtocolError::MultibulkLine,
                ProtocolError::MultibulkLength,
            )? {
                None => return Ok(None),
                Some(count) => {
                    if count <= 0 {
                        return Ok(Some(Frame::Nothing { bytes: self.at }));
                    }
                    let count = usize::try_from(count).map_err(|_| ProtocolError::MultibulkLength)?;
                    bounds.check_count(count)?;
                    self.arguments = Some(count);
                    self.left = count;
                    count
                }
            },
        };
        while self.left > 0 {
            match input.get(self.at) {
                None => return Ok(None),
                Some(b'$') => {}
                Some(&other) => return Err(ProtocolError::ExpectedDollar(other)),
            }
            let Some(length) = self.number(input, ProtocolError::BulkLine, ProtocolError::BulkLength)? else {
                return Ok(None);
            };
            let length = usize::try_from(length)
                .ok()
                .filter(|&n| n <= MAX_BULK_BYTES)
                .ok_or(ProtocolError::BulkLength)?;
            if length > bounds.argument_bytes {
                return Err(match bounds.unknown {
                    true => ProtocolError::UnknownBulkLength,
                    false => ProtocolError::BulkLength,
                });
            }
            if let Some(places) = &mut places {
                places.push((self.at, self.at + length));
            }
            // `at` may now lie beyond what has arrived: the next look waits until the input has grown so far. The two bytes
            // behind an argument are passed over, whatever they are, as Redis does.
            self.at += length + 2;
            self.searched = self.at;
            self.left -= 1;
            if self.at > bounds.command_bytes {
                return Err(ProtocolError::CommandBytes(bounds.command_bytes));
            }
        }
        Ok((self.at <= input.len()).then_some(Frame::Array {
            arguments,
            bytes: self.at,
        }))
    }

    /// The number of the prefix line at `at`; `at` then stands behind the line.
    fn number(
        &mut self,
        input: &[u8],
        endless: ProtocolError,
        bad: ProtocolError,
    ) -> Result<Option<i64>, ProtocolError> {
        if let Some((number, next)) = short_line(input, self.at) {
            (self.at, self.searched) = (next, next);
            return Ok(Some(i64::try_from(number).expect("nine digits")));
        }
        let from = self.searched.max(self.at);
        let Some(end) = find(input, from, b'\r') else {
            self.searched = input.len();
            return if input.len() - self.at > MAX_LINE_BYTES {
                Err(endless)
            } else {
                Ok(None)
            };
        };
        self.searched = end;
        if end + 1 >= input.len() {
            return Ok(None);
        }
        let text = &input[self.at + 1..end];
        if input[end + 1] != b'\n' {
            return Err(bad);
        }
        let number = parse_i64(text).ok_or(bad)?;
        self.at = end + 2;
        self.searched = self.at;
        Ok(Some(number))
    }

    fn inline(&mut self, input: &[u8], bounds: &Bounds) -> Result<Option<Frame>, ProtocolError> {
        // No word is longer than its line.
        let most = MAX_LINE_BYTES.min(bounds.argument_bytes);
        let Some(end) = find(input, self.searched, b'\n') else {
            self.searched = input.len();
            return if input.len() > most {
                Err(ProtocolError::InlineLine)
            } else {
                Ok(None)
            };
        };
        let line = if end > 0 && input[end - 1] == b'\r' {
            end - 1
        } else {
            end
        };
        if line > most {
            return Err(ProtocolError::InlineLine);
        }
        Ok(Some(Frame::Inline { line, bytes: end + 1 }))
    }
}

/// The places of the arguments of a request that was read in pieces.
fn read_again(request: &[u8], arguments: usize, places: &mut Vec<Place>) {
    let line_at = |at| short_line(request, at).expect("it was read before, and no other length is taken");
    let (_, mut at) = line_at(0);
    for _ in 0..arguments {
        let (length, from) = line_at(at);
        places.push((from, from + length));
        at = from + length + 2;
    }
    assert_eq!(at, request.len(), "the same lengths");
}

fn find(input: &[u8], from: usize, byte: u8) -> Option<usize> {
    input[from..].iter().position(|&b| b == byte).map(|at| at + from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// It finds as many places as the frame says.
    fn next(guard: &mut Guard, input: &[u8], bounds: &Bounds) -> Result<Option<Frame>, ProtocolError> {
        let mut places = Vec::new();
        let found = guard.next(input, bounds, &mut places);
        match found {
            Ok(Some(Frame::Array { arguments, .. })) => assert_eq!(places.len(), arguments),
            Ok(_) => assert_eq!(places, [], "of a request that is there, and of no other"),
            Err(_) => {}
        }
        found
    }

    /// Feeds `input` in one piece.
    fn whole(input: &[u8]) -> Result<Option<Frame>, ProtocolError> {
        next(&mut Guard::default(), input, &Bounds::default())
    }

    #[test]
    fn a_request_is_released_at_its_last_byte_and_not_before() {
        let request = b"*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n";
        let mut guard = Guard::default();
        for cut in 0..request.len() {
            assert_eq!(
                next(&mut guard, &request[..cut], &Bounds::default()),
                Ok(None),
                "cut at {cut}"
            );
        }
        let frame = Frame::Array {
            arguments: 2,
            bytes: request.len(),
        };
        assert_eq!(next(&mut guard, request, &Bounds::default()), Ok(Some(frame)));
        assert_eq!(
            next(&mut guard, request, &Bounds::default()),
            Ok(Some(frame)),
            "it starts afresh"
        );
    }

    #[test]
    fn inline_lines_end_at_the_line_feed() {
        assert_eq!(whole(b"PING\r\nx"), Ok(Some(Frame::Inline { line: 4, bytes: 6 })));
        assert_eq!(whole(b"PING\n"), Ok(Some(Frame::Inline { line: 4, bytes: 5 })));
        assert_eq!(whole(b"\r\n"), Ok(Some(Frame::Inline { line: 0, bytes: 2 })));
        assert_eq!(whole(b"PING"), Ok(None));
    }

    #[test]
    fn empty_arrays_are_skipped() {
        assert_eq!(whole(b"*0\r\n"), Ok(Some(Frame::Nothing { bytes: 4 })));
        assert_eq!(whole(b"*-1\r\n"), Ok(Some(Frame::Nothing { bytes: 5 })));
    }

    #[test]
    fn what_is_no_request_is_refused_in_the_words_of_redis() {
        let cases: [(&[u8], &str); 9] = [
            (b"*x\r\n", "invalid multibulk length"),
            (b"*65537\r\n", "invalid multibulk length"),
            (b"*99999999999999999999\r\n", "invalid multibulk length"),
            (b"*1\r\n:1\r\n", "expected '$', got ':'"),
            (b"*1\r\n*1\r\n", "expected '$', got '*'"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$67108865\r\n", "invalid bulk length"),
            (b"*1\r\n$a\r\n", "invalid bulk length"),
            (b"*1\rx", "invalid multibulk length"),
        ];
        for (input, words) in cases {
            let error = whole(input).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("Protocol error: {words}"),
                "{}",
                input.escape_ascii()
            );
        }
    }

    #[test]
    fn lines_without_end_are_refused_at_their_bound() {
        for (start, error) in [
            (b"*".as_slice(), ProtocolError::MultibulkLine),
            (b"*1\r\n$".as_slice(), ProtocolError::BulkLine),
            (b"P".as_slice(), ProtocolError::InlineLine),
        ] {
            let mut input = start.to_vec();
            input.resize(start.len() + MAX_LINE_BYTES - 1, b'1');
            assert_eq!(whole(&input), Ok(None));
            input.resize(start.len() + MAX_LINE_BYTES + 1, b'1');
            assert_eq!(whole(&input), Err(error));
        }
    }

    #[test]
    fn r17_a_declared_length_is_only_waited_for() {
        let mut guard = Guard::default();
        assert_eq!(
            next(&mut guard, b"*65536\r\n$67108864\r\n", &Bounds::default()),
            Ok(None)
        );
        assert_eq!(
            next(&mut guard, b"*65536\r\n$67108864\r\nx", &Bounds::default()),
            Ok(None)
        );
    }

    #[test]
    fn a_command_of_more_than_its_bound_is_refused_by_its_lengths_alone() {
        let mut input = b"*9\r\n".to_vec();
        for _ in 0..1 {
            input.extend_from_slice(b"$67108864\r\n");
            input.resize(input.len() + MAX_BULK_BYTES, b'x');
            input.extend_from_slice(b"\r\n");
        }
        input.extend_from_slice(b"$67108864\r\n");
        assert_eq!(whole(&input), Err(ProtocolError::CommandBytes(MAX_COMMAND_BYTES)));
    }

    #[test]
    fn who_has_not_said_who_they_are_is_held_to_narrow_bounds_by_declared_lengths_alone() {
        let bounds = Bounds::of(&Limits::default(), false);
        let refused = |input: &[u8]| {
            next(&mut Guard::default(), input, &bounds)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused(b"*11\r\n"),
            "Protocol error: unauthenticated multibulk length"
        );
        assert_eq!(
            refused(b"*2\r\n$4\r\nAUTH\r\n$16385\r\n"),
            "Protocol error: unauthenticated bulk length"
        );
        assert_eq!(
            next(&mut Guard::default(), b"*10\r\n$16384\r\n", &bounds),
            Ok(None)
        );
        let wide = Limits {
            arguments_of_keys: usize::MAX,
            command_bytes: usize::MAX,
            ..Limits::default()
        };
        assert_eq!(Bounds::of(&wide, true), Bounds::default());
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_read_as_in_one(
            input in proptest::collection::vec(prop_oneof![
                Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'2'), any::<u8>()
            ], 0..80),
            cuts in proptest::collection::vec(0_usize..80, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(input.len())).collect();
            cuts.sort_unstable();
            let mut guard = Guard::default();
            let mut early = None;
            for cut in cuts {
                match next(&mut guard, &input[..cut], &Bounds::default()) {
                    Ok(None) => {}
                    other => { early = Some(other); break; }
                }
            }
            let in_pieces = match early { Some(result) => result, None => next(&mut guard, &input, &Bounds::default()) };
            prop_assert_eq!(in_pieces, whole(&input));
        }
    }
}
