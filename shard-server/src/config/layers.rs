//! The layers of a configuration made one: defaults < file < environment < flags.
//!
//! 1. Each layer becomes settings: a name, a value, and the place that it comes from. Names and values are checked
//!    against the manual here, so that what is wrong is told with its place, and everything that is wrong at once.
//! 2. figment merges them over the defaults, and makes the structs of them.
//! 3. [`check`](super::check) looks at the whole: what contradicts what.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::Serialized;
use serde_json::Value;

use super::keys::{find, unknown};
use super::{Config, check, file};

/// What the names of environment variables begin with; sections and keys are joined by two underscores.
pub const ENVIRONMENT_PREFIX: &str = "CORELANE_";

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Place {
    /// Nobody set it.
    #[default]
    Default,
    /// A file, at a line.
    File(PathBuf, usize),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One value that a layer sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Section and key, such as `server.port`.
    pub name: String,
    /// The value.
    pub value: Value,
    /// Where it was set.
    pub place: Place,
}

impl Setting {
    /// What is wrong with it by itself, and where.
    fn problem(&self) -> Option<String> {
        let told = |why: String| format!("{}: {why}", self.place);
        match find(&self.name) {
            None => Some(told(unknown(&self.name))),
            Some(key) => key.check(&self.value).err().map(told),
        }
    }
}

/// A configuration, and where each value of it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// The values in force.
    pub config: Config,
    places: BTreeMap<String, Place>,
}

impl Loaded {
    /// Where a value comes from.
    pub fn place(&self, name: &str) -> Place {
        self.places.get(name).cloned().unwrap_or_default()
    }

    /// Makes one configuration of a file, the environment's variables and the flags.
    ///
    /// # Errors
    /// Everything that is wrong with it, a line each, with its place.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: Vec<Setting>,
    ) -> Result<Self, String> {
        let (mut settings, users) = match file {
            Some(path) => file::read(path)?,
            None => file::Contents::default(),
        };
        settings.extend(of_environment(environment));
        settings.extend(flags);
        let problems: Vec<_> = settings.iter().filter_map(Setting::problem).collect();
        if !problems.is_empty() {
            return Err(problems.join("\n"));
        }
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        let mut places = BTreeMap::new();
        if let Some(users) = users {
            figment = figment.merge(Serialized::default("users", users.value));
            places.insert(users.name, users.place);
        }
        for Setting { name, value, place } in settings {
            figment = figment.merge(Serialized::default(&name, value));
            places.insert(name, place);
        }
        let config = figment.extract::<Config>().map_err(|error| error.to_string())?;
        let loaded = Self { config, places };
        let problems = check::problems(&loaded);
        if problems.is_empty() {
            Ok(loaded)
        } else {
            Err(problems.join("\n"))
        }
    }
}

/// The settings among the environment's variables.
fn of_environment(environment: impl Iterator<Item = (String, String)>) -> Vec<Setting> {
    environment
        .filter_map(|(variable, text)| {
            let name = variable
                .strip_prefix(ENVIRONMENT_PREFIX)?
                .to_ascii_lowercase()
                .replace("__", ".");
            // A variable without a section is not a setting: CORELANE_CONFIG names the file.
            if !name.contains('.') {
                return None;
            }
            let value = find(&name).map_or_else(|| Value::from(text.as_str()), |key| key.kind.read(&text));
            Some(Setting {
                name,
                value,
                place: Place::Environment(variable),
            })
        })
        .collect()
}
