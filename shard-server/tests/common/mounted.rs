//! Small filesystems of a test's own, on loop devices. Mounting takes root; where it is not allowed a test says so and
//! passes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// A mounted ext4; unmounted when dropped, also on a failure.
pub struct Mounted {
    pub at: PathBuf,
    _dir: tempfile::TempDir,
}

impl Mounted {
    /// `Err` says why mounting is not possible here.
    pub fn ext4(bytes: u64) -> Result<Self, String> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|e| e.to_string())?;
        let (image, at) = (dir.path().join("image"), dir.path().join("mounted"));
        let file = create(&image).map_err(|e| e.to_string())?;
        file.set_len(bytes).map_err(|e| e.to_string())?;
        make_dir(&at).map_err(|e| e.to_string())?;
        run("mkfs.ext4", &["-q", "-F", "-b", "4096", "-m", "0", text(&image)])?;
        // An error makes it read-only, as the root filesystems of most machines are set up.
        run(
            "mount",
            &["-o", "loop,errors=remount-ro", text(&image), text(&at)],
        )?;
        Ok(Self { at, _dir: dir })
    }

    /// Takes all the space that is left; gives it back when dropped.
    pub fn fill(&self) -> Ballast {
        let path = self.at.join("ballast");
        let file = create(&path).expect("an empty file takes no block");
        let block = statvfs(&self.at).expect("it is mounted").f_frsize;
        let (mut piece, mut end) = (64 << 20, 0);
        while piece >= block {
            if fallocate(&file, FallocateFlags::empty(), end, piece).is_ok() {
                end += piece;
            } else {
                piece /= 2;
            }
        }
        Ballast(path)
    }

    /// The filesystem finds an error in itself: from now on nothing can be written to it, and everything read.
    pub fn fails(&self) -> Result<(), String> {
        let source = output("findmnt", &["-n", "-o", "SOURCE", text(&self.at)])?;
        let device = source.trim().trim_start_matches("/dev/");
        let switch = PathBuf::from(format!("/sys/fs/ext4/{device}/trigger_fs_error"));
        write(&switch, "planted by a test").map_err(|error| format!("{}: {error}", switch.display()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &[text(&self.at)]) {
            eprintln!("{error}");
            let _lazily = run("umount", &["-l", text(&self.at)]);
        }
    }
}

/// All the space that was left.
pub struct Ballast(PathBuf);

impl Drop for Ballast {
    #[expect(clippy::disallowed_methods, reason = "a file of the test")]
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).expect("it is ours");
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of the test")]
fn create(path: &Path) -> std::io::Result<File> {
    File::create(path)
}

#[expect(clippy::disallowed_methods, reason = "a directory of the test")]
fn make_dir(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir(path)
}

#[expect(clippy::disallowed_methods, reason = "a switch of the kernel")]
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    std::fs::write(path, text)
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of the test are UTF-8")
}

/// Runs a program to its end.
pub fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    output(program, arguments).map(drop)
}

fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
