//! What a table says of itself: counts, bounds, and how it was made.
//!
//! ```text
//! payload := (tag varint | length varint | value)*        tags ascending; a number is a varint within its value
//!
//!  1 entries          5 smallest user key      9 keyspace, 0          13 compression
//!  2 tombstones       6 largest user key      10 level hint           14 filter bits a key
//!  3 raw key bytes    7 smallest sequence     11 created, Unix ms     15 data blocks
//!  4 raw value bytes  8 largest sequence      12 creator, text
//! ```
//!
//! A reader skips tags that it does not know: whatever it must understand is a feature bit of the footer instead.

use super::format::{Compression, FormatError};
use crate::codec::varint;
use crate::types::{MAX_KEY_BYTES, MAX_SEQUENCE, Sequence};

/// What a table says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties {
    /// Entries, tombstones included.
    pub entries: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Bytes of all user keys before prefix compression.
    pub raw_key_bytes: u64,
    /// Bytes of all values before compression.
    pub raw_value_bytes: u64,
    /// The first user key.
    pub smallest: Vec<u8>,
    /// The last user key.
    pub largest: Vec<u8>,
    /// The smallest sequence of any entry.
    pub smallest_sequence: Sequence,
    /// The largest sequence of any entry.
    pub largest_sequence: Sequence,
    /// The keyspace; 0 until there are several.
    pub keyspace: u64,
    /// The level that the table was made for.
    pub level: u8,
    /// When the table was made, in milliseconds since the Unix epoch. For people; nothing depends on it.
    pub created_ms: u64,
    /// What made the table, for people.
    pub creator: String,
    /// The compression asked for; single blocks may be stored raw all the same.
    pub compression: Compression,
    /// Filter bits a key; 0 means that there is no filter.
    pub filter_bits_per_key: u32,
    /// Data blocks.
    pub data_blocks: u64,
}

impl Properties {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |tag: u64, value: &[u8]| {
            varint::put(&mut out, tag);
            varint::put_bytes(&mut out, value);
        };
        put(1, &number(self.entries));
        put(2, &number(self.tombstones));
        put(3, &number(self.raw_key_bytes));
        put(4, &number(self.raw_value_bytes));
        put(5, &self.smallest);
        put(6, &self.largest);
        put(7, &number(self.smallest_sequence));
        put(8, &number(self.largest_sequence));
        put(9, &number(self.keyspace));
        put(10, &number(u64::from(self.level)));
        put(11, &number(self.created_ms));
        put(12, self.creator.as_bytes());
        put(13, &number(self.compression as u64));
        put(14, &number(u64::from(self.filter_bits_per_key)));
        put(15, &number(self.data_blocks));
        out
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, FormatError> {
        const BAD: FormatError = FormatError::Malformed("the properties are malformed");
        let mut rest = payload;
        let mut properties = Self::default();
        let mut last_tag = 0;
        let mut present = 0_u32;
        while !rest.is_empty() {
            let tag = varint::take(&mut rest).filter(|&tag| tag > last_tag).ok_or(BAD)?;
            let value = varint::take_bytes(&mut rest).ok_or(BAD)?;
            properties.set(tag, value).ok_or(BAD)?;
            present |= if tag < 32 { 1 << tag } else { 0 };
            last_tag = tag;
        }
        let all_present = present & 0xfffe == 0xfffe;
        if !all_present || !properties.make_sense() {
            return Err(BAD);
        }
        Ok(properties)
    }

    fn set(&mut self, tag: u64, value: &[u8]) -> Option<()> {
        match tag {
            1 => self.entries = read_number(value)?,
            2 => self.tombstones = read_number(value)?,
            3 => self.raw_key_bytes = read_number(value)?,
            4 => self.raw_value_bytes = read_number(value)?,
            5 => self.smallest = value.to_vec(),
            6 => self.largest = value.to_vec(),
            7 => self.smallest_sequence = read_number(value)?,
            8 => self.largest_sequence = read_number(value)?,
            9 => self.keyspace = read_number(value)?,
            10 => self.level = u8::try_from(read_number(value)?).ok()?,
            11 => self.created_ms = read_number(value)?,
            12 => self.creator = String::from_utf8(value.to_vec()).ok()?,
            13 => self.compression = Compression::from_byte(u8::try_from(read_number(value)?).ok()?)?,
            14 => self.filter_bits_per_key = u32::try_from(read_number(value)?).ok()?,
            15 => self.data_blocks = read_number(value)?,
            _ => {}
        }
        Some(())
    }

    fn make_sense(&self) -> bool {
        self.entries > 0
            && self.tombstones <= self.entries
            && self.data_blocks > 0
            && self.data_blocks <= self.entries
            && self.smallest <= self.largest
            && self.largest.len() <= MAX_KEY_BYTES
            && self.smallest.len() <= MAX_KEY_BYTES
            && self.smallest_sequence <= self.largest_sequence
            && self.largest_sequence <= MAX_SEQUENCE
    }
}

fn number(value: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(varint::MAX_BYTES);
    varint::put(&mut out, value);
    out
}

fn read_number(mut value: &[u8]) -> Option<u64> {
    let number = varint::take(&mut value)?;
    value.is_empty().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Properties {
        Properties {
            entries: 300,
            tombstones: 2,
            raw_key_bytes: 9000,
            raw_value_bytes: 1 << 40,
            smallest: b"".to_vec(),
            largest: vec![0xff; 300],
            smallest_sequence: 0,
            largest_sequence: MAX_SEQUENCE,
            keyspace: 0,
            level: 6,
            created_ms: 1_795_000_000_000,
            creator: "corelane".into(),
            compression: Compression::Lz4,
            filter_bits_per_key: 10,
            data_blocks: 30,
        }
    }

    #[test]
    fn properties_read_back_and_unknown_tags_are_skipped() {
        let mut payload = sample().encode();
        assert_eq!(Properties::decode(&payload), Ok(sample()));
        varint::put(&mut payload, 99);
        varint::put_bytes(&mut payload, b"from the future");
        assert_eq!(Properties::decode(&payload), Ok(sample()));
    }

    #[test]
    fn every_cut_and_every_nonsense_is_refused() {
        let payload = sample().encode();
        for cut in 0..payload.len() {
            assert!(Properties::decode(&payload[..cut]).is_err(), "cut at {cut}");
        }
        let nonsense = [
            Properties {
                entries: 0,
                ..sample()
            },
            Properties {
                tombstones: 301,
                ..sample()
            },
            Properties {
                smallest: vec![0xff; 301],
                ..sample()
            },
            Properties {
                smallest_sequence: 3,
                largest_sequence: 2,
                ..sample()
            },
            Properties {
                data_blocks: 0,
                ..sample()
            },
        ];
        for properties in nonsense {
            assert!(
                Properties::decode(&properties.encode()).is_err(),
                "{properties:?}"
            );
        }
    }

    #[test]
    fn repeated_tags_are_refused() {
        let mut payload = sample().encode();
        varint::put(&mut payload, 15);
        varint::put_bytes(&mut payload, &number(1));
        assert!(Properties::decode(&payload).is_err());
    }
}
