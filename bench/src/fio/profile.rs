//! Reads a fio job file into patterns of the raw loop: as much of fio's language as `fio-profiles/*.fio` speak, and an
//! error for any word beyond it, so that no profile is ever compared with something else. Pure.

use crate::device::pattern::{Access, Pattern, Space, Sync};
use crate::error::BenchError;

/// The profiles, as they lie in `fio-profiles/`: an installed binary has them with it.
pub const PROFILES: [(&str, &str); 6] = [
    (
        "wal-group-commit",
        include_str!("../../../fio-profiles/wal-group-commit.fio"),
    ),
    ("flush", include_str!("../../../fio-profiles/flush.fio")),
    ("compaction", include_str!("../../../fio-profiles/compaction.fio")),
    ("point-read", include_str!("../../../fio-profiles/point-read.fio")),
    ("scan", include_str!("../../../fio-profiles/scan.fio")),
    ("mixed", include_str!("../../../fio-profiles/mixed.fio")),
];

/// One job of a profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its section's name.
    pub name: String,
    /// What it does.
    pub pattern: Pattern,
    /// Its file's name.
    pub file: String,
    /// Whether it waits for the jobs before it (fio's `stonewall`).
    pub alone: bool,
}

/// Reads a profile into groups of jobs that run side by side.
///
/// # Errors
/// Naming the line or section that is not understood.
pub fn read(name: &str, text: &str) -> Result<Vec<Vec<Job>>, BenchError> {
    let wrong = |words: String| BenchError::usage(format!("the fio profile {name}: {words}"));
    let mut groups: Vec<Vec<Job>> = Vec::new();
    for (section, options) in sections(text).map_err(wrong)? {
        let job = job(&section, &options).map_err(|words| wrong(format!("[{section}]: {words}")))?;
        match groups.last_mut() {
            Some(group) if !job.alone => group.push(job),
            _ => groups.push(vec![job]),
        }
    }
    if groups.is_empty() {
        return Err(wrong("it has no job".to_owned()));
    }
    Ok(groups)
}

type Options = Vec<(String, String)>;

/// Each section but `[global]`, whose options come first in each of the others.
fn sections(text: &str) -> Result<Vec<(String, Options)>, String> {
    let (mut global, mut sections): (Options, Vec<(String, Options)>) = (Vec::new(), Vec::new());
    let mut in_global = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            in_global = section == "global";
            if !in_global {
                sections.push((section.to_owned(), global.clone()));
            }
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, "1"));
        let option = (key.trim().to_owned(), value.trim().to_owned());
        match sections.last_mut() {
            _ if in_global => global.push(option),
            Some((_, options)) => options.push(option),
            None => return Err(format!("line {}: an option before any section", number + 1)),
        }
    }
    Ok(sections)
}

fn job(name: &str, options: &[(String, String)]) -> Result<Job, String> {
    let (mut pattern, mut file, mut alone) = (Pattern::random_reads(4096, 1), None, false);
    // fio keeps a depth of 1 unless told otherwise, and its default sync is none.
    for (key, value) in options {
        match (key.as_str(), value.as_str()) {
            ("rw", rw) => pattern.access = access(rw).ok_or_else(|| format!("rw={rw} is not known here"))?,
            ("bs", bs) => {
                pattern.block_bytes = bytes(bs)
                    .and_then(|bytes| u32::try_from(bytes).ok())
                    .ok_or_else(|| format!("bs={bs} is no size"))?;
            }
            ("iodepth", depth) => {
                pattern.depth = depth
                    .parse()
                    .map_err(|_| format!("iodepth={depth} is no number"))?;
            }
            ("rate", rate) => {
                pattern.bytes_per_second =
                    Some(bytes(rate).ok_or_else(|| format!("rate={rate} is no size"))?);
            }
            ("sync", "dsync") => pattern.sync = Sync::Dsync,
            ("fdatasync", "1") => pattern.sync = Sync::Fdatasync,
            ("end_fsync", "1") => pattern.sync = Sync::End,
            // A file that is removed afterwards is made anew each time.
            ("unlink", "1") => pattern.space = Space::Append,
            ("filename", name) => file = Some(name.to_owned()),
            ("stonewall", "1") => alone = true,
            ("ioengine", "io_uring")
            | ("fallocate", "none")
            | ("cpus_allowed", "${CORES}")
            | ("cpus_allowed_policy", "split")
            | ("size", "${SIZE}")
            | ("runtime", "${RUNTIME}")
            | ("randrepeat", "0")
            | (
                "direct" | "overwrite" | "time_based" | "lat_percentiles" | "norandommap" | "refill_buffers",
                "1",
            ) => {}
            (key, value) => return Err(format!("{key}={value} is not known here")),
        }
    }
    pattern.check().map_err(|e| e.to_string())?;
    Ok(Job {
        name: name.to_owned(),
        pattern,
        file: file.ok_or("it has no filename")?,
        alone,
    })
}

fn access(rw: &str) -> Option<Access> {
    match rw {
        "randread" => Some(Access::RandomRead),
        "read" => Some(Access::SequentialRead),
        "randwrite" => Some(Access::RandomWrite),
        "write" => Some(Access::SequentialWrite),
        _ => None,
    }
}

/// fio's sizes: `k`, `m` and `g` are powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let (digits, unit) = match text.to_ascii_lowercase().chars().last()? {
        'k' => (&text[..text.len() - 1], 1 << 10),
        'm' => (&text[..text.len() - 1], 1 << 20),
        'g' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1_u64),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_understood_and_tells_the_engines_path() {
        let mut names = Vec::new();
        for (name, text) in PROFILES {
            assert!(
                text.starts_with("; ") && text.contains("(engine/src/"),
                "{name} names the engine's path"
            );
            for (number, group) in read(name, text).unwrap().iter().enumerate() {
                names.extend(
                    group
                        .iter()
                        .map(|job| format!("{name}:{number}:{}: {}", job.name, job.pattern)),
                );
            }
        }
        let expected = [
            "wal-group-commit:0:one-put-4k: sequential writes of 4 KiB, over written blocks, O_DSYNC, depth 1",
            "wal-group-commit:1:sixteen-puts-8k: sequential writes of 8 KiB, over written blocks, O_DSYNC, depth 1",
            "wal-group-commit:2:sixty-four-puts-28k: sequential writes of 28 KiB, over written blocks, O_DSYNC, depth 1",
            "flush:0:flush: sequential writes of 256 KiB, into fresh extents, fdatasync at the end, depth 4",
            "compaction:0:inputs: sequential reads of 256 KiB, depth 4",
            "compaction:0:output: sequential writes of 256 KiB, over written blocks, not synced, depth 4",
            "point-read:0:callers-2: random reads of 4 KiB, depth 2",
            "point-read:1:callers-32: random reads of 4 KiB, depth 32",
            "point-read:2:callers-128: random reads of 4 KiB, depth 128",
            "scan:0:scans-2: random reads of 44 KiB, depth 2",
            "mixed:0:group-commit: sequential writes of 8 KiB, over written blocks, O_DSYNC, depth 1",
            "mixed:0:point-read: random reads of 4 KiB, depth 32",
            "mixed:0:merge-inputs: sequential reads of 256 KiB, depth 4, held to 50 MiB/s",
            "mixed:0:merge-output: sequential writes of 256 KiB, over written blocks, not synced, depth 4, held to 50 MiB/s",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let bad = [
            ("", "no job"),
            ("bs=4k\n", "line 1"),
            ("[a]\nrw=randrw\nfilename=x\n", "rw=randrw"),
            ("[a]\nrw=read\nbs=4q\nfilename=x\n", "bs=4q"),
            ("[a]\nrw=read\n", "no filename"),
            ("[a]\nrw=read\nfilename=x\nbs=4k\nnumjobs=4\n", "numjobs=4"),
            ("[a]\nrw=read\nfilename=x\niodepth=900\n", "depth is 1 to 256"),
        ];
        for (text, words) in bad {
            let error = read("mine", text).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("mine"), "{error}");
        }
    }
}
