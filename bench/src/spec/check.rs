//! Reading a spec, and what a spec must be before anything is done with it.
//!
//! Every refusal names the field by its path, such as `phases[1].groups[0].mix`. What passes has bounded sizes, counts and
//! times, shares that sum to 1, and never reads an entry that no load has surely written: whoever runs it need not ask
//! again.

use std::collections::BTreeSet;
use std::fmt;

use crate::spec::{Distribution, Group, Load, Mix, Phase, Sizes, Spec, Until};
use crate::workload::OpKind;
use crate::workload::stream::{PLACES, SPACE_BITS, STREAMS, is_load};

/// The largest value: engines hold some of them in memory at once, one a caller.
pub const MAX_VALUE_BYTES: u32 = 64 << 20;
/// The most entries of a scan.
pub const MAX_SCAN_ENTRIES: u32 = 1_000_000;
/// The steepest zipfian: above it, nearly every operation goes to one key.
pub const MAX_THETA: f64 = 4.0;
/// The highest rate, in operations a second: more than one for each nanosecond cannot be told apart by the clock.
pub const MAX_RATE: f64 = 1e9;
/// The lowest rate, in operations a second: one in a quarter of an hour.
pub const MIN_RATE: f64 = 0.001;
/// The longest phase, in seconds: four months.
pub const MAX_SECONDS: f64 = 1e7;
/// The most bytes of keys and values: no machine of today holds a pebibyte, and no sum of bytes overflows below it.
pub const MAX_DATA_BYTES: u64 = 1 << 50;

/// What is wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError(pub(crate) String);

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SpecError {}

fn refuse(path: &str, words: impl fmt::Display) -> SpecError {
    SpecError(format!("{path}: {words}"))
}

fn demand(holds: bool, path: &str, words: impl fmt::Display) -> Result<(), SpecError> {
    if holds { Ok(()) } else { Err(refuse(path, words)) }
}

impl Spec {
    /// Reads a spec from TOML and checks it.
    ///
    /// # Errors
    /// With line and column where it is no TOML or has a field that no spec has; else as [`Spec::check`].
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let spec: Self = toml::from_str(text).map_err(|e| SpecError(e.to_string().trim_end().to_owned()))?;
        spec.check()?;
        Ok(spec)
    }

    /// Checks everything that the types leave open.
    ///
    /// # Errors
    /// The first thing that is wrong, its field by its path.
    pub fn check(&self) -> Result<(), SpecError> {
        name("name", &self.name)?;
        demand(
            (1..=1000).contains(&self.repeats),
            "repeats",
            "it must be 1 to 1000",
        )?;
        self.check_data()?;
        demand(
            (1..=1024).contains(&self.engine.cores),
            "engine.cores",
            "it must be 1 to 1024",
        )?;
        demand(
            self.engine.memory_limit_bytes != Some(0),
            "engine.memory_limit_bytes",
            "it must be above 0",
        )?;
        demand(
            (1..=PLACES).contains(&self.phases.len()),
            "phases",
            format_args!("there must be 1 to {PLACES}, not {}", self.phases.len()),
        )?;
        let mut names = BTreeSet::new();
        for (at, phase) in self.phases.iter().enumerate() {
            let path = format!("phases[{at}]");
            name(&format!("{path}.name"), &phase.name)?;
            demand(
                names.insert(&phase.name),
                &format!("{path}.name"),
                "another phase has this name",
            )?;
            check_phase(&path, phase)?;
        }
        self.check_loaded()
    }

    fn check_data(&self) -> Result<(), SpecError> {
        let most = 1_u64 << SPACE_BITS;
        demand(
            (1..=most).contains(&self.keys.count),
            "keys.count",
            format_args!("it must be 1 to {most}, not {}", self.keys.count),
        )?;
        demand(
            (16..=1024).contains(&self.keys.bytes),
            "keys.bytes",
            format_args!("it must be 16 to 1024, not {}", self.keys.bytes),
        )?;
        sizes("values.bytes", self.values.bytes, 0, MAX_VALUE_BYTES)?;
        share("values.compressible", self.values.compressible)?;
        let (_, value) = self.values.bytes.bounds();
        let data = u128::from(self.keys.count) * u128::from(self.keys.bytes + value);
        demand(
            data <= u128::from(MAX_DATA_BYTES),
            "keys.count",
            format_args!("keys and values would be up to {data} bytes; the most is {MAX_DATA_BYTES}"),
        )
    }

    /// Whatever uses existing entries comes after a load that surely wrote them all.
    fn check_loaded(&self) -> Result<(), SpecError> {
        let first = &self.phases[0];
        let whole = first.until.seconds.is_none() && first.until.operations >= Some(self.keys.count);
        let loads = is_load(&first.groups[0], 0, 0);
        for (at, phase) in self.phases.iter().enumerate() {
            for (number, group) in phase.groups.iter().enumerate() {
                let Some(kind) = uses_existing(&group.mix) else {
                    continue;
                };
                let path = format!("phases[{at}].groups[{number}].mix");
                let kind = kind.name();
                if at == 0 || !loads {
                    let words = format!(
                        "a {kind} needs entries that exist, but nothing has loaded them: let the first phase's first group \
                         do inserts alone"
                    );
                    return Err(refuse(&path, words));
                }
                if !whole {
                    let words = format!(
                        "a {kind} needs entries that exist, but phase {:?} may end before all {} are loaded: let its \
                         `until` be {} operations and no seconds",
                        first.name, self.keys.count, self.keys.count
                    );
                    return Err(refuse(&path, words));
                }
            }
        }
        Ok(())
    }
}

fn uses_existing(mix: &Mix) -> Option<OpKind> {
    let fresh = |kind: OpKind| matches!(kind, OpKind::Insert | OpKind::ReadMissing);
    let mut kinds = OpKind::ALL.into_iter();
    kinds.find(|&kind| !fresh(kind) && mix.share(kind) > 0.0)
}

fn check_phase(path: &str, phase: &Phase) -> Result<(), SpecError> {
    until(&format!("{path}.until"), phase.until)?;
    demand(
        (0.0..=MAX_SECONDS).contains(&phase.warmup_seconds),
        &format!("{path}.warmup_seconds"),
        format_args!("it must be 0 to {MAX_SECONDS}, not {}", phase.warmup_seconds),
    )?;
    demand(
        (1..=PLACES).contains(&phase.groups.len()),
        &format!("{path}.groups"),
        format_args!("there must be 1 to {PLACES}, not {}", phase.groups.len()),
    )?;
    let mut names = BTreeSet::new();
    for (at, group) in phase.groups.iter().enumerate() {
        let path = format!("{path}.groups[{at}]");
        name(&format!("{path}.name"), &group.name)?;
        demand(
            names.insert(&group.name),
            &format!("{path}.name"),
            "another group has this name",
        )?;
        check_group(&path, group)?;
    }
    Ok(())
}

fn check_group(path: &str, group: &Group) -> Result<(), SpecError> {
    mix(&format!("{path}.mix"), &group.mix)?;
    distribution(&format!("{path}.distribution"), group.distribution)?;
    sizes(
        &format!("{path}.scan_entries"),
        group.scan_entries,
        1,
        MAX_SCAN_ENTRIES,
    )?;
    let callers = group.load.callers();
    demand(
        (1..=STREAMS).contains(&callers),
        &format!("{path}.load"),
        format_args!("callers must be 1 to {STREAMS}, not {callers}"),
    )?;
    match group.load {
        Load::Closed { .. } => Ok(()),
        Load::Open { rate, .. } => demand(
            (MIN_RATE..=MAX_RATE).contains(&rate),
            &format!("{path}.load"),
            format_args!("rate must be {MIN_RATE} to {MAX_RATE} operations a second, not {rate}"),
        ),
    }
}

fn until(path: &str, until: Until) -> Result<(), SpecError> {
    demand(
        until.operations.is_some() || until.seconds.is_some(),
        path,
        "the phase would never end: give operations, seconds or both",
    )?;
    if let Some(operations) = until.operations {
        let most = 1_u64 << SPACE_BITS;
        let words = format!("operations must be 1 to {most}, not {operations}");
        demand((1..=most).contains(&operations), path, words)?;
    }
    if let Some(seconds) = until.seconds {
        let words = format!("seconds must be above 0 and at most {MAX_SECONDS}, not {seconds}");
        demand(seconds > 0.0 && seconds <= MAX_SECONDS, path, words)?;
    }
    Ok(())
}

/// Shares that are no numbers between 0 and 1 are named; so is a sum that is not 1.
fn mix(path: &str, mix: &Mix) -> Result<(), SpecError> {
    let mut sum = 0.0;
    for kind in OpKind::ALL {
        share(
            &format!("{path}.{}", kind.name().replace('-', "_")),
            mix.share(kind),
        )?;
        sum += mix.share(kind);
    }
    demand(
        (sum - 1.0).abs() <= 1e-9,
        path,
        format_args!("the shares sum to {sum} instead of 1"),
    )
}

fn distribution(path: &str, distribution: Distribution) -> Result<(), SpecError> {
    match distribution {
        Distribution::Uniform | Distribution::Sequential => Ok(()),
        Distribution::Zipfian { theta }
        | Distribution::ScrambledZipfian { theta }
        | Distribution::Latest { theta } => demand(
            theta > 0.0 && theta <= MAX_THETA,
            path,
            format_args!(
                "theta must be above 0 and at most {MAX_THETA}, not {theta}; with 0 it is `uniform`"
            ),
        ),
        Distribution::Hotspot { keys, operations } => {
            demand(
                keys > 0.0 && keys <= 1.0,
                path,
                format_args!("keys must be above 0 and at most 1, not {keys}"),
            )?;
            share(&format!("{path}.operations"), operations)
        }
    }
}

fn share(path: &str, share: f64) -> Result<(), SpecError> {
    demand(
        (0.0..=1.0).contains(&share),
        path,
        format_args!("a share must be 0 to 1, not {share}"),
    )
}

fn sizes(path: &str, sizes: Sizes, least: u32, most: u32) -> Result<(), SpecError> {
    let (min, max) = sizes.bounds();
    demand(min <= max, path, format_args!("min {min} is above max {max}"))?;
    demand(
        least <= min && max <= most,
        path,
        format_args!("it must lie in {least} to {most}, and reaches from {min} to {max}"),
    )
}

/// Names become names of files and columns: letters, digits, `-`, `_` and `.`, and none begins with the last.
fn name(path: &str, name: &str) -> Result<(), SpecError> {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    demand(
        (1..=64).contains(&name.len()) && name.chars().all(safe) && !name.starts_with('.'),
        path,
        format_args!(
            "a name is 1 to 64 of letters, digits, `-`, `_` and `.`, not first the last; not {name:?}"
        ),
    )
}
