//! `CONFIG`: the settings under the names by which Redis's tools ask for them, and those that change while running.

use corelane::api::Durability;

use super::subcommand::{Container, keyless};
use super::table::{ADMIN, spec};
use super::{Action, Call, Failure, Keys, Spec};
use crate::config::log::Level;
use crate::glob::{Budget, matches};
use crate::log;
use crate::resp::number::parse_i64;
use crate::resp::{MAX_BULK_BYTES, reply};
use crate::server::Server;
use crate::telemetry::slow;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[spec(
    "config",
    -2,
    ADMIN,
    Keys::NONE,
    "server",
    "Shows and changes the settings in force.",
    config,
)];

/// `CONFIG` and its parts.
pub const CONTAINER: Container = Container {
    name: "config",
    subcommands: &[
        keyless(
            ADMIN,
            "get",
            -3,
            "GET <pattern> [<pattern> ...]",
            "Returns the settings whose names match, and their values.",
            get,
        ),
        keyless(
            ADMIN,
            "set",
            -4,
            "SET <setting> <value> [<setting> <value> ...]",
            "Changes settings until the server ends, all of them or none.",
            set,
        ),
        keyless(
            ADMIN,
            "resetstat",
            2,
            "RESETSTAT",
            "Begins the counts that INFO shows anew.",
            reset_stat,
        ),
        keyless(
            ADMIN,
            "rewrite",
            2,
            "REWRITE",
            "Refuses: files are not rewritten.",
            rewrite,
        ),
    ],
};

/// Steps that the patterns of one `CONFIG GET` may take.
const PATTERN_STEPS: u64 = 1_000_000;

/// Most clients that may be asked for, as on the command line.
const MOST_CLIENTS: i64 = 1_000_000;

/// Bytes of a setting's unknown name that an error repeats.
const QUOTED_BYTES: usize = 128;

/// How a setting changes.
enum Change {
    /// Not while the server runs.
    Never,
    /// To a number of this range.
    Number {
        min: i64,
        max: i64,
        set: fn(&Server, i64),
    },
    /// To `yes` or `no`.
    YesNo(fn(&Server, bool)),
    /// To a level of the log.
    Level,
}

/// One setting.
struct Setting {
    name: &'static str,
    get: fn(&Server) -> String,
    change: Change,
}

const fn fixed(name: &'static str, get: fn(&Server) -> String) -> Setting {
    Setting {
        name,
        get,
        change: Change::Never,
    }
}

static SETTINGS: &[Setting] = &[
    fixed("appendfsync", |server| append(server).1.to_owned()),
    fixed("appendonly", |server| append(server).0.to_owned()),
    fixed("bind", |server| {
        server
            .address()
            .unwrap_or(server.settings.address)
            .ip()
            .to_string()
    }),
    fixed("databases", |_| "1".to_owned()),
    fixed("dir", |server| server.settings.data_dir.display().to_string()),
    Setting {
        name: "latency-tracking",
        get: |server| yes_no(server.telemetry().shows_latencies()),
        change: Change::YesNo(|server, yes| server.telemetry().show_latencies(yes)),
    },
    Setting {
        name: "loglevel",
        get: |_| word_of(log::level()).to_owned(),
        change: Change::Level,
    },
    Setting {
        name: "maxclients",
        get: |server| server.max_clients().to_string(),
        change: Change::Number {
            min: 1,
            max: MOST_CLIENTS,
            set: |server, clients| server.set_max_clients(usize::try_from(clients).unwrap_or(usize::MAX)),
        },
    },
    fixed("maxmemory", |_| "0".to_owned()),
    fixed("maxmemory-policy", |_| "noeviction".to_owned()),
    fixed("port", |server| {
        server
            .address()
            .unwrap_or(server.settings.address)
            .port()
            .to_string()
    }),
    fixed("proto-max-bulk-len", |_| MAX_BULK_BYTES.to_string()),
    fixed("save", |_| String::new()),
    Setting {
        name: "slowlog-log-slower-than",
        get: |server| server.telemetry().slow().threshold_us().to_string(),
        change: Change::Number {
            min: -1,
            max: i64::MAX,
            set: |server, us| server.telemetry().slow().set_threshold_us(us),
        },
    },
    Setting {
        name: "slowlog-max-len",
        get: |server| server.telemetry().slow().length().to_string(),
        change: Change::Number {
            min: 0,
            max: slow::MAX_LENGTH as i64,
            set: |server, length| {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                server.telemetry().slow().set_length(length);
            },
        },
    },
    Setting {
        name: "slowlog-show-arguments",
        get: |server| yes_no(server.telemetry().slow().shows_arguments()),
        change: Change::YesNo(|server, yes| server.telemetry().slow().show_arguments(yes)),
    },
    Setting {
        name: "timeout",
        get: |server| (server.idle_ms() / 1000).to_string(),
        change: Change::Number {
            min: 0,
            max: i32::MAX as i64,
            set: |server, seconds| server.set_idle_ms(seconds.unsigned_abs() * 1000),
        },
    },
];

/// Redis's words for how much is logged.
const LEVELS: [(&str, Level); 4] = [
    ("debug", Level::Trace),
    ("verbose", Level::Debug),
    ("notice", Level::Info),
    ("warning", Level::Warn),
];

/// The word of a level. Redis has none for logging errors alone.
fn word_of(level: Level) -> &'static str {
    let known = LEVELS.into_iter().find(|(_, known)| *known == level);
    known.map_or("warning", |(word, _)| word)
}

fn yes_no(yes: bool) -> String {
    (if yes { "yes" } else { "no" }).to_owned()
}

/// `appendonly` and `appendfsync` for a durability.
fn append(server: &Server) -> (&'static str, &'static str) {
    match server.settings.durability {
        Durability::Sync => ("yes", "always"),
        Durability::Buffered => ("yes", "everysec"),
        Durability::None => ("no", "no"),
    }
}

/// `CONFIG subcommand`.
pub fn config(call: &mut Call<'_>) -> Result<Action, Failure> {
    CONTAINER.run(call)
}

fn get(call: &mut Call<'_>) -> Result<Action, Failure> {
    let mut wanted = vec![false; SETTINGS.len()];
    let mut budget = Budget::new(PATTERN_STEPS);
    for pattern in call.arguments.from(2) {
        let pattern = pattern.to_ascii_lowercase();
        for (setting, wanted) in SETTINGS.iter().zip(&mut wanted) {
            *wanted |= matches(&pattern, setting.name.as_bytes(), &mut budget)
                .map_err(|_| Failure::fixed("ERR the patterns take too many steps"))?;
        }
    }
    let found: Vec<_> = SETTINGS
        .iter()
        .zip(wanted)
        .filter_map(|(setting, wanted)| wanted.then_some(setting))
        .collect();
    reply::map(call.out, found.len(), call.session.protocol);
    for setting in found {
        reply::bulk(call.out, setting.name.as_bytes());
        reply::bulk(call.out, (setting.get)(call.server).as_bytes());
    }
    Ok(Action::Replied)
}

/// A change that was checked.
enum Checked {
    Number(fn(&Server, i64), i64),
    YesNo(fn(&Server, bool), bool),
    Level(Level),
}

/// All names are checked first, then all values; nothing changes where any is wrong.
fn set(call: &mut Call<'_>) -> Result<Action, Failure> {
    if !call.arguments.count().is_multiple_of(2) {
        return Err(Failure::SYNTAX);
    }
    let mut settings: Vec<(&Setting, &[u8])> = Vec::new();
    for place in (2..call.arguments.count()).step_by(2) {
        let name = call.arguments.at(place);
        let setting = SETTINGS
            .iter()
            .find(|setting| setting.name.as_bytes().eq_ignore_ascii_case(name))
            .ok_or_else(|| unknown(name))?;
        if matches!(setting.change, Change::Never) {
            return Err(refused(setting, "can't set immutable config"));
        }
        if settings.iter().any(|(other, _)| other.name == setting.name) {
            return Err(refused(setting, "duplicate parameter"));
        }
        settings.push((setting, call.arguments.at(place + 1)));
    }
    let checked: Result<Vec<_>, _> = settings
        .into_iter()
        .map(|(setting, value)| check(setting, value).map_err(|why| refused(setting, &why)))
        .collect();
    for change in checked? {
        match change {
            Checked::Number(set, n) => set(call.server, n),
            Checked::YesNo(set, yes) => set(call.server, yes),
            Checked::Level(level) => log::set_level(level),
        }
    }
    reply::simple(call.out, "OK");
    Ok(Action::Replied)
}

fn check(setting: &Setting, value: &[u8]) -> Result<Checked, String> {
    match setting.change {
        Change::Never => Err("can't set immutable config".to_owned()),
        Change::Number { min, max, set } => match parse_i64(value) {
            None => Err("argument couldn't be parsed into an integer".to_owned()),
            Some(n) if (min..=max).contains(&n) => Ok(Checked::Number(set, n)),
            Some(_) => Err(format!("argument must be between {min} and {max} inclusive")),
        },
        Change::YesNo(set) => match value.to_ascii_lowercase().as_slice() {
            b"yes" => Ok(Checked::YesNo(set, true)),
            b"no" => Ok(Checked::YesNo(set, false)),
            _ => Err("argument must be 'yes' or 'no'".to_owned()),
        },
        Change::Level => LEVELS
            .into_iter()
            .find(|(word, _)| word.as_bytes().eq_ignore_ascii_case(value))
            .map(|(_, level)| Checked::Level(level))
            .ok_or_else(|| {
                let words = LEVELS.map(|(word, _)| word).join(", ");
                format!("argument(s) must be one of the following: {words}")
            }),
    }
}

fn unknown(name: &[u8]) -> Failure {
    let name = String::from_utf8_lossy(&name[..name.len().min(QUOTED_BYTES)]);
    Failure::err(format_args!(
        "Unknown option or number of arguments for CONFIG SET - '{name}'"
    ))
}

fn refused(setting: &Setting, why: &str) -> Failure {
    Failure::err(format_args!(
        "CONFIG SET failed (possibly related to argument '{}') - {why}",
        setting.name
    ))
}

fn reset_stat(call: &mut Call<'_>) -> Result<Action, Failure> {
    call.server.telemetry().reset();
    reply::simple(call.out, "OK");
    Ok(Action::Replied)
}

fn rewrite(_: &mut Call<'_>) -> Result<Action, Failure> {
    Err(Failure::fixed(
        "ERR CONFIG REWRITE is not supported: change the configuration file by hand; CONFIG SET lasts until the server \
         ends",
    ))
}
