//! The measured load: clients that read and write a little at a fixed rate, over connections that are made once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::engines::resp::{Caller, Resp};
use crate::engines::{Client, Engine, on_threads};
use crate::error::BenchError;
use crate::load::job::Job;
use crate::load::schedule;
use crate::result::Latency;
use crate::spec::{
    Arrival, Distribution, Durability, EngineOptions, Group, KeyOrder, Keys, Load, Mix, Phase, Sizes, Spec,
    Until, Values,
};
use crate::workload::OpKind;

/// Keys that are written first.
const KEYS: u64 = 10_000;
/// Bytes of a value.
const VALUE_BYTES: u32 = 400;
/// Connections, each with a thread: enough that one is free at nearly every intended start.
pub const CALLERS: u32 = 16;
/// The measured phase's place.
const MEASURED: usize = 1;

/// What polite clients met.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// From the intended start to the answer of a read.
    pub reads: Latency,
    /// Of a write.
    pub writes: Latency,
    /// How late a free client began by its own fault.
    pub lag: Latency,
    /// Why the schedule was not kept, if it was not.
    pub not_kept: Option<String>,
}

impl Heard {
    /// Both together.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.reads.merge(&other.reads);
        self.writes.merge(&other.writes);
        self.lag.merge(&other.lag);
        self.not_kept = self.not_kept.or_else(|| other.not_kept.clone());
        self
    }
}

/// The polite clients of a server.
pub struct Polite {
    spec: Spec,
    kept: Mutex<Vec<Caller>>,
    measured: u32,
}

impl Polite {
    /// Connects them, and writes every key once. `address` is `host:port`, with `user:secret@` before it where there are
    /// users.
    ///
    /// # Errors
    /// The server's.
    pub fn enter(address: &str, rate: f64, seconds: f64) -> Result<Self, BenchError> {
        let spec = spec(rate, seconds);
        spec.check()
            .map_err(|e| BenchError::usage(format!("the polite load: {e}")))?;
        let server = Resp::open(address, false)?;
        let load = Arc::new(Job::new(&spec, 0, 0));
        load.begin();
        server.run(&load)?;
        load.failure().map_or(Ok(()), Err)?;
        let kept = (0..CALLERS).map(|_| server.caller()).collect::<Result<_, _>>()?;
        Ok(Self {
            spec,
            kept: Mutex::new(kept),
            measured: 0,
        })
    }

    /// Measures once.
    ///
    /// # Errors
    /// The server's, or a wrong answer.
    pub fn measure(&mut self) -> Result<Heard, BenchError> {
        self.measured += 1;
        let job = Arc::new(Job::new(&self.spec, MEASURED, self.measured));
        job.begin();
        on_threads(&job, || Kept::take(&self.kept))?;
        job.failure().map_or(Ok(()), Err)?;
        let record = job.recorder().group(0);
        let (operations, lag) = (record.operations, record.lag.clone());
        let load = job.group(0).load;
        let kinds = record.kinds(load);
        let of = |kind| {
            let found = kinds.iter().find(|found| found.kind == kind);
            found.map(|found| found.response.clone()).unwrap_or_default()
        };
        let (reads, writes) = (of(OpKind::Read), of(OpKind::Update));
        let judged = schedule::judge(load, operations, job.measured_seconds(), lag.clone(), &kinds);
        Ok(Heard {
            reads,
            writes,
            lag,
            not_kept: judged.and_then(|schedule| schedule.invalid),
        })
    }
}

/// A kept connection while a caller has it.
struct Kept<'a> {
    caller: Option<Caller>,
    home: &'a Mutex<Vec<Caller>>,
}

impl<'a> Kept<'a> {
    fn take(home: &'a Mutex<Vec<Caller>>) -> Result<Self, BenchError> {
        let caller = home.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match caller {
            Some(caller) => Ok(Self {
                caller: Some(caller),
                home,
            }),
            None => Err(BenchError::bug("there are as many connections as callers")),
        }
    }

    fn caller(&self) -> &Caller {
        self.caller.as_ref().expect("it is given back on drop alone")
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        home.extend(self.caller.take());
    }
}

impl Client for Kept<'_> {
    async fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<(), BenchError> {
        self.caller().put(key, value, durability).await
    }

    async fn get<R>(&self, key: &[u8], check: impl FnMut(Option<&[u8]>) -> R) -> Result<R, BenchError> {
        self.caller().get(key, check).await
    }

    async fn delete(&self, key: &[u8], durability: Durability) -> Result<(), BenchError> {
        self.caller().delete(key, durability).await
    }

    async fn scan(
        &self,
        start: &[u8],
        limit: usize,
        visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), BenchError> {
        self.caller().scan(start, limit, visit).await
    }

    async fn sleep(&self, time: Duration) {
        self.caller().sleep(time).await;
    }
}

/// Every key once, then reads and writes in equal parts, at any key.
fn spec(rate: f64, seconds: f64) -> Spec {
    let group = |name: &str, mix, load| Group {
        name: name.to_owned(),
        mix,
        distribution: Distribution::Uniform,
        scan_entries: Sizes::Fixed(1),
        durability: Durability::Sync,
        load,
    };
    let phase = |name: &str, group, until, warmup_seconds| Phase {
        name: name.to_owned(),
        groups: vec![group],
        until,
        warmup_seconds,
        settle_first: false,
    };
    let insert = Mix {
        insert: 1.0,
        ..Mix::default()
    };
    let both = Mix {
        read: 0.5,
        update: 0.5,
        ..Mix::default()
    };
    let all = Until {
        operations: Some(KEYS),
        seconds: None,
    };
    let timed = Until {
        operations: None,
        seconds: Some(seconds),
    };
    let open = Load::Open {
        callers: CALLERS,
        rate,
        arrival: Arrival::Poisson,
    };
    Spec {
        name: "polite".to_owned(),
        seed: 1,
        repeats: 1,
        keys: Keys {
            count: KEYS,
            bytes: 16,
            order: KeyOrder::Hashed,
        },
        values: Values {
            bytes: Sizes::Fixed(VALUE_BYTES),
            compressible: 0.0,
        },
        engine: EngineOptions::default(),
        phases: vec![
            phase(
                "load",
                group("writers", insert, Load::Closed { callers: CALLERS }),
                all,
                0.0,
            ),
            phase("polite", group("polite", both, open), timed, 1.0),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_polite_load_makes_sense() {
        assert_eq!(spec(2000.0, 5.0).check(), Ok(()));
        assert_eq!(spec(2000.0, 5.0).phases[MEASURED].name, "polite");
    }

    #[test]
    fn what_was_heard_twice_is_told_together() {
        let mut one = Heard::default();
        one.reads.record_ns(1000);
        let two = Heard {
            not_kept: Some("late".to_owned()),
            ..one.clone()
        };
        let both = one.with(&two);
        assert_eq!(both.reads.count(), 2);
        assert_eq!(both.not_kept.as_deref(), Some("late"));
    }
}
