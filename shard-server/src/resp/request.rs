//! The arguments of one request, as places in the input.
//!
//! [`Reader::next`] asks the guard whether a request is there and where its arguments are, and keeps the places;
//! [`Reader::arguments`] lends them. Nothing is copied but the words of an inline command, whose escapes have to be undone.
//! The scratch of a request of many arguments is given back once the request is done.
//!
//! The guard has to read every length anyway. To have a library's parser (`redis_protocol`) split the request behind it took
//! 1,280 of the 8,100 instructions of a GET, most of them for replies and types that no request has; it is the judge in the
//! tests instead.

use super::ProtocolError;
use super::guard::{Bounds, Frame, Guard};
use super::inline;

/// Scratch kept from one request to the next, in arguments and in bytes of inline words.
const SCRATCH_KEPT: usize = 1024;

/// The arguments of a request, its command's name first.
#[derive(Debug, Clone, Copy)]
pub struct Arguments<'a> {
    bytes: &'a [u8],
    ranges: &'a [(usize, usize)],
}

impl<'a> Arguments<'a> {
    /// The arguments that lie at `ranges` of `bytes`.
    pub fn new(bytes: &'a [u8], ranges: &'a [(usize, usize)]) -> Self {
        Self { bytes, ranges }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ranges.len()
    }

    /// The argument at `index`.
    ///
    /// # Panics
    /// Where there is none: arity is checked before.
    pub fn at(&self, index: usize) -> &'a [u8] {
        let (from, to) = self.ranges[index];
        &self.bytes[from..to]
    }

    /// The argument at `index`, `None` where there is none.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.ranges.get(index).map(|&(from, to)| &self.bytes[from..to])
    }

    /// Those from `start` on.
    pub fn from(&self, start: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.ranges
            .iter()
            .skip(start)
            .map(move |&(from, to)| &bytes[from..to])
    }
}

/// Reads requests off the front of an input that grows.
#[derive(Debug, Default)]
pub struct Reader {
    /// How long requests may be.
    pub bounds: Bounds,
    guard: Guard,
    ranges: Vec<(usize, usize)>,
    words: Vec<u8>,
    inline: bool,
}

/// What [`Reader::next`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The request is not all there yet.
    Partial,
    /// A request of this many bytes; its arguments are in [`Reader::arguments`].
    Request {
        /// Length in bytes.
        bytes: usize,
    },
    /// This many bytes that ask for nothing.
    Nothing {
        /// Length in bytes.
        bytes: usize,
    },
}

impl Reader {
    /// Looks for a request at the start of `input`. Between two calls `input` may only grow, until something was found
    /// and taken off its front.
    ///
    /// # Errors
    /// The input is not a request.
    pub fn next(&mut self, input: &[u8]) -> Result<Found, ProtocolError> {
        self.ranges.clear();
        self.ranges.shrink_to(SCRATCH_KEPT);
        self.words.clear();
        self.words.shrink_to(SCRATCH_KEPT);
        match self.guard.next(input, &self.bounds, &mut self.ranges)? {
            None => {
                // It may be long in coming.
                self.ranges.shrink_to(SCRATCH_KEPT);
                Ok(Found::Partial)
            }
            Some(Frame::Nothing { bytes }) => Ok(Found::Nothing { bytes }),
            Some(Frame::Inline { line, bytes }) => {
                self.inline = true;
                inline::split(&input[..line], &mut self.words, &mut self.ranges)?;
                self.bounds.check_count(self.ranges.len())?;
                if self.ranges.is_empty() {
                    Ok(Found::Nothing { bytes })
                } else {
                    Ok(Found::Request { bytes })
                }
            }
            Some(Frame::Array { bytes, .. }) => {
                self.inline = false;
                Ok(Found::Request { bytes })
            }
        }
    }

    /// The arguments of the request that was found at the start of `input`.
    pub fn arguments<'a>(&'a self, input: &'a [u8]) -> Arguments<'a> {
        Arguments::new(if self.inline { &self.words } else { input }, &self.ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redis_protocol::resp2::{decode::decode_range, types::RangeFrame};

    fn encode(arguments: &[Vec<u8>]) -> Vec<u8> {
        let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            out.extend_from_slice(argument);
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    /// Reads `input` as it arrives up to each cut, as a connection does.
    fn read_in_pieces(input: &[u8], cuts: &[usize]) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let (mut reader, mut start, mut requests) = (Reader::default(), 0, Vec::new());
        for &cut in cuts.iter().chain([&input.len()]) {
            loop {
                let here = &input[start..cut];
                match reader.next(here)? {
                    Found::Partial => break,
                    Found::Nothing { bytes } => start += bytes,
                    Found::Request { bytes } => {
                        requests.push(reader.arguments(here).from(0).map(<[u8]>::to_vec).collect());
                        start += bytes;
                    }
                }
            }
        }
        Ok(requests)
    }

    #[test]
    fn inline_and_arrays_mix_on_one_connection() {
        let input = b"PING\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n\r\n*0\r\nECHO 'a b'\n";
        let got = read_in_pieces(input, &[]).unwrap();
        assert_eq!(
            got,
            [
                vec![b"PING".to_vec()],
                vec![b"GET".to_vec(), b"".to_vec()],
                vec![b"ECHO".to_vec(), b"a b".to_vec()]
            ]
        );
    }

    /// The narrow bounds of a client that has not said who it is held for arrays alone: one line of 64 KiB brought 32 Ki
    /// arguments before any password was asked for.
    #[test]
    fn inline_commands_are_held_to_the_same_bounds_as_arrays() {
        let bounds = Bounds::of(&crate::config::Limits::default(), false);
        let read = |input: &[u8]| {
            let mut reader = Reader {
                bounds,
                ..Reader::default()
            };
            reader.next(input)
        };
        let words = |count: usize| format!("{}\r\n", "a ".repeat(count)).into_bytes();
        assert_eq!(read(&words(10)), Ok(Found::Request { bytes: 22 }));
        assert_eq!(read(&words(11)), Err(ProtocolError::UnknownMultibulkLength));
        let line = |bytes: usize, end: &str| ["x".repeat(bytes), end.to_owned()].concat().into_bytes();
        assert_eq!(read(&line(16_384, "\r\n")), Ok(Found::Request { bytes: 16_386 }));
        assert_eq!(read(&line(16_385, "\r\n")), Err(ProtocolError::InlineLine));
        assert_eq!(read(&line(16_386, "")), Err(ProtocolError::InlineLine));
    }

    proptest! {
        #[test]
        fn requests_read_back_whatever_the_pieces(
            requests in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..5), 0..5),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..9),
        ) {
            let input: Vec<u8> = requests.iter().flat_map(|r| encode(r)).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
            cuts.sort_unstable();
            prop_assert_eq!(read_in_pieces(&input, &cuts), Ok(requests));
        }

        /// Bytes that are nearly a request: lengths and line ends are mostly right.
        #[test]
        fn a_library_splits_the_same_requests_at_the_same_places(
            arguments in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 0..20), 0_usize..12, prop_oneof![9 => Just("\r\n"), 1 => Just("\r\r")]), 1..6),
        ) {
            let mut input = format!("*{}\r\n", arguments.len()).into_bytes();
            for (argument, off, end) in &arguments {
                // Mostly the right one; or one too long, or one too short.
                let length = (argument.len() + usize::from(*off == 0)).saturating_sub(usize::from(*off == 1));
                input.extend_from_slice(format!("${length}\r\n").as_bytes());
                input.extend_from_slice(argument);
                input.extend_from_slice(end.as_bytes());
            }
            let mut reader = Reader::default();
            match (reader.next(&input), decode_range(&input)) {
                (Ok(Found::Request { bytes }), Ok(Some((RangeFrame::Array(items), used)))) => {
                    let places = items.into_iter().map(|item| match item {
                        RangeFrame::BulkString(range) => Ok(range),
                        other => Err(TestCaseError::fail(format!("{other:?}"))),
                    });
                    let places: Vec<_> = places.collect::<Result<_, _>>()?;
                    prop_assert_eq!((&reader.ranges, bytes), (&places, used));
                }
                (Ok(Found::Partial), Ok(None)) | (Err(_), Err(_)) => {}
                // While more could come, one of the two may know already that it will be none.
                (Err(_), Ok(None)) | (Ok(Found::Partial), Err(_)) => {}
                (ours, theirs) => prop_assert!(false, "{:?} where the library says {:?}", ours, theirs),
            }
        }

        #[test]
        fn random_bytes_never_panic(
            input in proptest::collection::vec(prop_oneof![
                Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'"'), Just(b'\\'), any::<u8>()
            ], 0..200),
        ) {
            let _ = read_in_pieces(&input, &[]);
        }
    }
}
