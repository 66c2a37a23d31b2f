//! Commands that are made of subcommands, such as `CONFIG GET`: one list each, from which they are found, checked, helped
//! with (`HELP`) and described (`COMMAND INFO`).

use super::{
    Action, Call, Failure, Keys, config, debug, introspect, latency, memory, object, slowlog, takes,
};
use crate::resp::reply;

/// One subcommand.
#[derive(Debug, Clone, Copy)]
pub struct Subcommand {
    /// Its name in lower case.
    pub name: &'static str,
    /// How many arguments the whole command takes, both names included; negative where more are fine.
    pub arity: i32,
    /// What it does, in Redis's words.
    pub flags: &'static [&'static str],
    /// Where its keys are among the arguments of the whole command.
    pub keys: Keys,
    /// How it is written, for `HELP`.
    pub usage: &'static str,
    /// What it is for, in one line.
    pub summary: &'static str,
    /// What it asks for.
    pub run: fn(&mut Call<'_>) -> Result<Action, Failure>,
}

/// A subcommand that names no keys.
pub const fn keyless(
    flags: &'static [&'static str],
    name: &'static str,
    arity: i32,
    usage: &'static str,
    summary: &'static str,
    run: fn(&mut Call<'_>) -> Result<Action, Failure>,
) -> Subcommand {
    Subcommand {
        name,
        arity,
        flags,
        keys: Keys::NONE,
        usage,
        summary,
        run,
    }
}

/// A command of subcommands.
#[derive(Debug, Clone, Copy)]
pub struct Container {
    /// The command's name in lower case.
    pub name: &'static str,
    /// Its subcommands, `HELP` aside.
    pub subcommands: &'static [Subcommand],
}

/// All of them.
pub static CONTAINERS: &[Container] = &[
    introspect::CONTAINER,
    config::CONTAINER,
    debug::CONTAINER,
    latency::CONTAINER,
    memory::CONTAINER,
    object::CONTAINER,
    slowlog::CONTAINER,
];

/// The subcommands of a command; none where it has none.
pub fn of(command: &str) -> &'static [Subcommand] {
    CONTAINERS
        .iter()
        .find(|container| container.name == command)
        .map_or(&[], |container| container.subcommands)
}

/// The subcommand that `config|get` names, in whatever case, and its command's name.
pub fn named(full: &[u8]) -> Option<(&'static str, &'static Subcommand)> {
    let bar = full.iter().position(|&byte| byte == b'|')?;
    let (command, name) = (&full[..bar], &full[bar + 1..]);
    let container = CONTAINERS
        .iter()
        .find(|container| container.name.as_bytes().eq_ignore_ascii_case(command))?;
    let subcommand = find(container.subcommands, name)?;
    Some((container.name, subcommand))
}

/// The subcommand of this name, in whatever case.
pub fn find(subcommands: &'static [Subcommand], name: &[u8]) -> Option<&'static Subcommand> {
    subcommands
        .iter()
        .find(|subcommand| subcommand.name.as_bytes().eq_ignore_ascii_case(name))
}

impl Container {
    /// Runs the subcommand that the first argument names.
    ///
    /// # Errors
    /// There is none of that name, its arguments are too few or many, or it failed.
    pub fn run(&self, call: &mut Call<'_>) -> Result<Action, Failure> {
        let count = call.arguments.count();
        let Some(name) = call.arguments.get(1) else {
            return Err(Failure::arity(self.name));
        };
        if name.eq_ignore_ascii_case(b"help") {
            return match count {
                2 => {
                    self.help(call.out);
                    Ok(Action::Replied)
                }
                _ => Err(self.arity("help")),
            };
        }
        let subcommand =
            find(self.subcommands, name).ok_or_else(|| Failure::unknown_subcommand(self.name, name))?;
        if !takes(subcommand.arity, count) {
            return Err(self.arity(subcommand.name));
        }
        (subcommand.run)(call)
    }

    fn arity(&self, name: &str) -> Failure {
        Failure::arity(&format!("{}|{name}", self.name))
    }

    /// Each line is a simple string of its own, as in Redis.
    fn help(&self, out: &mut Vec<u8>) {
        reply::array(out, 2 * self.subcommands.len() + 3);
        let name = self.name.to_uppercase();
        reply::simple(
            out,
            &format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"),
        );
        for subcommand in self.subcommands {
            reply::simple(out, subcommand.usage);
            reply::simple(out, &format!("    {}", subcommand.summary));
        }
        reply::simple(out, "HELP");
        reply::simple(out, "    Prints this help.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table;

    #[test]
    fn every_container_is_a_command_and_its_parts_fit_it() {
        for container in CONTAINERS {
            let spec = table::find(container.name.as_bytes()).unwrap();
            assert_eq!(spec.name, container.name);
            for subcommand in container.subcommands {
                assert!(subcommand.arity.abs() >= 2 && subcommand.name != "help");
                assert!(subcommand.usage.to_lowercase().starts_with(subcommand.name));
                let full = format!("{}|{}", container.name, subcommand.name).to_uppercase();
                assert_eq!(named(full.as_bytes()).unwrap().1.name, subcommand.name);
            }
        }
        assert!(named(b"config").is_none() && named(b"config|nope").is_none() && of("get").is_empty());
    }
}
