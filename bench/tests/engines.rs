//! Every adapter does every kind of operation right, by the bench's own checks, and settles, counts and closes.

#![allow(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "the bench's own processes and sockets")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{plan, spec};
use corelane::api::Runtime;
use corelane_bench::result::Run;
use corelane_bench::run::choice::EngineChoice;
use corelane_bench::run::{Watch, run};
use corelane_bench::spec::{Distribution, Durability, Load, Mix, Spec, Until};

/// A load, then a mix of everything that the engine can, some of it durable; small enough for any machine.
fn everything(scans: bool) -> Spec {
    let scan = if scans { 0.1 } else { 0.0 };
    let mix = Mix {
        read: 0.4 - scan,
        read_missing: 0.1,
        insert: 0.1,
        update: 0.2,
        read_modify_write: 0.1,
        delete: 0.1,
        scan,
    };
    let mut spec = spec(mix, Load::Closed { callers: 5 }, 1.0);
    spec.engine.memtable_bytes = 1 << 20;
    spec.engine.cache_bytes = 4 << 20;
    spec.engine.cores = 2;
    let timed = &mut spec.phases[1];
    timed.until = Until {
        operations: Some(600),
        seconds: None,
    };
    timed.settle_first = true;
    timed.groups[0].distribution = Distribution::Latest { theta: 0.99 };
    timed.groups[0].durability = Durability::Sync;
    spec.check().unwrap();
    spec
}

fn all_is_done_and_verified(engine: EngineChoice, scans: bool) -> Run {
    let (plan, dir) = plan(everything(scans), engine);
    let run = run(&plan, &Watch::none()).unwrap();
    let repeat = &run.engines[0].repeats[0];
    let timed = &repeat.phases[1].groups[0];
    assert_eq!(timed.operations, 600);
    assert_eq!(timed.kinds.len(), if scans { 7 } else { 6 });
    let entries = repeat.verified_entries.unwrap();
    assert!(
        (900..1100).contains(&entries),
        "{entries} after some inserts and deletes"
    );
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "the database is removed"
    );
    run
}

#[test]
fn corelane_on_its_cores() {
    for runtime in [Runtime::Uring, Runtime::Glommio] {
        let run = all_is_done_and_verified(EngineChoice::Corelane(runtime), true);
        let engine = &run.engines[0];
        assert_eq!(engine.engine, format!("corelane={runtime}"));
        assert!(engine.fairness.threads.contains(&runtime.to_string()));
        let counted = engine.repeats[0].phases[1].cost.counters;
        assert!(counted.log_writes.unwrap() > 0 && counted.log_batches.unwrap() >= 200);
    }
}

#[test]
fn corelane_through_its_handle() {
    all_is_done_and_verified(EngineChoice::Handle(Runtime::Auto), true);
}

#[test]
fn fjall() {
    all_is_done_and_verified(EngineChoice::Fjall, true);
}

#[test]
fn redb() {
    all_is_done_and_verified(EngineChoice::Redb, true);
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb() {
    all_is_done_and_verified(EngineChoice::RocksDb, true);
}

#[cfg(feature = "lmdb")]
#[test]
fn lmdb() {
    all_is_done_and_verified(EngineChoice::Lmdb, true);
}

/// Against the real Redis where it is installed (Debian's `redis-server`), else it says that it was skipped.
#[test]
fn a_server_that_speaks_resp() {
    let Some(server) = Server::start() else {
        eprintln!("skipped: there is no redis-server");
        return;
    };
    let choice: EngineChoice = format!("resp=127.0.0.1:{}", server.port).parse().unwrap();
    let run = all_is_done_and_verified(choice.clone(), false);
    assert!(run.engines[0].fairness.durability.contains("appendonly=no"));

    let (full, _dir) = plan(everything(false), choice.clone());
    let error = corelane_bench::run::run(&full, &Watch::none())
        .unwrap_err()
        .to_string();
    assert!(error.contains("keys; start an empty one"), "{error}");
    all_is_done_and_verified(choice.flushed(), false);
}

#[test]
fn scans_of_a_server_that_has_none_are_refused_before_anything_is_done() {
    let Some(server) = Server::start() else {
        eprintln!("skipped: there is no redis-server");
        return;
    };
    let choice: EngineChoice = format!("resp=127.0.0.1:{}", server.port).parse().unwrap();
    let (scans, _dir) = plan(everything(true), choice);
    let error = corelane_bench::run::run(&scans, &Watch::none())
        .unwrap_err()
        .to_string();
    assert!(error.contains("cannot scan keys in order"), "{error}");
}

/// A Redis on a free port, killed when dropped.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let server = Self { process, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "Redis has not begun to listen"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
