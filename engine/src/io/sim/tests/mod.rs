//! Tests of the simulator itself.

use std::path::Path;

use super::{SimDisk, run};
use crate::io::conformance;

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
