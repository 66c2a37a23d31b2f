//! Which client may run which command. Pure.
//!
//! A command says by its flags what it needs: `admin` an admin, `write` a writer, `readonly` a reader, none of them
//! anybody who has said who they are, `no_auth` nobody at all. Of a few commands only some subcommands are for admins.

use crate::command::{Failure, Spec};
use crate::config::{Limits, Role};
use crate::resp::request::Arguments;
use crate::session::Session;

/// Commands whose first argument is a command of its own; errors name both, as Redis does.
const CONTAINERS: [&str; 9] = [
    "client", "cluster", "command", "config", "latency", "memory", "module", "object", "slowlog",
];

/// Subcommands for admins of commands that are not.
const ADMIN_SUBCOMMANDS: [(&str, &[&str]); 1] = [("client", &["kill", "list", "no-evict"])];

/// Whether a role may run a command, its subcommands aside.
pub fn may(role: Role, spec: &Spec) -> bool {
    let needs = |flag: &str| spec.flags.contains(&flag);
    match role {
        Role::Admin => true,
        Role::Write => !needs("admin"),
        Role::Read => !needs("admin") && !needs("write"),
    }
}

/// Whether a role may run a subcommand of a command that it may run.
fn may_sub(role: Role, spec: &Spec, subcommand: &[u8]) -> bool {
    role == Role::Admin
        || !ADMIN_SUBCOMMANDS.iter().any(|(name, subcommands)| {
            *name == spec.name
                && subcommands
                    .iter()
                    .any(|admins| subcommand.eq_ignore_ascii_case(admins.as_bytes()))
        })
}

/// Checks, once a command's arity is right, that this client may run it with so many arguments.
///
/// # Errors
/// The answer to whoever may not.
pub fn permit(
    session: &Session,
    spec: &Spec,
    arguments: Arguments<'_>,
    limits: &Limits,
) -> Result<(), Failure> {
    if !session.authenticated && !spec.flags.contains(&"no_auth") {
        return Err(Failure::NO_AUTH);
    }
    let role = session.user.role;
    let subcommand = arguments.get(1).unwrap_or_default();
    if !may(role, spec) || !may_sub(role, spec, subcommand) {
        return Err(Failure::no_permission(&full_name(spec, subcommand)));
    }
    if arguments.count() > limits.arguments && spec.keys.last >= 0 {
        return Err(Failure::err(format_args!(
            "too many arguments for '{}' command; the limit is {}",
            spec.name, limits.arguments
        )));
    }
    Ok(())
}

fn full_name(spec: &Spec, subcommand: &[u8]) -> String {
    if CONTAINERS.contains(&spec.name) && !subcommand.is_empty() {
        let subcommand = String::from_utf8_lossy(subcommand).to_ascii_lowercase();
        format!("{}|{subcommand}", spec.name)
    } else {
        spec.name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table;

    #[test]
    fn every_command_is_for_the_roles_that_its_flags_say() {
        for spec in table::ALL.iter() {
            let has = |flag| spec.flags.contains(&flag);
            let roles = [Role::Read, Role::Write, Role::Admin].map(|role| may(role, spec));
            let wanted = match (has("admin"), has("write")) {
                (true, _) => [false, false, true],
                (false, true) => [false, true, true],
                (false, false) => [true, true, true],
            };
            assert_eq!(roles, wanted, "{}", spec.name);
            assert!(
                !(has("no_auth") && (has("readonly") || has("write") || has("admin"))),
                "{} runs for clients that nobody knows",
                spec.name
            );
        }
    }

    #[test]
    fn the_roles_of_some_commands_are_as_an_operator_expects() {
        let roles = |name: &str| {
            let spec = table::find(name.as_bytes()).unwrap();
            [Role::Read, Role::Write, Role::Admin].map(|role| may(role, spec))
        };
        for name in ["get", "mget", "exists", "scan", "dbsize", "ping", "hello", "info"] {
            assert_eq!(roles(name), [true, true, true], "{name}");
        }
        for name in ["set", "del", "incr", "mset"] {
            assert_eq!(roles(name), [false, true, true], "{name}");
        }
        for name in ["config", "shutdown"] {
            assert_eq!(roles(name), [false, false, true], "{name}");
        }
        let client = table::find(b"client").unwrap();
        assert!(!may_sub(Role::Write, client, b"KILL") && may_sub(Role::Read, client, b"setname"));
        assert!(may_sub(Role::Admin, client, b"list") && !may_sub(Role::Read, client, b"List"));
    }

    #[test]
    fn only_who_they_are_can_be_said_before_it_was_said() {
        let free: Vec<_> = table::ALL
            .iter()
            .filter(|spec| spec.flags.contains(&"no_auth"))
            .map(|spec| spec.name)
            .collect();
        assert_eq!(free, ["auth", "hello", "host:", "post", "quit", "reset"]);
    }

    #[test]
    fn refusals_name_command_and_subcommand_as_redis_does() {
        let spec = |name: &str| table::find(name.as_bytes()).unwrap();
        assert_eq!(full_name(spec("set"), b"GET"), "set");
        assert_eq!(full_name(spec("config"), b"GET"), "config|get");
        assert_eq!(
            Failure::no_permission("config|get").0,
            "NOPERM this user has no permissions to run the 'config|get' command"
        );
    }
}
