//! The crash test: a workload is cut at a random disk operation, the power is lost, the database recovers — cut again
//! itself, once or twice, in a part of the seeds — and what is found is compared with what had been promised.
//!
//! `CORELANE_SEED=n` replays exactly one seed; `CORELANE_SEEDS=n` runs so many instead of the 5,000 of CI. The mutants
//! are the test of this test: a seam that lies must be found out by the very same rounds.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

#[path = "crash/oracle.rs"]
mod oracle;
#[path = "crash/workload.rs"]
mod workload;

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use corelane::api::{Durability, Options};
use corelane::io::Io;
use corelane::io::sim::{Mutant, OpKind, Rng, SimDisk, SimMachine, run};
use futures_util::future::{Either, select};

use corelane_testing::open;
use oracle::{Content, Oracle, Verdict};
use workload::{Plan, Shared, complain, read_all};

/// Seeds in CI, over all parts.
const SEEDS: u64 = 5_000;
/// The room of a simulated disk that was given none, in bytes.
const ROOM_BYTES: u64 = 1 << 40;
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
    recoveries_without_room: u64,
    torn: u64,
    tables: u64,
    recycled: u64,
    rollovers: u64,
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

/// Opens while the device is full, and reads everything: nothing needs room for that. Ends in a close, a cut or a kill,
/// sometimes once there is room again and what was torn is being mended.
fn look_without_room(seed: u64, disk: &SimDisk, plan: &Plan, oracle: &Shared) -> Verdict {
    let mut rng = Rng::new(seed ^ 0x6675_6c6c);
    let cores = *rng.pick(&[1, 2, 3]);
    let names = oracle.borrow().names();
    disk.set_capacity(0);
    let mut power_is_on = true;
    let on = &mut power_is_on;
    let complaint = run(seed, disk, cores, |machine| async move {
        let db = match open(&machine, plan.options(cores)).await {
            Ok(db) => db,
            Err(error) => return Some(complain("recovering without room", &error)),
        };
        let content = match read_all(&db, &names, 50).await {
            Ok(content) => content,
            Err(why) => return Some(why),
        };
        if let Err(why) = oracle.borrow().check(&content) {
            return Some(format!("without room: {why}"));
        }
        if rng.coin() {
            machine.cut_power_after(rng.between(1, 40));
            machine.disk().set_capacity(ROOM_BYTES);
            *on = false;
        }
        let pause = Duration::from_micros(rng.between(1, 1_000_000));
        machine.core(0).sleep(pause).await;
        match rng.below(3) {
            0 => {
                let closed = db
                    .close()
                    .await
                    .map_err(|error| complain("closing without room", &error));
                return closed.err();
            }
            1 => machine.kill(),
            _ => {
                *on = false;
                machine.cut_power();
            }
        }
        std::future::pending().await
    });
    disk.set_capacity(ROOM_BYTES);
    if !power_is_on {
        disk.crash(seed);
    }
    complaint.flatten().map_or(Ok(()), Err)
}

/// Recovers, with cuts in between as the seed has it, and holds what is found against the oracle.
fn recover_and_check(seed: u64, disk: &SimDisk, plan: &Plan, oracle: &Shared, met: &mut Met) -> Verdict {
    let mut rng = Rng::new(seed ^ 0x7265_636f);
    let cuts = if rng.chance(2, 5) { rng.between(1, 2) } else { 0 };
    let mut cut_so_far = 0;
    if rng.chance(1, 4) && disk.read("/db/superblock").is_some() {
        met.recoveries_without_room += 1;
        look_without_room(rng.next_u64(), disk, plan, oracle)?;
    }
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
            met.recoveries_without_room,
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

/// The four lies, told by the whole seam: the same rounds must find each of them out within this many seeds. Three are
/// found within the first four; a rewritten block shows only where the power goes in the very write that rewrites it, and
/// was first found at seed 130.
const MUTANT_SEEDS: u64 = 400;

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

/// One switch, its directory syncs left out, everything before and after it honest.
async fn dir_syncs_left_out<F: Future<Output = ()>>(disk: &SimDisk, switch: F) {
    disk.set_mutant(Some(Mutant::SkipDirSync));
    switch.await;
    disk.set_mutant(None);
}

/// Runs `story` and crashes its end in many ways; in how many of them the key `kept` is gone or nothing opens.
fn shows<F: Future<Output = ()>>(story: impl Fn(SimMachine, Options) -> F, kept: &[u8]) -> usize {
    let mut options = corelane_testing::small(1, 1);
    options.tuning.manifest_bytes = 16 << 10;
    options.tuning.memtable_bytes = 1 << 20;
    let disk = SimDisk::new();
    disk.create_dir_all(corelane_testing::DIR);
    let (during, after) = (options.clone(), options);
    run(7, &disk, 1, |machine| async move {
        story(machine.clone(), during).await;
        machine.cut_power();
        std::future::pending::<()>().await;
    });
    let kept_in = |seed: &u64| {
        let (disk, options) = (disk.fork(), after.clone());
        disk.crash(*seed);
        let found = run(*seed, &disk, 1, |machine| async move {
            match open(&machine, options).await {
                Ok(db) => db.get(kept).await.unwrap_or(None),
                Err(_) => None,
            }
        });
        found.flatten().is_some()
    };
    (0..40).filter(|seed| !kept_in(seed)).count()
}

/// A table's name: `flush` was acknowledged, the manifest names a table that is not there. Without a log, nothing else
/// holds the write.
async fn install_a_table(machine: SimMachine, options: Options, honest: bool) {
    let db = open(&machine, options).await.unwrap();
    machine.core(0).sleep(Duration::from_millis(100)).await;
    db.put_with(b"k", b"v", Durability::None).await.unwrap();
    if honest {
        db.flush().await.unwrap();
    } else {
        dir_syncs_left_out(machine.disk(), async { db.flush().await.unwrap() }).await;
    }
}

/// A segment's name: the seal before it names a segment that is not there.
async fn prepare_a_segment(machine: SimMachine, options: Options, honest: bool) {
    let db = open(&machine, options).await.unwrap();
    let fill = async {
        for i in 0..40_u32 {
            db.put(&i.to_be_bytes(), &[1; 3000]).await.unwrap();
        }
        db.put(b"k", b"v").await.unwrap();
    };
    if honest {
        fill.await;
    } else {
        dir_syncs_left_out(machine.disk(), fill).await;
    }
}

/// The names of creation: the shard's files, its directory, the superblock.
async fn create_a_database(machine: SimMachine, options: Options, honest: bool) {
    let opening = async { open(&machine, options).await.unwrap() };
    let db = if honest {
        opening.await
    } else {
        machine.disk().set_mutant(Some(Mutant::SkipDirSync));
        let db = opening.await;
        machine.disk().set_mutant(None);
        db
    };
    db.put(b"k", b"v").await.unwrap();
}

/// A new manifest's name: the edit in it was acknowledged, and the old manifest comes back. Only the sync behind the
/// rename is left out.
async fn roll_a_manifest_over(machine: SimMachine, options: Options, honest: bool) {
    let db = open(&machine, options).await.unwrap();
    let renames = || machine.disk().count(Some("new"), OpKind::Rename).ops;
    let before = renames();
    let working = async {
        // The write that the last flush before the switch makes durable is the one looked for.
        while renames() == before {
            db.put_with(b"k", b"v", Durability::None).await.unwrap();
            db.flush().await.unwrap();
            if renames() == before {
                db.delete_with(b"k", Durability::None).await.unwrap();
                db.flush().await.unwrap();
            }
        }
    };
    let lying = async {
        while renames() == before {
            machine.core(0).sleep(Duration::from_micros(2)).await;
        }
        if !honest {
            machine.disk().set_mutant(Some(Mutant::SkipDirSync));
        }
        std::future::pending::<()>().await;
    };
    select(std::pin::pin!(working), std::pin::pin!(lying)).await;
    machine.disk().set_mutant(None);
}

#[test]
fn r9_each_directory_sync_left_out_alone_shows() {
    let counts = [true, false].map(|honest| {
        [
            shows(
                |machine, options| create_a_database(machine, options, honest),
                b"k",
            ),
            shows(
                |machine, options| prepare_a_segment(machine, options, honest),
                b"k",
            ),
            shows(|machine, options| install_a_table(machine, options, honest), b"k"),
        ]
    });
    println!("honest {:?}, lying {:?}", counts[0], counts[1]);
    assert_eq!(counts[0], [0; 3], "an honest switch keeps what it promised");
    assert!(
        counts[1].iter().all(|&n| n > 0),
        "creation, segment, table: {:?}",
        counts[1]
    );
}

#[test]
fn r9_the_directory_sync_of_a_manifest_rollover_left_out_alone_shows() {
    let honest = shows(
        |machine, options| roll_a_manifest_over(machine, options, true),
        b"k",
    );
    let lying = shows(
        |machine, options| roll_a_manifest_over(machine, options, false),
        b"k",
    );
    println!("honest {honest}, lying {lying}");
    assert_eq!(honest, 0, "an honest switch keeps what it promised");
    assert!(lying > 0, "a lost rename went unnoticed");
}
