//! Puts this process under a memory limit, so that page cache and block cache compete for the same bytes.
//!
//! A new control group is made below the process's own (so that every limit it already has still holds), given the limit,
//! and entered; page cache that the process fills from then on counts (Linux, admin-guide/cgroup-v1/memory.rst and
//! cgroup-v2.rst). Enter before files are made: cache that is there already was charged to another group.
//!
//! **v2** allows no controllers below a group that has processes, but for the root. There a sibling is made where the
//! parent hands the memory controller down, and only if the process's own group has no limit that this would escape.
//!
//! Where none of it is possible, the error says why in words that go into the result.

use std::io;
use std::path::{Path, PathBuf};

use crate::device::pattern::size;
use crate::error::{BenchError, Kind};

/// A memory limit around this process; dropped, the process goes back to where it was and the group is removed.
#[derive(Debug)]
pub struct MemoryLimit {
    home: PathBuf,
    group: PathBuf,
    version: Version,
    bytes: u64,
}

/// Which kind of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// Where a group would be made.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    version: Version,
    /// The process's own group.
    home: PathBuf,
    /// Where the new one is made.
    parent: PathBuf,
}

impl MemoryLimit {
    /// Puts this process, all its threads and its later children, under a limit of so many bytes.
    ///
    /// # Errors
    /// Why it is not possible here: no memory controller, no permission.
    pub fn enter(bytes: u64) -> Result<Self, BenchError> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let plan = plan(&read("/proc/self/cgroup"), &read("/proc/self/mounts"))
            .map_err(|why| BenchError::new(Kind::Machine, format!("memory cannot be limited: {why}")))?;
        let group = plan.parent.join(format!("corelane-bench-{}", std::process::id()));
        let limit = Self {
            home: plan.home,
            group,
            version: plan.version,
            bytes,
        };
        // Whatever fails, dropping it undoes what was done.
        match limit.make() {
            Ok(()) => Ok(limit),
            Err(error) => Err(BenchError::file(
                "memory cannot be limited: the control group",
                &limit.group,
                error,
            )),
        }
    }

    /// Enters a limit if one is asked for, and tells in words what came of it, for [`Environment::memory_limit`].
    ///
    /// [`Environment::memory_limit`]: crate::result::Environment
    pub fn enter_if(bytes: Option<u64>) -> (Option<Self>, String) {
        match bytes.map(Self::enter) {
            None => (None, "none".to_owned()),
            Some(Ok(limit)) => {
                let words = limit.words();
                (Some(limit), words)
            }
            Some(Err(why)) => (None, format!("none, though one was asked for: {why}")),
        }
    }

    /// In words.
    pub fn words(&self) -> String {
        let version = match self.version {
            Version::V1 => "cgroup v1",
            Version::V2 => "cgroup v2",
        };
        format!("{} by {version}, page cache included", size(self.bytes))
    }

    /// Bytes that count against the limit now.
    ///
    /// # Errors
    /// Naming the group.
    pub fn used_bytes(&self) -> Result<u64, BenchError> {
        let name = match self.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        };
        let path = self.group.join(name);
        let text = std::fs::read_to_string(&path).map_err(|e| BenchError::file("reading", &path, e))?;
        text.trim()
            .parse()
            .map_err(|e| BenchError::file("reading", &path, e))
    }

    fn make(&self) -> io::Result<()> {
        // One that a killed process with this number left behind is taken over.
        match std::fs::create_dir(&self.group) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let (limit, swap, no_swap) = match self.version {
            Version::V1 => (
                "memory.limit_in_bytes",
                "memory.memsw.limit_in_bytes",
                self.bytes.to_string(),
            ),
            Version::V2 => ("memory.max", "memory.swap.max", "0".to_owned()),
        };
        std::fs::write(self.group.join(limit), self.bytes.to_string())?;
        // Kernels without swap accounting lack the file; then there is only swap to hide in, which a bench has not on.
        let _held = std::fs::write(self.group.join(swap), no_swap);
        move_here(&self.group)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // A group that cannot be removed holds nothing but its name; figures do not depend on it.
        let _back = move_here(&self.home);
        let _gone = std::fs::remove_dir(&self.group);
    }
}

fn move_here(group: &Path) -> io::Result<()> {
    std::fs::write(group.join("cgroup.procs"), std::process::id().to_string())
}

/// Where a group can be made, from what `/proc/self/cgroup` and `/proc/self/mounts` say.
fn plan(cgroups: &str, mounts: &str) -> Result<Plan, String> {
    let mount = |kind: &str, option: Option<&str>| {
        mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let options = fields.get(3)?;
            let found = fields[2] == kind && option.is_none_or(|o| options.split(',').any(|has| has == o));
            found.then(|| PathBuf::from(fields[1]))
        })
    };
    let own = |controller: &str| {
        cgroups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            controllers
                .split(',')
                .any(|has| has == controller)
                .then(|| path.trim_start_matches('/'))
        })
    };
    if let (Some(root), Some(path)) = (mount("cgroup", Some("memory")), own("memory")) {
        let home = within(&root, path);
        return Ok(Plan {
            version: Version::V1,
            parent: home.clone(),
            home,
        });
    }
    let (Some(root), Some(path)) = (mount("cgroup2", None), own("")) else {
        return Err("no control groups are mounted".to_owned());
    };
    plan_v2(&root, &within(&root, path))
}

/// The group as it is seen here: in a container its path may be the host's, and the mount is the group itself.
fn within(root: &Path, path: &str) -> PathBuf {
    let seen = root.join(path);
    if seen.is_dir() { seen } else { root.to_owned() }
}

fn plan_v2(root: &Path, home: &Path) -> Result<Plan, String> {
    let words = |dir: &Path, file: &str| std::fs::read_to_string(dir.join(file)).unwrap_or_default();
    let has = |dir: &Path, file: &str| words(dir, file).split_whitespace().any(|word| word == "memory");
    let parent = if home == root {
        home
    } else {
        home.parent().ok_or("the control group has no parent")?
    };
    if !has(parent, "cgroup.controllers") {
        return Err(format!("{} has no memory controller", parent.display()));
    }
    if !has(parent, "cgroup.subtree_control") {
        return Err(format!(
            "{} does not hand the memory controller down",
            parent.display()
        ));
    }
    let own_limit = words(home, "memory.max");
    if parent != home && !matches!(own_limit.trim(), "" | "max") {
        return Err(format!(
            "{} is limited already, to {} B, which a group beside it would escape",
            home.display(),
            own_limit.trim()
        ));
    }
    Ok(Plan {
        version: Version::V2,
        home: home.to_owned(),
        parent: parent.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_one_makes_a_group_below_ones_own() {
        let dir = crate::machine::test_dir();
        let root = dir.path().join("memory");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        let mounts = format!(
            "x /c cgroup rw,cpu 0 0\nx {} cgroup rw,memory 0 0\n",
            root.display()
        );
        let found = plan("5:cpu:/\n4:memory:/a/b\n0::/\n", &mounts).unwrap();
        assert_eq!((found.version, &found.parent), (Version::V1, &root.join("a/b")));
        assert_eq!(found.home, found.parent);
        let contained = plan("4:memory:/docker/123\n", &mounts).unwrap();
        assert_eq!(contained.home, root);
    }

    #[test]
    fn version_two_makes_a_sibling_only_where_no_limit_is_escaped() {
        let dir = crate::machine::test_dir();
        let (root, home) = (dir.path().to_owned(), dir.path().join("slice/scope"));
        std::fs::create_dir_all(&home).unwrap();
        let mounts = format!("x {} cgroup2 rw 0 0\n", root.display());
        let plan = || plan("0::/slice/scope\n", &mounts);
        let slice = root.join("slice");
        assert!(plan().unwrap_err().contains("no memory controller"));
        std::fs::write(slice.join("cgroup.controllers"), "cpu memory\n").unwrap();
        assert!(plan().unwrap_err().contains("does not hand"));
        std::fs::write(slice.join("cgroup.subtree_control"), "memory\n").unwrap();
        std::fs::write(home.join("memory.max"), "1000\n").unwrap();
        assert!(plan().unwrap_err().contains("to 1000 B"));
        std::fs::write(home.join("memory.max"), "max\n").unwrap();
        let expected = Plan {
            version: Version::V2,
            home,
            parent: slice,
        };
        assert_eq!(plan().unwrap(), expected);
        assert!(
            super::plan("0::/\n", "")
                .unwrap_err()
                .contains("no control groups")
        );
    }

    #[test]
    fn without_a_wish_there_is_no_limit_and_the_words_say_so() {
        let (limit, words) = MemoryLimit::enter_if(None);
        assert!(limit.is_none());
        assert_eq!(words, "none");
    }

    const LIMIT: u64 = 48 << 20;

    /// Run by the test below in a process of its own, which it moves.
    #[test]
    #[ignore = "moves its process into a control group"]
    fn a_limited_process() {
        let own = || std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let before = own();
        let limit = match MemoryLimit::enter(LIMIT) {
            Ok(limit) => limit,
            Err(why) => {
                println!("skipped: {why}");
                return;
            }
        };
        assert_ne!(own(), before, "the process has moved");
        let dir = crate::machine::test_dir();
        std::fs::write(dir.path().join("file"), vec![1; 16 << 20]).unwrap();
        let cached = limit.used_bytes().unwrap();
        assert!(cached >= 16 << 20, "the page cache counts: {cached}");
        for number in 0..8 {
            std::fs::write(dir.path().join(number.to_string()), vec![1; 16 << 20]).unwrap();
            let used = limit.used_bytes().unwrap();
            assert!(
                used <= LIMIT,
                "144 MiB went through the cache, and {used} are held"
            );
        }
        let group = limit.group.clone();
        drop(limit);
        assert_eq!(own(), before, "the process is back");
        println!(
            "limited: {}",
            if group.exists() {
                "and the group stayed"
            } else {
                "and the group went"
            }
        );
    }

    #[test]
    fn a_real_control_group_limits_page_cache_and_goes() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "cost::cgroup::tests::a_limited_process",
                "--ignored",
                "--nocapture",
            ])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{said}");
        if let Some(why) = said.lines().find(|line| line.contains("skipped: ")) {
            eprintln!("{why}");
            return;
        }
        assert!(said.contains("limited: and the group went"), "{said}");
    }
}
