//! Small readers of the kernel's own files, below a root: `/` on a machine, a made-up tree in tests.

use std::path::{Path, PathBuf};

/// Where `/sys` and `/proc` are.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// Below this directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file's text without the white space around it; `None` where there is none.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = std::fs::read_to_string(self.at(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// A file's whole number.
    pub fn number<N: std::str::FromStr>(&self, path: impl AsRef<Path>) -> Option<N> {
        self.text(path)?.parse().ok()
    }

    /// The names in a directory, sorted; none where there is no such directory.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        #[expect(
            clippy::disallowed_methods,
            reason = "sysfs and procfs never wait for a device, and no shard runs here"
        )]
        let Ok(entries) = std::fs::read_dir(self.at(path)) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// Whether there is such a file or directory.
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.at(path).exists()
    }

    /// Where a path leads once its links are followed, as a path below the root.
    pub fn follow(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        let real = self.at(path).canonicalize().ok()?;
        let root = self.0.canonicalize().ok()?;
        Some(Path::new("/").join(real.strip_prefix(root).ok()?))
    }
}

/// The numbers of a list such as `0-2,5`, as the kernel writes them.
pub fn cpu_list(text: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            // No kernel has more; a longer range is a damaged file.
            cpus.extend(first..=last.min(first + 8191));
        }
    }
    cpus
}

/// Numbers as the kernel writes them: `0-2,5`.
pub fn ranges(cpus: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let part = |(first, last)| match first == last {
        true => format!("{first}"),
        false => format!("{first}-{last}"),
    };
    parts.into_iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A made-up machine: files and what they hold; a text that starts with `-> ` is a link.
    pub(crate) fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            #[expect(clippy::disallowed_methods, reason = "a test's own files")]
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(to) => std::os::unix::fs::symlink(to, path).unwrap(),
                #[expect(clippy::disallowed_methods, reason = "a test's own files")]
                None => std::fs::write(path, text).unwrap(),
            }
        }
        let root = Root::new(dir.path());
        (dir, root)
    }

    #[test]
    fn files_are_read_below_the_root_and_links_followed_within_it() {
        let (_dir, root) = tree(&[
            ("sys/a/b", " 7\n"),
            ("sys/link", "-> a"),
            ("proc/out", "-> /etc/passwd"),
        ]);
        assert_eq!(root.text("/sys/a/b").as_deref(), Some("7"));
        assert_eq!(root.number::<u64>("/sys/link/b"), Some(7));
        assert_eq!(root.number::<u64>("/sys/none"), None);
        assert_eq!(root.names("/sys"), ["a", "link"]);
        assert_eq!(root.follow("/sys/link/b"), Some("/sys/a/b".into()));
        assert_eq!(root.follow("/proc/out"), None);
    }

    #[test]
    fn lists_of_processors_are_read_and_written_as_the_kernels() {
        for (text, cpus) in [("", vec![]), ("0", vec![0]), ("0-2,5", vec![0, 1, 2, 5])] {
            assert_eq!(cpu_list(text), cpus);
            assert_eq!(ranges(&cpus), text);
        }
        assert!(cpu_list("0-99999999999").len() <= 8192);
        assert_eq!(cpu_list("x,1"), [1]);
    }
}
