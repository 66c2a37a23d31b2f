//! Documentation made of the command line's own description: completions for shells, manual pages.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::options::Cli;

/// The whole command line.
fn described() -> clap::Command {
    <Cli as CommandFactory>::command()
}

/// Prints the completions of a shell on standard output.
pub fn completions(shell: Shell) {
    // Writing panics where nobody reads, and then nobody minds.
    clap_complete::generate(shell, &mut described(), "corelane", &mut io::stdout());
}

/// Prints the manual page of the whole, or writes a page a command into a directory.
///
/// # Errors
/// What could not be written, where, and why.
pub fn man(dir: Option<&Path>) -> Result<(), String> {
    let Some(dir) = dir else {
        return clap_mangen::Man::new(described())
            .render(&mut io::stdout())
            .map_err(|error| format!("printing the manual page: {error}"));
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
