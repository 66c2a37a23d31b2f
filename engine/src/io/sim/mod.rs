//! The simulator behind the seam: a seeded, virtual disk, network, clock and scheduler.
