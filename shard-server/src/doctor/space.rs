//! Room for the data, and who may read it.

use std::path::Path;

use super::finding::Finding;

/// Below this share of a filesystem both compaction and the filesystem begin to suffer.
const LITTLE_PERCENT: u64 = 10;

/// Files that a database makes in short time when it grows.
const FEWEST_INODES: u64 = 10_000;

/// What is known of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// Bytes of the filesystem.
    pub total_bytes: u64,
    /// Bytes that this user may still write.
    pub free_bytes: u64,
    /// Files that may still be made; `None` where the filesystem counts none.
    pub free_inodes: Option<u64>,
    /// Who may do what with the data directory; `None` where it is not there yet.
    pub mode: Option<u32>,
}

/// Looks at `data_dir`, of which `there` is the part that is there already.
///
/// # Errors
/// The operating system's.
pub fn read(data_dir: &Path, there: &Path) -> std::io::Result<Room> {
    let room = rustix::fs::statvfs(there)?;
    let mode = rustix::fs::stat(data_dir).ok().map(|about| about.st_mode & 0o777);
    Ok(Room {
        total_bytes: room.f_blocks.saturating_mul(room.f_frsize),
        free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
        free_inodes: (room.f_files > 0).then_some(room.f_favail),
        mode,
    })
}

/// What it means for a server that needs so many bytes to go on at all.
pub fn judge(room: Room, needed_bytes: u64, data_dir: &Path) -> Vec<Finding> {
    vec![space(room, needed_bytes, data_dir), access(room.mode, data_dir)]
}

fn space(room: Room, needed: u64, dir: &Path) -> Finding {
    let name = "free space";
    let mib = |bytes: u64| bytes >> 20;
    let found = format!("{} of {} MiB free", mib(room.free_bytes), mib(room.total_bytes));
    let look = format!(
        "find what is large: du -xh --max-depth=1 {} | sort -h; or give the filesystem more",
        dir.display()
    );
    if room.free_bytes < needed {
        return Finding::fail(
            name,
            format!("{found}, and memtables and log alone may need {}", mib(needed)),
            "the database will be read-only soon",
            look,
        );
    }
    if room.free_inodes.is_some_and(|inodes| inodes < FEWEST_INODES) {
        return Finding::warn(
            name,
            format!(
                "{found}, but room for {} more files only",
                room.free_inodes.unwrap_or(0)
            ),
            "tables and log segments cannot be made",
            format!(
                "find many small files: du --inodes -x --max-depth=1 {} | sort -n",
                dir.display()
            ),
        );
    }
    if room.free_bytes / LITTLE_PERCENT.max(1) < room.total_bytes / 100 {
        return Finding::warn(
            name,
            found,
            "compaction needs room for its outputs beside its inputs, and a full filesystem is a slow one",
            look,
        );
    }
    Finding::ok(name, found)
}

fn access(mode: Option<u32>, dir: &Path) -> Finding {
    let name = "data directory";
    let shown = dir.display();
    match mode {
        None => Finding::ok(name, format!("{shown} is not there yet; the server makes it")),
        Some(mode) if mode & 0o077 != 0 => Finding::warn(
            name,
            format!("{shown} has mode {mode:04o}"),
            "other users of this machine may read the data",
            format!("chmod 700 {shown}"),
        ),
        Some(mode) => Finding::ok(name, format!("{shown} has mode {mode:04o}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Fail, Ok, Warn};
    use super::*;

    #[test]
    fn room_is_judged_by_what_is_needed_and_by_its_share() {
        let room = |free: u64, inodes| Room {
            total_bytes: 1000 << 20,
            free_bytes: free << 20,
            free_inodes: inodes,
            mode: None,
        };
        let verdict = |room| space(room, 50 << 20, Path::new("/d")).verdict;
        assert_eq!(verdict(room(100, None)), Ok);
        assert_eq!(verdict(room(99, None)), Warn);
        assert_eq!(verdict(room(49, None)), Fail);
        assert_eq!(verdict(room(500, Some(9_999))), Warn);
        assert_eq!(verdict(room(500, Some(10_000))), Ok);
    }

    #[test]
    fn a_directory_that_others_may_read_is_told() {
        let dir = Path::new("/d");
        assert_eq!(access(None, dir).verdict, Ok);
        assert_eq!(access(Some(0o700), dir).verdict, Ok);
        assert_eq!(access(Some(0o750), dir).mend, "chmod 700 /d");
    }

    #[test]
    fn this_machine_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let room = read(&dir.path().join("none"), dir.path()).unwrap();
        assert!(room.total_bytes >= room.free_bytes && room.total_bytes > 0);
        assert_eq!(room.mode, None);
        assert!(read(dir.path(), dir.path()).unwrap().mode.is_some());
    }
}
