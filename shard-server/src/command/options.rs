//! The options of `SET` and `GETEX`, and the times they name: which go together, and what is said where they do not.
//!
//! ```text
//! SET   key value [NX | XX] [GET] [KEEPTTL | time]
//! GETEX key [PERSIST | time]
//! time := EX seconds | PX milliseconds | EXAT unix-seconds | PXAT unix-milliseconds
//! ```
//!
//! As in Redis an option may be given twice, and of two times of the same kind the last one counts.

use super::Failure;
use crate::resp::number::parse_i64;
use crate::resp::request::Arguments;

/// When `SET` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Whatever is there.
    #[default]
    Always,
    /// Where the key is not there.
    IfAbsent,
    /// Where it is.
    IfPresent,
}

/// Which command's options are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grammar {
    /// `SET`.
    Set,
    /// `GETEX`.
    GetEx,
}

/// How a time is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clause {
    /// In seconds rather than milliseconds.
    pub seconds: bool,
    /// Since the Unix epoch rather than from now.
    pub absolute: bool,
}

impl Clause {
    /// The same unit since the Unix epoch.
    pub const fn absolute(self) -> Self {
        Self {
            absolute: true,
            ..self
        }
    }
}

/// So many seconds from now.
pub const SECONDS: Clause = Clause {
    seconds: true,
    absolute: false,
};

/// So many milliseconds from now.
pub const MILLISECONDS: Clause = Clause {
    seconds: false,
    absolute: false,
};

/// A time as the client told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time<'a> {
    /// How it is told.
    pub clause: Clause,
    /// The number.
    pub text: &'a [u8],
}

impl Time<'_> {
    /// The moment in ms since the Unix epoch, by the clock at `now_ms`.
    ///
    /// # Errors
    /// It is no integer, not above zero, or further away than 64 bits reach; `command` is named then.
    pub fn resolve(&self, now_ms: u64, command: &str) -> Result<u64, Failure> {
        let n = parse_i64(self.text).ok_or(Failure::NOT_AN_INTEGER)?;
        if n <= 0 {
            return Err(Failure::expire_time(command));
        }
        let moment = moment_ms(n, self.clause, now_ms).ok_or_else(|| Failure::expire_time(command))?;
        u64::try_from(moment).map_err(|_| Failure::expire_time(command))
    }
}

/// The moment that `n` tells, in ms since the Unix epoch; `None` where that is beyond 64 bits.
pub fn moment_ms(n: i64, clause: Clause, now_ms: u64) -> Option<i64> {
    let ms = if clause.seconds { n.checked_mul(1000)? } else { n };
    if clause.absolute {
        Some(ms)
    } else {
        ms.checked_add(i64::try_from(now_ms).ok()?)
    }
}

/// What the options ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options<'a> {
    /// When to write.
    pub condition: Condition,
    /// Answer with what was there before.
    pub previous: bool,
    /// Leave the end as it is.
    pub keep: bool,
    /// Take the end away.
    pub persist: bool,
    /// The new end.
    pub time: Option<Time<'a>>,
}

impl<'a> Options<'a> {
    /// Reads the arguments from `start` on.
    ///
    /// # Errors
    /// An option that is not one, or does not go with another.
    pub fn parse(arguments: Arguments<'a>, start: usize, grammar: Grammar) -> Result<Self, Failure> {
        let mut options = Self::default();
        let mut place = start;
        while let Some(option) = arguments.get(place) {
            let next = arguments.get(place + 1);
            place += 1;
            if let Some(clause) = clause(option) {
                let text = next.ok_or(Failure::SYNTAX)?;
                let another = options.time.is_some_and(|time| time.clause != clause);
                if another || options.keep || options.persist {
                    return Err(Failure::SYNTAX);
                }
                options.time = Some(Time { clause, text });
                place += 1;
            } else if !options.set(option, grammar) {
                return Err(Failure::SYNTAX);
            }
        }
        Ok(options)
    }

    /// Takes an option without a value; `false` where it is none, or does not go with the others.
    fn set(&mut self, option: &[u8], grammar: Grammar) -> bool {
        let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
        match grammar {
            Grammar::GetEx => {
                self.persist = is("PERSIST") && self.time.is_none();
                self.persist
            }
            Grammar::Set if is("NX") || is("XX") => {
                let wanted = if is("NX") {
                    Condition::IfAbsent
                } else {
                    Condition::IfPresent
                };
                let fits = self.condition == Condition::Always || self.condition == wanted;
                self.condition = wanted;
                fits
            }
            Grammar::Set if is("GET") => {
                self.previous = true;
                true
            }
            Grammar::Set => {
                self.keep = is("KEEPTTL") && self.time.is_none();
                self.keep
            }
        }
    }
}

/// The kind of time that an option names.
fn clause(option: &[u8]) -> Option<Clause> {
    let (seconds, absolute) = match option.to_ascii_uppercase().as_slice() {
        b"EX" => (true, false),
        b"PX" => (false, false),
        b"EXAT" => (true, true),
        b"PXAT" => (false, true),
        _ => return None,
    };
    Some(Clause { seconds, absolute })
}
