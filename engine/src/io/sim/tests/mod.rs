//! Tests of the simulator itself: that it can do every harm it should, does none it should not, and repeats itself.

use std::collections::BTreeSet;
use std::future::{Future, pending};
use std::path::Path;

use super::{SimDisk, SimFile, SimIo, run};
use crate::io::{File, Io, OpenOptions, conformance};
use crate::types::PAGE_BYTES;

mod crash;
mod faults;
mod machine;
mod mutants;
mod net;

const PAGE: u64 = PAGE_BYTES as u64;

/// Enough seeds that every outcome with a chance of a few percent is met.
const SEEDS: u64 = 300;

#[test]
fn the_simulator_passes_the_conformance_suite_under_many_seeds() {
    for seed in 0..20 {
        let disk = SimDisk::new();
        let done = run(seed, &disk, 2, |machine| async move {
            conformance::all(machine.core(0), Path::new("/")).await;
        });
        assert_eq!(done, Some(()), "seed {seed}");
    }
}

/// Runs `body` on core 0, cuts the power where it ends, and crashes.
fn run_and_crash<F: Future<Output = ()>>(seed: u64, disk: &SimDisk, body: impl FnOnce(SimIo) -> F) {
    let answer = run(seed, disk, 1, |machine| async move {
        body(machine.core(0)).await;
        machine.cut_power();
        pending::<()>().await;
    });
    assert_eq!(answer, None, "seed {seed}");
    disk.crash(seed);
}

/// What `outcome` gives over many seeds.
fn outcomes<T: Ord>(outcome: impl Fn(u64) -> T) -> BTreeSet<T> {
    (0..SEEDS).map(outcome).collect()
}

async fn open(io: &SimIo, path: &str, options: OpenOptions) -> SimFile {
    io.open(Path::new(path), options).await.unwrap()
}

async fn write_page(io: &SimIo, file: &SimFile, page: u64, byte: u8) {
    let mut buf = io.alloc(PAGE_BYTES);
    buf.fill(byte);
    assert_eq!(file.write_at(buf, page * PAGE).await.0.unwrap(), PAGE_BYTES);
}

async fn sync_dir(io: &SimIo, path: &str) {
    io.sync_dir(Path::new(path)).await.unwrap();
}

/// A disk that holds `/f` with so many durable pages of `0xaa`.
fn disk_with_file(pages: usize) -> SimDisk {
    let disk = SimDisk::new();
    disk.write("/f", &vec![0xaa; pages * PAGE_BYTES]);
    disk
}

/// The byte that fills each sector of page `page` of `path`; `None` for a sector of several.
fn sectors(disk: &SimDisk, path: &str, page: usize) -> Vec<Option<u8>> {
    let bytes = disk.read(path).unwrap();
    let page = &bytes[page * PAGE_BYTES..(page + 1) * PAGE_BYTES];
    let uniform = |sector: &[u8]| sector.iter().all(|b| *b == sector[0]).then_some(sector[0]);
    page.chunks(super::SECTOR_BYTES).map(uniform).collect()
}

/// What became of a page of `0xaa` that was overwritten with `0xbb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Page {
    Old,
    New,
    Torn,
    Garbled,
}

fn page(disk: &SimDisk, path: &str, index: usize) -> Page {
    let sectors = sectors(disk, path, index);
    let all = |byte| sectors.iter().all(|sector| *sector == Some(byte));
    if all(0xaa) {
        Page::Old
    } else if all(0xbb) {
        Page::New
    } else if sectors.iter().all(|sector| matches!(sector, Some(0xaa | 0xbb))) {
        Page::Torn
    } else {
        Page::Garbled
    }
}
