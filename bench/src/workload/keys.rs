//! Keys: bytes made from an index, that tell it back.
//!
//! | offset | bytes | hashed | ordered, shuffled |
//! |---|---|---|---|
//! | 0 | 8 | hash of the index, big-endian | the index with its top bit moved to the end, big-endian |
//! | 8 | 8 | the index, big-endian | its hash, big-endian |
//! | 16 | the rest | `.` | `.` |
//!
//! The moved top bit marks a key that is missing: so a missing key lies just after the one that it was chosen for, where
//! tables hold its neighbours and only a filter can spare a read, and not beyond all keys.

use crate::spec::{KeyOrder, Keys};
use crate::workload::rng::mix;

/// Makes keys.
#[derive(Debug, Clone)]
pub struct KeyMaker {
    bytes: usize,
    order: KeyOrder,
}

impl KeyMaker {
    /// Of a spec.
    pub fn new(keys: &Keys) -> Self {
        Self {
            bytes: keys.bytes as usize,
            order: keys.order,
        }
    }

    /// Makes the key of an index.
    #[inline]
    pub fn make(&self, index: u64, out: &mut Vec<u8>) {
        out.clear();
        let (first, second) = match self.order {
            KeyOrder::Hashed => (mix(index), index),
            KeyOrder::Ordered | KeyOrder::Shuffled => (index.rotate_left(1), mix(index)),
        };
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&second.to_be_bytes());
        out.resize(self.bytes, b'.');
    }

    /// The index of a key made here; `None` for any other bytes.
    #[inline]
    pub fn index_of(&self, key: &[u8]) -> Option<u64> {
        let word = |at: usize| Some(u64::from_be_bytes(key.get(at..at + 8)?.try_into().ok()?));
        let (first, second) = (word(0)?, word(8)?);
        let (index, hash) = match self.order {
            KeyOrder::Hashed => (second, first),
            KeyOrder::Ordered | KeyOrder::Shuffled => (first.rotate_right(1), second),
        };
        let padded = key.len() == self.bytes && key[16..].iter().all(|&byte| byte == b'.');
        (padded && mix(index) == hash).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: [KeyOrder; 3] = [KeyOrder::Hashed, KeyOrder::Ordered, KeyOrder::Shuffled];

    fn maker(bytes: u32, order: KeyOrder) -> KeyMaker {
        KeyMaker::new(&Keys {
            count: 1,
            bytes,
            order,
        })
    }

    #[test]
    fn a_key_tells_its_index_and_no_other_bytes_do() {
        for order in ORDERS {
            for bytes in [16, 17, 40] {
                let maker = maker(bytes, order);
                let mut key = Vec::new();
                for index in (0..1000)
                    .map(|at| mix(at) >> (at % 64))
                    .chain([0, u64::MAX, 1 << 63])
                {
                    maker.make(index, &mut key);
                    assert_eq!((key.len(), maker.index_of(&key)), (bytes as usize, Some(index)));
                    let at = usize::try_from(index % u64::from(bytes)).unwrap();
                    key[at] ^= 1;
                    assert_eq!(
                        maker.index_of(&key),
                        None,
                        "byte {at} of the key of {index}, {order:?}"
                    );
                    key[at] ^= 1;
                    assert_eq!(maker.index_of(&key[..key.len() - 1]), None);
                    key.push(b'.');
                    assert_eq!(maker.index_of(&key), None);
                }
            }
        }
    }

    #[test]
    fn ordered_keys_rise_with_their_index_and_missing_ones_lie_between() {
        let maker = maker(16, KeyOrder::Ordered);
        let (mut key, mut missing, mut next) = (Vec::new(), Vec::new(), Vec::new());
        for index in [0, 1, 255, 256, 1 << 39] {
            maker.make(index, &mut key);
            maker.make(index | (1 << 63), &mut missing);
            maker.make(index + 1, &mut next);
            assert!(key < missing && missing < next, "{index}");
        }
    }
}
