//! The collections that the README's tables are made of.

use crate::error::BenchError;
use crate::spec::scale::Scale as SpecScale;
use crate::spec::{self, EngineOptions, Spec};

/// Presets of both suites: the project's own table first, then what YCSB asks.
const PRESETS: [&str; 5] = ["durable-put", "table", "ycsb-a", "ycsb-b", "ycsb-e"];

/// How large a suite is.
#[derive(Debug, Clone)]
pub struct Scale {
    /// The sizes of the published tables, or small enough for ten minutes.
    pub full: bool,
    /// Entries to load, instead of the suite's.
    pub entries: Option<u64>,
    /// Seconds of each timed phase, instead of the suite's.
    pub seconds: Option<f64>,
    /// Repeats, instead of the suite's.
    pub repeats: Option<u32>,
    /// What every engine is given.
    pub engine: EngineOptions,
}

/// The suite's specs, in order.
///
/// # Errors
/// The scale makes no sense.
pub fn specs(scale: &Scale) -> Result<Vec<Spec>, BenchError> {
    let pick = |quick, full| if scale.full { full } else { quick };
    let of = SpecScale {
        entries: scale.entries.unwrap_or(pick(200_000, 4_000_000)),
        seconds: scale.seconds.unwrap_or(if scale.full { 10.0 } else { 2.0 }),
        warmup_seconds: if scale.full { 3.0 } else { 0.5 },
        repeats: scale.repeats.unwrap_or(if scale.full { 3 } else { 1 }),
        engine: scale.engine.clone(),
        // YCSB's own values have 1,000 bytes; with ours all tables of the suite have one database.
        value_bytes: Some(400),
        compressible: Some(0.5),
        ..SpecScale::default()
    };
    PRESETS
        .iter()
        .map(|name| {
            let spec = spec::preset(name, &of)
                .ok_or_else(|| BenchError::bug(format!("there is no preset {name}")))?;
            spec.check()
                .map_err(|e| BenchError::usage(format!("the suite's {name}: {e}")))?;
            Ok(spec)
        })
        .collect()
}
