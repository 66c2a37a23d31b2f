//! What this kernel's io_uring offers, as plain data that says itself in words.
//!
//! Linux 5.19 has all that is essential: every operation that is used, rings of provided buffers, sparse tables of
//! registered files. What is newer is taken one by one where it is there. Which kernel it is, is read from its
//! release; what a release cannot say is tried.

use std::fmt;
use std::io;

use io_uring::{Probe, opcode};

/// The oldest kernel that has what is essential.
const OLDEST_KERNEL: (u32, u32) = (5, 19);

/// The first kernel with multishot receive.
const MULTISHOT_RECEIVE: (u32, u32) = (6, 0);

/// How a ring is set up, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// One thread submits, completions run when it looks, and entries need no second queue (Linux 6.6).
    Deferred,
    /// The same with the second queue (Linux 6.1).
    DeferredWithArray,
    /// Completions run when the thread enters the kernel anyhow (Linux 5.19).
    Cooperative,
}

impl Setup {
    /// All, best first.
    pub(super) const ALL: [Self; 3] = [Self::Deferred, Self::DeferredWithArray, Self::Cooperative];
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deferred => "one issuer, deferred completions, no index array",
            Self::DeferredWithArray => "one issuer, deferred completions",
            Self::Cooperative => "cooperative completions",
        })
    }
}

/// What a core's ring has taken of what the kernel offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ability {
    /// The kernel's release.
    pub kernel: String,
    /// How the ring is set up.
    pub setup: Setup,
    /// One receive yields many buffers, which the kernel takes from a ring of them; else each receive brings its own.
    pub multishot_receive: bool,
    /// Cores are woken by messages into their rings; else by an eventfd.
    pub messages: bool,
    /// Files that may be registered, so that the kernel need not look them up: 0 for none.
    pub registered_files: u32,
    /// Memory for file transfers in bytes: 0 for none.
    pub memory_bytes: usize,
    /// How much of it the kernel has registered; less than all where the limit on locked memory keeps the rest.
    pub registered_bytes: usize,
    /// Huge pages were asked for and not refused.
    pub huge_pages: bool,
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}: {}", self.kernel, self.setup)?;
        let receive = if self.multishot_receive {
            "multishot receive"
        } else {
            "single receives (multishot needs Linux 6.0)"
        };
        let woken = if self.messages {
            "woken by messages"
        } else {
            "woken by eventfd (messages need Linux 6.13)"
        };
        let files = self.registered_files;
        write!(f, ", {receive}, {woken}, {files} registered files")?;
        if self.memory_bytes == 0 {
            return Ok(());
        }
        let (all, registered) = (self.memory_bytes / 1024, self.registered_bytes / 1024);
        let pages = if self.huge_pages { "huge" } else { "small" };
        write!(
            f,
            ", {registered} of {all} KiB of memory registered, in {pages} pages"
        )?;
        if registered < all {
            write!(f, " (the limit on locked memory keeps the rest)")?;
        }
        Ok(())
    }
}

/// This kernel's release, such as `6.1.0-13-amd64`.
pub(super) fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Whether a kernel has multishot receive.
pub(super) fn has_multishot_receive(release: &str) -> bool {
    version(release).is_some_and(|version| version >= MULTISHOT_RECEIVE)
}

/// Refuses a kernel that lacks what is essential, saying what and which would do.
pub(super) fn check(release: &str, probe: &Probe) -> io::Result<()> {
    let unsupported = |what: String| Err(io::Error::new(io::ErrorKind::Unsupported, what));
    let (major, minor) = OLDEST_KERNEL;
    if version(release).is_none_or(|version| version < OLDEST_KERNEL) {
        return unsupported(format!(
            "this is Linux {release}, and {major}.{minor} is the oldest that the uring runtime can use; the glommio \
             runtime needs 5.8"
        ));
    }
    let needed = [
        ("read", opcode::ReadFixed::CODE),
        ("write", opcode::WriteFixed::CODE),
        ("fsync", opcode::Fsync::CODE),
        ("fallocate", opcode::Fallocate::CODE),
        ("openat", opcode::OpenAt::CODE),
        ("close", opcode::Close::CODE),
        ("renameat", opcode::RenameAt::CODE),
        ("unlinkat", opcode::UnlinkAt::CODE),
        ("mkdirat", opcode::MkDirAt::CODE),
        ("accept", opcode::Accept::CODE),
        ("connect", opcode::Connect::CODE),
        ("recv", opcode::Recv::CODE),
        ("sendmsg", opcode::SendMsg::CODE),
        ("shutdown", opcode::Shutdown::CODE),
        ("poll", opcode::PollAdd::CODE),
        ("cancel", opcode::AsyncCancel::CODE),
    ];
    let lacks = |&&(_, code): &&(&str, u8)| !probe.is_supported(code);
    let missing: Vec<&str> = needed.iter().filter(lacks).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    unsupported(format!(
        "this kernel's io_uring (Linux {release}) lacks {}; a security policy may keep it back",
        missing.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_known_by_its_release() {
        assert!(has_multishot_receive("6.0.0") && has_multishot_receive("6.18.44-fc"));
        assert!(!has_multishot_receive("5.19.17-generic") && !has_multishot_receive("next"));
        for release in ["5.18.19", "5.4", "", "next"] {
            let error = check(release, &Probe::new()).expect_err("too old").to_string();
            assert!(error.contains("5.19 is the oldest"), "{error}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = check("6.1.0", &Probe::new()).expect_err("an empty probe has nothing");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("unlinkat"), "{error}");
    }

    #[test]
    fn an_ability_says_itself_in_words() {
        let ability = Ability {
            kernel: "6.1.0".to_owned(),
            setup: Setup::DeferredWithArray,
            multishot_receive: true,
            messages: false,
            registered_files: 1024,
            memory_bytes: 10 << 20,
            registered_bytes: 5 << 20,
            huge_pages: false,
        };
        let text = ability.to_string();
        for part in [
            "Linux 6.1.0",
            "deferred",
            "multishot receive",
            "by eventfd",
            "1024 registered",
            "5120 of 10240 KiB",
            "small",
            "locked memory",
        ] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }
}
