//! A real filesystem runs full: a small ext4 on a loop device (R14). Writes fail with a clear error, reads go on, space
//! comes back and with it the writes, and nothing acknowledged is lost.
//!
//! Mounting takes root; where it is not allowed the test says so and passes.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and looks at files itself"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "this test fills a real filesystem beside the database"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use corelane::ErrorKind;
use corelane::api::{Db, Durability, Runtime};

/// A mounted filesystem of its own; unmounted when dropped, also on a failure.
struct Mounted {
    at: PathBuf,
    _dir: tempfile::TempDir,
}

impl Mounted {
    /// `Err` says why mounting is not possible here.
    fn ext4(bytes: u64) -> Result<Self, String> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|e| e.to_string())?;
        let (image, at) = (dir.path().join("image"), dir.path().join("mounted"));
        let file = std::fs::File::create(&image).map_err(|e| e.to_string())?;
        file.set_len(bytes).map_err(|e| e.to_string())?;
        std::fs::create_dir(&at).map_err(|e| e.to_string())?;
        run("mkfs.ext4", &["-q", "-F", "-b", "4096", "-m", "0", text(&image)])?;
        run("mount", &["-o", "loop", text(&image), text(&at)])?;
        Ok(Self { at, _dir: dir })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &[text(&self.at)]) {
            eprintln!("{error}");
            let _lazily = run("umount", &["-l", text(&self.at)]);
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of the test are UTF-8")
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

fn open(at: &Path, runtime: Runtime) -> Db {
    Db::builder(at.join("db"))
        .cores(vec![0])
        .shards(1)
        .runtime(runtime)
        .cache_bytes(1 << 20)
        .tuning(|tuning| {
            tuning.memtable_bytes = 1 << 20;
            tuning.segment_bytes = 1 << 20;
            tuning.table_bytes = 1 << 20;
            tuning.manifest_bytes = 64 << 10;
        })
        .open_blocking()
        .unwrap()
}

fn key(number: u32) -> Vec<u8> {
    format!("key{number:08}").into_bytes()
}

fn value(number: u32) -> Vec<u8> {
    // Not alike, so that compression gives no room back.
    let mut state = number.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..2000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[1]
        })
        .collect()
}

/// Fills what is left of the filesystem with a file.
fn fill(at: &Path, name: &str) -> PathBuf {
    let path = at.join(name);
    let mut piece = 1 << 20;
    let mut bytes = Vec::new();
    while piece >= 4096 {
        bytes.resize(bytes.len() + piece, 1);
        if std::fs::write(&path, &bytes).is_err() {
            bytes.truncate(bytes.len() - piece);
            piece /= 4;
        }
    }
    let _as_far_as_it_goes = std::fs::write(&path, &bytes);
    path
}

/// Tries until a write succeeds; room comes back within the engine's own retries.
fn writes_go_on(db: &Db, number: u32) {
    let start = Instant::now();
    loop {
        match db.blocking().put(&key(number), &value(number)) {
            Ok(()) => return,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
                assert!(
                    start.elapsed() < Duration::from_secs(60),
                    "no write for a minute: {error}"
                );
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

#[test]
fn r14_a_real_filesystem_runs_full_and_nothing_is_lost() {
    [Runtime::Glommio, Runtime::Uring]
        .into_iter()
        .for_each(runs_full_and_loses_nothing);
}

fn runs_full_and_loses_nothing(runtime: Runtime) {
    let mounted = match Mounted::ext4(48 << 20) {
        Ok(mounted) => mounted,
        Err(why) => {
            println!("skipped: no small filesystem can be mounted here: {why}");
            return;
        }
    };
    let db = open(&mounted.at, runtime);
    let mut there: Vec<u32> = (0..500).collect();
    for number in &there {
        db.blocking().put(&key(*number), &value(*number)).unwrap();
    }
    for spell in 0..2_u32 {
        let ballast = fill(&mounted.at, "ballast");
        let mut number = 10_000 * (spell + 1);
        let refused = loop {
            number += 1;
            match db.blocking().put(&key(number), &value(number)) {
                Ok(()) => there.push(number),
                Err(error) => break error,
            }
            assert!(there.len() < 50_000, "the filesystem is full");
        };
        assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
        assert!(refused.to_string().contains("free space"), "{refused}");
        let refused = db
            .blocking()
            .put_with(b"refused", b"x", Durability::Sync)
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
        for number in there.iter().step_by(7) {
            assert_eq!(db.blocking().get(&key(*number)).unwrap(), Some(value(*number)));
        }
        std::fs::remove_file(&ballast).unwrap();
        writes_go_on(&db, number + 1);
        there.push(number + 1);
    }
    db.blocking().close().unwrap();
    drop(db);
    let db = open(&mounted.at, runtime);
    for number in &there {
        assert_eq!(
            db.blocking().get(&key(*number)).unwrap(),
            Some(value(*number)),
            "{number}"
        );
    }
    assert_eq!(db.blocking().get(b"refused").unwrap(), None);
    db.blocking().close().unwrap();
}
