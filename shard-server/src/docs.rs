//! Documentation made of the command line's own description: completions for shells, manual pages.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::options::Cli;
use crate::tools::print;

/// The whole command line.
fn described() -> clap::Command {
    <Cli as CommandFactory>::command()
}

/// Prints the completions of a shell on standard output.
pub fn completions(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut described(), "corelane", &mut script);
    print(String::from_utf8_lossy(&script));
}

/// Prints the manual page of the whole, or writes a page a command into a directory.
///
/// # Errors
/// What could not be written, where, and why.
pub fn man(dir: Option<&Path>) -> Result<(), String> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(described())
            .render(&mut page)
            .map_err(|error| format!("making the manual page: {error}"))?;
        print(String::from_utf8_lossy(&page));
        return Ok(());
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "files of the user's, in a process that runs no shard"
    )]
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(described(), dir))
        .map_err(|error| format!("writing manual pages into {}: {error}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        described().debug_assert();
    }

    #[test]
    fn each_command_has_its_page() {
        let dir = tempfile::tempdir().unwrap();
        man(Some(&dir.path().join("man1"))).unwrap();
        for page in [
            "corelane.1",
            "corelane-cli.1",
            "corelane-doctor.1",
            "corelane-config-check.1",
        ] {
            let text = std::fs::read_to_string(dir.path().join("man1").join(page)).unwrap();
            assert!(text.contains(".SH NAME"), "{page}");
        }
    }
}
