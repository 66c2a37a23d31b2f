//! An engine of the tests' own: a map in memory that can stall, sleep badly and lie, and plans around it.

#![allow(clippy::unwrap_used, dead_code, reason = "tests, each of which uses a part")]
#![expect(clippy::disallowed_methods, reason = "the bench measures real time")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use corelane_bench::engines::{Client, Counters, Engine, Fairness, Visit, on_threads};
use corelane_bench::error::BenchError;
use corelane_bench::load::caller;
use corelane_bench::load::job::{Caller, Job};
use corelane_bench::run::{Open, Plan};
use corelane_bench::spec::{
    Distribution, Durability, EngineOptions, Group, KeyOrder, Keys, Load, Mix, Phase, Sizes, Spec, Until,
    Values,
};

/// Keys that were asked for, with an empty value, and keys that were put, with theirs.
pub type Trace = Arc<Mutex<Vec<(Vec<u8>, Vec<u8>)>>>;

/// How the engine misbehaves.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// Each operation takes so long.
    pub service: Duration,
    /// Every second all operations stand still for so long.
    pub stall: Duration,
    /// A caller that sleeps sleeps so much longer.
    pub oversleep: Duration,
    /// Answers a read of one key in a hundred with another key's value.
    pub wrong_value: bool,
    /// Forgets one write in a thousand.
    pub forget: bool,
    /// Ends scans after ten entries.
    pub short_scans: bool,
    /// Notes every key that is asked for and every key and value that is put.
    pub trace: Option<Trace>,
    /// Callers sit on so many cores, each of which owns a part of the keys; 0: each may ask for all.
    pub cores: u32,
}

/// Opens [`Fake`]s.
pub struct OpenFake(pub Manner);

impl Open for OpenFake {
    fn name(&self) -> String {
        "fake".to_owned()
    }

    fn open(&self, _dir: &Path, _options: &EngineOptions) -> Result<Box<dyn Engine>, BenchError> {
        Ok(Box::new(Fake {
            map: Mutex::default(),
            manner: self.0.clone(),
            opened: Instant::now(),
            fairness: Fairness {
                engine: "fake 1".to_owned(),
                durability: "none".to_owned(),
                io: "none".to_owned(),
                cache_bytes: None,
                memtable_bytes: None,
                compression: "none".to_owned(),
                threads: "none".to_owned(),
                cores: "any".to_owned(),
                choices: Vec::new(),
            },
        }))
    }
}

struct Fake {
    map: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    manner: Manner,
    opened: Instant,
    fairness: Fairness,
}

impl Fake {
    fn note(&self, key: &[u8], value: &[u8]) {
        if let Some(trace) = &self.manner.trace {
            trace.lock().unwrap().push((key.to_vec(), value.to_vec()));
        }
    }

    /// Serves one operation, or stands still.
    fn serve(&self) {
        if !self.manner.stall.is_zero() {
            let into = Duration::from_nanos((self.opened.elapsed().as_nanos() % 1_000_000_000) as u64);
            if into < self.manner.stall {
                std::thread::sleep(self.manner.stall - into);
            }
        }
        if !self.manner.service.is_zero() {
            std::thread::sleep(self.manner.service);
        }
    }
}

impl Engine for Fake {
    fn fairness(&self) -> &Fairness {
        &self.fairness
    }

    fn run(&self, job: &Arc<Job>) -> Result<(), BenchError> {
        if self.manner.cores == 0 {
            return on_threads(job, || {
                Ok(OnFake {
                    fake: self,
                    core: None,
                })
            });
        }
        on_cores(self, job)
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    fn settle(&self) -> Result<(), BenchError> {
        Ok(())
    }

    fn walk(&self, visit: &mut Visit<'_>) -> Result<(), BenchError> {
        let map = self.map.lock().unwrap();
        map.iter().try_for_each(|(key, value)| visit(key, value))
    }
}

/// Callers in groups of as many as there are cores, as the engine itself places them.
fn on_cores(fake: &Fake, job: &Arc<Job>) -> Result<(), BenchError> {
    let streams = fake.manner.cores;
    let first = (0..job.group(0).load.callers()).step_by(streams as usize);
    std::thread::scope(|scope| {
        let threads: Vec<_> = first
            .flat_map(|first_stream| (0..streams).map(move |core| (first_stream, core)))
            .map(|(first_stream, core)| {
                scope.spawn(move || {
                    let who = Caller {
                        group: 0,
                        first_stream,
                        streams,
                    };
                    let client = OnFake {
                        fake,
                        core: Some(core),
                    };
                    caller::run(&client, job, who).now_or_never().unwrap()
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap())
    })
}

/// The fake as one caller sees it.
struct OnFake<'a> {
    fake: &'a Fake,
    core: Option<u32>,
}

impl std::ops::Deref for OnFake<'_> {
    type Target = Fake;

    fn deref(&self) -> &Fake {
        self.fake
    }
}

impl Client for OnFake<'_> {
    fn owns(&self, key: &[u8]) -> bool {
        self.core
            .is_none_or(|core| u32::from(key[3]) % self.manner.cores == core)
    }

    async fn put(&self, key: &[u8], value: &[u8], _durability: Durability) -> Result<(), BenchError> {
        self.serve();
        self.note(key, value);
        if !(self.manner.forget && key[7].is_multiple_of(250)) {
            self.map.lock().unwrap().insert(key.to_vec(), value.to_vec());
        }
        Ok(())
    }

    async fn get<R>(&self, key: &[u8], mut check: impl FnMut(Option<&[u8]>) -> R) -> Result<R, BenchError> {
        self.serve();
        self.note(key, b"");
        let map = self.map.lock().unwrap();
        if self.manner.wrong_value && key[7].is_multiple_of(100) {
            return Ok(check(map.values().next().map(Vec::as_slice)));
        }
        Ok(check(map.get(key).map(Vec::as_slice)))
    }

    async fn delete(&self, key: &[u8], _durability: Durability) -> Result<(), BenchError> {
        self.serve();
        self.map.lock().unwrap().remove(key);
        Ok(())
    }

    async fn scan(
        &self,
        start: &[u8],
        limit: usize,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), BenchError> {
        self.serve();
        let limit = if self.manner.short_scans {
            limit.min(10)
        } else {
            limit
        };
        let map = self.map.lock().unwrap();
        let _all = map
            .range(start.to_vec()..)
            .take(limit)
            .all(|(key, value)| visit(key, value));
        Ok(())
    }

    async fn sleep(&self, time: Duration) {
        std::thread::sleep(time + self.manner.oversleep);
    }
}

/// Everything zero but these reads.
pub const READS: Mix = Mix {
    read: 1.0,
    read_missing: 0.0,
    insert: 0.0,
    update: 0.0,
    read_modify_write: 0.0,
    delete: 0.0,
    scan: 0.0,
};

/// A load of a thousand entries, then one timed phase.
pub fn spec(mix: Mix, load: Load, seconds: f64) -> Spec {
    let group = |mix, load| Group {
        name: "callers".to_owned(),
        mix,
        distribution: Distribution::Uniform,
        scan_entries: Sizes::Fixed(50),
        durability: Durability::Buffered,
        load,
    };
    let insert = Mix {
        insert: 1.0,
        ..Mix::default()
    };
    let phase = |name: &str, group, until| Phase {
        name: name.to_owned(),
        groups: vec![group],
        until,
        warmup_seconds: 0.0,
        settle_first: false,
    };
    let until = |operations, seconds| Until { operations, seconds };
    let spec = Spec {
        name: "test".to_owned(),
        seed: 7,
        repeats: 1,
        keys: Keys {
            count: 1000,
            bytes: 16,
            order: KeyOrder::Hashed,
        },
        values: Values {
            bytes: Sizes::Fixed(100),
            compressible: 0.5,
        },
        engine: EngineOptions::default(),
        phases: vec![
            phase(
                "load",
                group(insert, Load::Closed { callers: 2 }),
                until(Some(1000), None),
            ),
            phase("timed", group(mix, load), until(None, Some(seconds))),
        ],
    };
    spec.check().unwrap();
    spec
}

/// A plan for one engine in a directory that lives as long as what is returned.
pub fn plan(spec: Spec, engine: impl Open + 'static) -> (Plan, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        spec,
        engines: vec![Box::new(engine)],
        dir: dir.path().to_owned(),
        device: false,
    };
    (plan, dir)
}
