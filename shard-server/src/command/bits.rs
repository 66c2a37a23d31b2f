//! Commands on the bits of a string value: `SETBIT`, `GETBIT`, `BITCOUNT`, `BITPOS`. The first bit is the highest of the first
//! byte. Behind its end a value is an endless row of zeros.

use std::ops::Range;

use corelane::types::MAX_VALUE_BYTES;

use super::ranges::{is_backwards, resolve_range};
use super::table::{READ, READ_MANY, WRITE, keyed};
use super::{Failure, Keys, Request, Spec, View};
use crate::resp::number::parse_i64;
use crate::resp::reply;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    keyed(
        "bitcount",
        -2,
        READ_MANY,
        Keys::ONE,
        "bitmap",
        "Counts the bits that are set.",
        bitcount,
    ),
    keyed(
        "bitpos",
        -3,
        READ_MANY,
        Keys::ONE,
        "bitmap",
        "Finds the first bit that is set, or is not.",
        bitpos,
    ),
    keyed(
        "getbit",
        3,
        READ,
        Keys::ONE,
        "bitmap",
        "Returns a bit of the value of a key.",
        getbit,
    ),
    keyed(
        "setbit",
        4,
        WRITE,
        Keys::ONE,
        "bitmap",
        "Sets a bit of the value of a key.",
        setbit,
    ),
];

/// A bit's place: its byte, and its mask in it.
fn bit_place(text: &[u8]) -> Result<(usize, u8), Failure> {
    let offset = parse_i64(text).ok_or(Failure::BIT_OFFSET)?;
    let offset = usize::try_from(offset).map_err(|_| Failure::BIT_OFFSET)?;
    if offset / 8 >= MAX_VALUE_BYTES {
        return Err(Failure::BIT_OFFSET);
    }
    Ok((offset / 8, 0x80 >> (offset % 8)))
}

/// `GETBIT key offset`.
pub fn getbit(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let (byte, mask) = bit_place(request.arguments.at(2))?;
    let item = view.get(request.key());
    let byte = item.and_then(|item| item.value.get(byte).copied()).unwrap_or(0);
    reply::integer(out, i64::from(byte & mask != 0));
    Ok(())
}

/// `SETBIT key offset bit`: answers with the bit before.
pub fn setbit(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let (byte, mask) = bit_place(request.arguments.at(2))?;
    let on = match request.arguments.at(3) {
        b"0" => false,
        b"1" => true,
        _ => return Err(Failure::BIT),
    };
    let item = view.get(request.key());
    let before = item.and_then(|item| item.value.get(byte).copied());
    let was = before.unwrap_or(0) & mask != 0;
    // A bit that is as it should be is not written, unless the value has to grow for it.
    if before.is_none() || was != on {
        view.edit(request.key(), |value| {
            value.resize(value.len().max(byte + 1), 0);
            value[byte] = if on {
                value[byte] | mask
            } else {
                value[byte] & !mask
            };
        });
    }
    reply::integer(out, i64::from(was));
    Ok(())
}

/// Whether a range counts bits; `None` stands for bytes.
fn counts_bits(unit: Option<&[u8]>) -> Result<bool, Failure> {
    match unit {
        None => Ok(false),
        Some(unit) if unit.eq_ignore_ascii_case(b"BYTE") => Ok(false),
        Some(unit) if unit.eq_ignore_ascii_case(b"BIT") => Ok(true),
        Some(_) => Err(Failure::SYNTAX),
    }
}

/// The bits of a value of `bytes` bytes from `start` to `end`, both inclusive.
fn bit_range(start: i64, end: i64, by_bits: bool, bytes: usize) -> Option<Range<usize>> {
    let length = if by_bits { bytes * 8 } else { bytes };
    let (start, end) = resolve_range(start, end, length)?;
    Some(if by_bits {
        start..end + 1
    } else {
        start * 8..(end + 1) * 8
    })
}

/// `BITCOUNT key [start end [BYTE | BIT]]`.
pub fn bitcount(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    // Redis looks at its arguments only where there is a key for them.
    let Some(item) = view.get(request.key()) else {
        reply::integer(out, 0);
        return Ok(());
    };
    let arguments = request.arguments;
    let range = match arguments.count() {
        2 => Some(0..item.value.len() * 8),
        4 | 5 => {
            let start = parse_i64(arguments.at(2)).ok_or(Failure::NOT_AN_INTEGER)?;
            let end = parse_i64(arguments.at(3)).ok_or(Failure::NOT_AN_INTEGER)?;
            // So does Redis: it is done with such a range before it reads the unit.
            if is_backwards(start, end) {
                None
            } else {
                bit_range(start, end, counts_bits(arguments.get(4))?, item.value.len())
            }
        }
        _ => return Err(Failure::SYNTAX),
    };
    reply::length(out, range.map_or(0, |range| count_ones(item.value, range)));
    Ok(())
}

/// `BITPOS key bit [start [end [BYTE | BIT]]]`.
pub fn bitpos(request: &Request<'_>, view: &mut View<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let arguments = request.arguments;
    let wanted = match parse_i64(arguments.at(2)).ok_or(Failure::NOT_AN_INTEGER)? {
        0 => false,
        1 => true,
        _ => return Err(Failure::BIT_ARGUMENT),
    };
    let Some(item) = view.get(request.key()) else {
        reply::integer(out, if wanted { -1 } else { 0 });
        return Ok(());
    };
    let integer = |place| parse_i64(arguments.at(place)).ok_or(Failure::NOT_AN_INTEGER);
    let bytes = item.value.len();
    let range = match arguments.count() {
        3 => bit_range(0, -1, false, bytes),
        4 => bit_range(integer(3)?, -1, false, bytes),
        5 | 6 => {
            let start = integer(3)?;
            let by_bits = counts_bits(arguments.get(5))?;
            bit_range(start, integer(4)?, by_bits, bytes)
        }
        _ => return Err(Failure::SYNTAX),
    };
    let place = range.and_then(|range| {
        let found = first_bit(item.value, range, wanted);
        // With no end given the zeros behind the value count, too.
        found.or_else(|| (!wanted && arguments.count() < 5).then_some(bytes * 8))
    });
    reply::integer(
        out,
        place.and_then(|place| i64::try_from(place).ok()).unwrap_or(-1),
    );
    Ok(())
}

/// The bytes that `range` touches, and masks of its bits in the first and the last of them.
fn cut(range: &Range<usize>) -> (Range<usize>, u8, u8) {
    let last = (range.end - 1) / 8;
    let tail = 7 - (range.end - 1) % 8;
    (range.start / 8..last + 1, 0xff >> (range.start % 8), 0xff << tail)
}

/// How many bits of `range` are set.
fn count_ones(value: &[u8], range: Range<usize>) -> usize {
    if range.is_empty() {
        return 0;
    }
    let (bytes, first, last) = cut(&range);
    let value = &value[bytes];
    let ones = |byte: u8| byte.count_ones() as usize;
    let all: usize = words(value).map(|word| word.count_ones() as usize).sum();
    all - ones(value[0] & !first) - ones(value[value.len() - 1] & !last)
}

/// The place of the first bit of `range` that is `wanted`.
fn first_bit(value: &[u8], range: Range<usize>, wanted: bool) -> Option<usize> {
    let dull = if wanted { 0_u8 } else { 0xff };
    let mut at = range.start;
    while at < range.end {
        if at.is_multiple_of(8) {
            let (words, _) = value[at / 8..].as_chunks::<8>();
            at += 64 * words.iter().take_while(|&&word| word == [dull; 8]).count();
        }
        let byte = value.get(at / 8).copied().unwrap_or(dull) ^ dull;
        let rest = byte & (0xff >> (at % 8));
        if rest != 0 {
            let place = at / 8 * 8 + rest.leading_zeros() as usize;
            return (place < range.end).then_some(place);
        }
        at = at / 8 * 8 + 8;
    }
    None
}

/// The bytes as words of 64 bits, the last filled with zeros.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().copied().chain([last]).map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bit(value: &[u8], place: usize) -> bool {
        value[place / 8] & (0x80 >> (place % 8)) != 0
    }

    proptest! {
        #[test]
        fn counts_and_places_are_those_of_bit_by_bit(
            value in proptest::collection::vec(prop_oneof![Just(0), Just(0xff), any::<u8>()], 1..60),
            a in any::<proptest::sample::Index>(),
            b in any::<proptest::sample::Index>(),
            wanted: bool,
        ) {
            let (a, b) = (a.index(value.len() * 8 + 1), b.index(value.len() * 8 + 1));
            let range = a.min(b)..a.max(b);
            let naive = range.clone().filter(|&place| bit(&value, place)).count();
            prop_assert_eq!(count_ones(&value, range.clone()), naive);
            let naive = range.clone().find(|&place| bit(&value, place) == wanted);
            prop_assert_eq!(first_bit(&value, range, wanted), naive);
        }
    }
}
