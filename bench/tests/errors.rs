//! What goes wrong is a clear error, never a wrong figure: wrong answers, lost entries, engines that do not open, a full
//! disk, specs that make no sense.

#![allow(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "the bench's own files")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Manner, OpenFake, READS, plan, spec};
use corelane_bench::error::{BenchError, Kind};
use corelane_bench::run::choice::EngineChoice;
use corelane_bench::run::{Watch, run};
use corelane_bench::spec::{Load, Mix};

const CLOSED: Load = Load::Closed { callers: 2 };

fn failure(manner: Manner, mix: Mix) -> BenchError {
    let (plan, dir) = plan(spec(mix, CLOSED, 1.0), OpenFake(manner));
    let error = run(&plan, &Watch::none()).unwrap_err();
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing is left behind"
    );
    error
}

fn bench(args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_corelane-bench"))
        .args(args)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        assert!(output.stdout.is_empty(), "a failed run prints no figure");
    }
    (output.status.success(), words)
}

#[test]
fn a_wrong_value_ends_the_run_and_names_the_key() {
    let manner = Manner {
        wrong_value: true,
        ..Manner::default()
    };
    let error = failure(manner, READS);
    assert_eq!(error.kind(), Kind::Wrong);
    let words = error.to_string();
    assert!(
        words.starts_with("fake (repeat 1): timed: a wrong answer to a read of key "),
        "{words}"
    );
}

#[test]
fn entries_that_were_lost_are_found_by_reads_or_by_the_walk() {
    let forget = Manner {
        forget: true,
        ..Manner::default()
    };
    let found = failure(forget.clone(), READS);
    assert!(
        found.to_string().contains("it was written, and is not there"),
        "{found}"
    );
    let missing = Mix {
        read: 0.0,
        read_missing: 1.0,
        ..READS
    };
    let walked = failure(forget, missing);
    assert!(
        walked
            .to_string()
            .contains("entries at the end, 1000 were inserted"),
        "{walked}"
    );
}

#[test]
fn scans_that_end_early_are_wrong() {
    let manner = Manner {
        short_scans: true,
        ..Manner::default()
    };
    let scans = Mix {
        read: 0.0,
        scan: 1.0,
        ..READS
    };
    let error = failure(manner, scans);
    assert!(
        error.to_string().contains("10 of 50 entries, and there are more"),
        "{error}"
    );
}

#[test]
fn a_peer_that_cannot_be_reached_is_named() {
    let nobody: EngineChoice = "resp=127.0.0.1:1".parse().unwrap();
    let (plan, _dir) = plan(spec(READS, CLOSED, 1.0), nobody);
    let error = run(&plan, &Watch::none()).unwrap_err();
    assert_eq!(error.kind(), Kind::Open);
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[test]
fn specs_that_cannot_be_used_are_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.toml");
    let at = path.to_str().unwrap();
    let (ok, words) = bench(&["run", at]);
    assert!(
        !ok && words.contains("own.toml") && words.contains("No such file"),
        "{words}"
    );

    std::fs::write(&path, "name = \"x\"\nkeys = { count = \"many\" }\n").unwrap();
    let (ok, words) = bench(&["run", at]);
    assert!(!ok && words.contains("line 2"), "{words}");

    let (ok, words) = bench(&["run", "ycsb-z"]);
    assert!(
        !ok && words.contains("neither a preset nor a .toml file") && words.contains("ycsb-a"),
        "{words}"
    );

    let (ok, words) = bench(&["run", "ycsb-a", "--entries", "0"]);
    assert!(!ok && words.contains("keys.count"), "{words}");
}

#[test]
fn a_result_that_cannot_be_stored_is_found_out_first() {
    let (ok, words) = bench(&["run", "ycsb-a", "--out", "/nowhere/at/all.json"]);
    assert!(!ok && words.contains("/nowhere/at"), "{words}");
}

/// On a filesystem of its own that is too small; needs root and a loop device, else it says that it was skipped.
#[test]
fn a_full_disk_is_an_error_and_no_figure() {
    let dir = tempfile::tempdir().unwrap();
    let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
    std::fs::create_dir(&mount).unwrap();
    let Some(_mounted) = Mounted::new(&image, &mount) else {
        eprintln!("skipped: no loop device can be mounted here");
        return;
    };
    for engine in ["corelane", "fjall"] {
        let out = dir.path().join(format!("{engine}.json"));
        let (ok, words) = bench(&[
            "run",
            "load",
            "--entries",
            "2000000",
            "--engines",
            engine,
            "--memtable-mib",
            "16",
            "--no-device",
            "--dir",
            mount.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ]);
        assert!(!ok, "{engine}: a load of 800 MiB cannot fit 256");
        assert!(words.contains(engine), "{words}");
        assert!(!out.exists(), "{engine}: nothing is stored");
    }
}

/// A small ext4 in a file, unmounted when dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(image: &Path, at: &Path) -> Option<Self> {
        let did = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let made = did(Command::new("truncate").arg("-s").arg("256M").arg(image))
            && did(Command::new("mkfs.ext4").arg("-q").arg("-F").arg(image))
            && did(Command::new("mount").arg("-o").arg("loop").arg(image).arg(at));
        made.then(|| Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "unmounting {}",
            self.0.display()
        );
    }
}
