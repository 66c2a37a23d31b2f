//! A number that tells whether two streams are the same operations, byte for byte.
//!
//! FNV-1a of 64 bits over the first operations: kind, entries, length and bytes of the key, and length and bytes of the
//! value where there is one to write. Results may store it; the test below holds presets to theirs.

use crate::spec::Spec;
use crate::workload::OpKind;
use crate::workload::keys::KeyMaker;
use crate::workload::stream::{Place, Stream};
use crate::workload::values::ValueMaker;

/// The fingerprint of the first `operations` operations of a stream of a checked spec, with the spec's own seed: of its
/// first repeat.
///
/// # Panics
/// When the spec has no such place.
pub fn fingerprint(spec: &Spec, place: Place, operations: u64) -> u64 {
    let mut stream = Stream::new(spec, place, spec.seed);
    let (keys, values) = (KeyMaker::new(&spec.keys), ValueMaker::new(&spec.values));
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let mut sum = Fnv(0xcbf2_9ce4_8422_2325);
    for _ in 0..operations {
        let Some(op) = stream.next() else { break };
        keys.make(op.index, &mut key);
        value.clear();
        if matches!(op.kind, OpKind::Insert | OpKind::Update | OpKind::ReadModifyWrite) {
            values.make(op.index, op.version, &mut value);
        }
        sum.add(op.kind.name().as_bytes());
        sum.add(&op.entries.to_le_bytes());
        sum.add(&(key.len() as u64).to_le_bytes());
        sum.add(&key);
        sum.add(&(value.len() as u64).to_le_bytes());
        sum.add(&value);
    }
    sum.0
}

struct Fnv(u64);

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Scale, preset, preset_names};

    /// Each preset at its default scale: the last phase's first group, stream 1, 10,000 operations.
    const GOLDEN: [(&str, u64); 24] = [
        ("ycsb", 0x21a8_9748_faf5_41b0),
        ("ycsb-a", 0x6751_8bcd_ecf3_4a3d),
        ("ycsb-b", 0xa63e_807e_5224_94b8),
        ("ycsb-c", 0xfceb_ff15_7904_db14),
        ("ycsb-d", 0x2acc_f450_3b45_6065),
        ("ycsb-e", 0x13f4_6d2f_5467_5c54),
        ("ycsb-f", 0x1e1e_c258_52f2_25b3),
        ("fillseq", 0x0721_2b34_dffb_22a7),
        ("fillrandom", 0xe60b_ce5e_af83_7993),
        ("fillsync", 0x2f84_9914_f7a8_c6e2),
        ("overwrite", 0xadde_5eca_b6fa_cf09),
        ("readrandom", 0x9a30_4604_d995_14d7),
        ("readmissing", 0x94a1_f52e_8d0b_d056),
        ("readwhilewriting", 0x9a30_4604_d995_14d7),
        ("seekrandom", 0x8e90_46f4_b9ff_9277),
        ("deleterandom", 0xb7df_df48_5474_c20f),
        ("table", 0xaef0_d948_7abc_43ca),
        ("durable-put", 0x6ef8_eba9_0006_28d5),
        ("load", 0xe60b_ce5e_af83_7993),
        ("point-read", 0x598f_afc3_560c_7704),
        ("cache-read", 0x6cc4_8134_be22_98af),
        ("misses", 0x94a1_f52e_8d0b_d056),
        ("scan", 0x3d4d_b168_672c_1d3b),
        ("read-while-writing", 0x59a0_209e_c184_e2b0),
    ];

    fn of(name: &str, stream: u32) -> u64 {
        let spec = preset(name, &Scale::default()).unwrap();
        let phase = spec.phases.len() - 1;
        let place = Place {
            phase,
            group: 0,
            stream,
        };
        fingerprint(&spec, place, 10_000)
    }

    #[test]
    fn every_preset_is_the_same_operations_for_ever() {
        // Whoever changes one of these numbers makes results incomparable with older ones: raise the format of results.
        let found: Vec<_> = preset_names().map(|name| (name, of(name, 1))).collect();
        assert_eq!(found, GOLDEN, "{found:#x?}");
    }

    #[test]
    fn another_stream_or_seed_is_other_operations() {
        assert_ne!(of("ycsb-a", 1), of("ycsb-a", 2));
        let mut spec = preset("ycsb-a", &Scale::default()).unwrap();
        let place = Place {
            phase: 1,
            group: 0,
            stream: 1,
        };
        let before = fingerprint(&spec, place, 100);
        spec.seed += 1;
        assert_ne!(before, fingerprint(&spec, place, 100));
    }
}
