//! How large and how long a preset is, and the shapes that presets share.

use crate::spec::{
    Distribution, Durability, EngineOptions, Group, KeyOrder, Keys, Load, Mix, Phase, Sizes, Spec, Until,
    Values,
};

/// How large and how long a preset is.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// Entries that are loaded.
    pub entries: u64,
    /// Seconds of each phase after the load, warm-up not counted.
    pub seconds: f64,
    /// Seconds of warm-up before each of them.
    pub warmup_seconds: f64,
    /// Callers of each group for which the preset does not say how many; of the load too.
    pub callers: u32,
    /// Bytes of a key.
    pub key_bytes: u32,
    /// Bytes of a value; `None`: what the preset is known for.
    pub value_bytes: Option<u32>,
    /// Compressible share of a value; `None`: what the preset is known for.
    pub compressible: Option<f64>,
    /// When writes are answered for which the preset does not say; never of the load, which is buffered.
    pub durability: Durability,
    /// How many times the whole is run.
    pub repeats: u32,
    /// Where random numbers begin.
    pub seed: u64,
    /// What every engine is given.
    pub engine: EngineOptions,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            seconds: 10.0,
            warmup_seconds: 3.0,
            callers: 16,
            key_bytes: 16,
            value_bytes: None,
            compressible: None,
            durability: Durability::Buffered,
            repeats: 1,
            seed: 1,
            engine: EngineOptions::default(),
        }
    }
}

impl Scale {
    /// A spec of this scale, its values so large and so compressible unless the scale says otherwise.
    pub(super) fn spec(&self, name: &str, order: KeyOrder, value_bytes: u32, compressible: f64) -> Spec {
        Spec {
            name: name.to_owned(),
            seed: self.seed,
            repeats: self.repeats,
            keys: Keys {
                count: self.entries,
                bytes: self.key_bytes,
                order,
            },
            values: Values {
                bytes: Sizes::Fixed(self.value_bytes.unwrap_or(value_bytes)),
                compressible: self.compressible.unwrap_or(compressible),
            },
            engine: self.engine.clone(),
            phases: Vec::new(),
        }
    }

    /// The load: every entry once.
    pub(super) fn load(&self) -> Phase {
        let mix = Mix {
            insert: 1.0,
            ..Mix::default()
        };
        Phase {
            name: "load".to_owned(),
            groups: vec![Group {
                durability: Durability::Buffered,
                ..self.group("writers", mix, self.callers)
            }],
            until: Until {
                operations: Some(self.entries),
                seconds: None,
            },
            warmup_seconds: 0.0,
            settle_first: false,
        }
    }

    /// A timed phase, begun when compaction is at rest.
    pub(super) fn phase(&self, name: &str, groups: Vec<Group>) -> Phase {
        Phase {
            name: name.to_owned(),
            groups,
            until: Until {
                operations: None,
                seconds: Some(self.seconds),
            },
            warmup_seconds: self.warmup_seconds,
            settle_first: true,
        }
    }

    /// Callers in a closed loop that choose uniformly.
    pub(super) fn group(&self, name: &str, mix: Mix, callers: u32) -> Group {
        Group {
            name: name.to_owned(),
            mix,
            distribution: Distribution::Uniform,
            scan_entries: Sizes::Fixed(100),
            durability: self.durability,
            load: Load::Closed { callers },
        }
    }
}
