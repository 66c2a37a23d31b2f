//! What a directory occupies on the device, holes left out and preallocated room counted.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Directories below the one asked about are followed this deep; databases are flat.
const MOST_DEPTH: u32 = 16;

/// Bytes that the files under `dir` occupy. A file that goes while it is counted, as tables do, counts nothing.
///
/// # Errors
/// The operating system's, or directories nested too deep.
pub fn occupied_bytes(dir: &Path) -> io::Result<u64> {
    occupied(dir, MOST_DEPTH)
}

fn occupied(dir: &Path, depth: u32) -> io::Result<u64> {
    if depth == 0 {
        return Err(io::Error::other(format!("{} is nested too deep", dir.display())));
    }
    let mut total = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let counted = entry.metadata().and_then(|found| {
            if found.is_dir() {
                occupied(&entry.path(), depth - 1)
            } else {
                // st_blocks counts in 512 B whatever the filesystem's block (stat(2)).
                Ok(found.blocks() * 512)
            }
        });
        total += match counted {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            counted => counted?,
        };
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_below_counts_with_what_it_occupies() {
        let dir = crate::machine::test_dir();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::write(dir.path().join("in/file"), vec![1; 10_000]).unwrap();
        std::fs::File::create(dir.path().join("holes"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        let file = std::fs::File::open(dir.path().join("in/file")).unwrap();
        file.sync_all().unwrap();
        let bytes = occupied_bytes(dir.path()).unwrap();
        assert!((10_000..100_000).contains(&bytes), "{bytes}");
        assert!(occupied_bytes(&dir.path().join("none")).is_err());
    }
}
