//! The crash test: a workload is cut at a random disk operation, the power is lost, the database recovers — cut again
//! itself, once or twice, in a part of the seeds — and what is found is compared with what had been promised.
//!
//! `CORELANE_SEED=n` replays exactly one seed; `CORELANE_SEEDS=n` runs so many instead of the 2,000 of CI. The mutants
//! are the test of this test: a seam that lies must be found out by the very same rounds.

mod common;
#[path = "crash/oracle.rs"]
mod oracle;
#[path = "crash/workload.rs"]
mod workload;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use corelane::io::Io;
use corelane::io::sim::{Mutant, OpKind, Rng, SimDisk, SimMachine, run};
use futures_util::future::{Either, select};

use common::open;
use oracle::{Content, Oracle, Verdict};
use workload::{Plan, Shared, complain, read_all};

/// Seeds in CI, over all parts.
const SEEDS: u64 = 2_000;
/// The parts run side by side.
const PARTS: u64 = 4;

/// How often each thing that this test is about was met.
#[derive(Debug, Default, Clone, Copy)]
struct Met {
    rounds: u64,
    kills: u64,
    in_creation: u64,
    recoveries_cut: u64,
    recoveries_cut_twice: u64,
    torn: u64,
    tables: u64,
    recycled: u64,
    rollovers: u64,
}

impl Met {
    fn add(&mut self, other: &Self) {
        self.rounds += other.rounds;
        self.kills += other.kills;
        self.in_creation += other.in_creation;
        self.recoveries_cut += other.recoveries_cut;
        self.recoveries_cut_twice += other.recoveries_cut_twice;
        self.torn += other.torn;
        self.tables += other.tables;
        self.recycled += other.recycled;
        self.rollovers += other.rollovers;
    }
}

/// How a round ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The power goes at this disk operation, or when the workload is done.
    Cut(u64),
    /// `kill -9` while this disk operation is under way, or when the workload is done.
    Kill(u64),
}

impl End {
    fn draw(rng: &mut Rng) -> Self {
        // Even over the magnitudes: creation takes tens of operations, a whole workload thousands.
        let magnitude = rng.between(3, 11);
        let op = rng.between(1, 1 << magnitude);
        if rng.chance(1, 4) {
            Self::Kill(op)
        } else {
            Self::Cut(op)
        }
    }
}

/// Works until the end that was drawn; nothing of the process survives it.
fn work(seed: u64, disk: &SimDisk, plan: &Plan, oracle: &Shared, end: End) -> Verdict {
    let (cores, mut rng) = (plan.cores, Rng::new(seed ^ 0x776f_726b));
    let complaint = run(seed, disk, cores, |machine| async move {
        if let End::Cut(n) = end {
            machine.cut_power_after(n);
        }
        let working = async {
            match open(&machine, plan.options(cores)).await {
                Ok(db) => {
                    workload::run(&machine, &db, plan, oracle, &mut rng).await;
                    None
                }
                Err(error) => Some(complain("opening", &error)),
            }
        };
        let complaint = match end {
            End::Cut(_) => working.await,
            End::Kill(op) => {
                let reached = reaches(&machine, op);
                match select(std::pin::pin!(working), std::pin::pin!(reached)).await {
                    Either::Left((complaint, _)) => complaint,
                    Either::Right(_) => None,
                }
            }
        };
        if complaint.is_some() {
            return complaint;
        }
        stop(&machine, end).await
    });
    complaint.flatten().map_or(Ok(()), Err)
}

/// Completes while the `op`th disk operation is under way; the fastest takes 5 µs.
async fn reaches(machine: &SimMachine, op: u64) {
    while machine.disk_ops() < op {
        machine.core(0).sleep(Duration::from_micros(3)).await;
    }
}

async fn stop<T>(machine: &SimMachine, end: End) -> T {
    match end {
        End::Cut(_) => machine.cut_power(),
        End::Kill(_) => machine.kill(),
    }
    std::future::pending().await
}

/// What a recovery has found.
struct Found {
    content: Content,
    torn: bool,
}

/// Opens, reads everything, and, where asked, compacts and reads again.
fn look(
    seed: u64,
    disk: &SimDisk,
    plan: &Plan,
    oracle: &Shared,
    cut: Option<u64>,
) -> Option<Result<Found, String>> {
    let mut rng = Rng::new(seed ^ 0x6c6f_6f6b);
    let cores = *rng.pick(&[1, 2, 3]);
    let names = oracle.borrow().names();
    run(seed, disk, cores, |machine| async move {
        if let Some(n) = cut {
            machine.cut_power_after(n);
        }
        let db = open(&machine, plan.options(cores))
            .await
            .map_err(|error| complain("recovering", &error))?;
        let page = *rng.pick(&[3, 50, 1000]);
        let content = read_all(&db, &names, page).await?;
        let stats = db.stats().await.map_err(|error| complain("stats", &error))?;
        if rng.chance(1, 4) {
            db.compact()
                .await
                .map_err(|error| complain("compacting", &error))?;
            if read_all(&db, &names, page).await? != content {
                return Err("a compaction changed what is found".to_owned());
            }
        }
        if rng.coin() {
            db.close().await.map_err(|error| complain("closing", &error))?;
        }
        Ok(Found {
            content,
            torn: stats.total(|shard| shard.torn_tail_bytes) > 0,
        })
    })
}

/// Recovers, with cuts in between as the seed has it, and holds what is found against the oracle.
fn recover_and_check(seed: u64, disk: &SimDisk, plan: &Plan, oracle: &Shared, met: &mut Met) -> Verdict {
    let mut rng = Rng::new(seed ^ 0x7265_636f);
    let cuts = if rng.chance(2, 5) { rng.between(1, 2) } else { 0 };
    let mut cut_so_far = 0;
    let found = loop {
        let magnitude = rng.between(2, 7);
        let cut = (cut_so_far < cuts).then(|| rng.between(1, 1 << magnitude));
        match look(rng.next_u64(), disk, plan, oracle, cut) {
            Some(found) => {
                // Under a mutant, or with few operations, it may end before the cut.
                break found?;
            }
            None => {
                disk.crash(rng.next_u64());
                cut_so_far += 1;
            }
        }
    };
    met.recoveries_cut += u64::from(cut_so_far > 0);
    met.recoveries_cut_twice += u64::from(cut_so_far > 1);
    met.torn += u64::from(found.torn);
    oracle.borrow().check(&found.content)?;
    // What was found once is there for good, whatever comes.
    oracle.borrow_mut().rebase(&found.content);
    if rng.chance(1, 4) {
        disk.crash(rng.next_u64());
        let again = look(rng.next_u64(), disk, plan, oracle, None).expect("nothing cuts it")?;
        if again.content != found.content {
            oracle.borrow().check(&again.content)?;
            return Err("a second opening finds something else".to_owned());
        }
    }
    Ok(())
}

/// One seed: rounds of work, end, recovery and check, on one disk.
fn rounds(seed: u64, mutant: Option<Mutant>, met: &mut Met) -> Verdict {
    let mut rng = Rng::new(seed);
    let plan = Plan::draw(&mut rng);
    let oracle: Shared = Rc::new(RefCell::new(Oracle::new(plan.shards)));
    let disk = SimDisk::new();
    disk.set_mutant(mutant);
    for round in 0..rng.between(1, 3) {
        let end = End::draw(&mut rng);
        disk.reset_counts();
        work(rng.next_u64(), &disk, &plan, &oracle, end)
            .map_err(|why| format!("round {round}, {end:?}: {why}"))?;
        met.rounds += 1;
        met.in_creation += u64::from(disk.read("/db/superblock").is_none());
        met.tables += disk.count(Some("sst"), OpKind::Create).ops;
        met.recycled += disk.count(Some("wal"), OpKind::Rename).ops;
        met.rollovers += disk.count(Some("new"), OpKind::Rename).ops;
        match end {
            End::Cut(_) => disk.crash(rng.next_u64()),
            End::Kill(_) => met.kills += 1,
        }
        recover_and_check(rng.next_u64(), &disk, &plan, &oracle, met)
            .map_err(|why| format!("after round {round}, {end:?}: {why}"))?;
        if rng.coin() {
            // A kill leaves the power on; here it goes afterwards, with nothing running.
            disk.crash(rng.next_u64());
        }
    }
    Ok(())
}

/// The seeds of one part.
fn seeds(part: u64) -> Vec<u64> {
    let env = |name| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse().expect("a number"))
    };
    match env("CORELANE_SEED") {
        Some(seed) if seed % PARTS == part => vec![seed],
        Some(_) => Vec::new(),
        None => (0..env("CORELANE_SEEDS").unwrap_or(SEEDS))
            .filter(|seed| seed % PARTS == part)
            .collect(),
    }
}

/// Runs one seed; a panic is a complaint too.
fn verdict(seed: u64, mutant: Option<Mutant>, met: &mut Met) -> Verdict {
    catch_unwind(AssertUnwindSafe(|| rounds(seed, mutant, met))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text
            .or(panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic");
        Err(format!("panicked: {text}"))
    })
}

fn part(part: u64) {
    let (mut met, mut failed) = (Met::default(), Vec::new());
    let seeds = seeds(part);
    for &seed in &seeds {
        if let Err(why) = verdict(seed, None, &mut met) {
            eprintln!("CORELANE_SEED={seed}: {why}");
            failed.push(seed);
        }
    }
    println!("part {part}: {} seeds, {met:?}", seeds.len());
    assert!(failed.is_empty(), "seeds that broke a promise: {failed:?}");
    if seeds.len() >= 500 {
        let all = [
            met.kills,
            met.in_creation,
            met.recoveries_cut,
            met.recoveries_cut_twice,
            met.torn,
            met.tables,
            met.recycled,
            met.rollovers,
        ];
        assert!(all.iter().all(|&n| n > 20), "the workload is too tame: {met:?}");
    }
}

#[test]
fn r1_to_r10_no_crash_breaks_a_promise_part_0() {
    part(0);
}

#[test]
fn r1_to_r10_no_crash_breaks_a_promise_part_1() {
    part(1);
}

#[test]
fn r1_to_r10_no_crash_breaks_a_promise_part_2() {
    part(2);
}

#[test]
fn r1_to_r10_no_crash_breaks_a_promise_part_3() {
    part(3);
}

/// The four lies, told by the whole seam: the same rounds must find each of them out within this many seeds.
const MUTANT_SEEDS: u64 = 60;

fn found_out(mutant: Mutant) -> Option<(u64, String)> {
    let mut met = Met::default();
    (0..MUTANT_SEEDS).find_map(|seed| verdict(seed, Some(mutant), &mut met).err().map(|why| (seed, why)))
}

#[test]
fn r1_r3_r5_r9_each_mutant_is_found_out() {
    for mutant in Mutant::ALL {
        let found = found_out(mutant);
        println!("{mutant:?}: {found:?}");
        assert!(
            found.is_some(),
            "{mutant:?} went unnoticed for {MUTANT_SEEDS} seeds"
        );
    }
}
