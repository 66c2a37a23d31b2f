//! Which runtime carries the cores: the choice, and why it was made.

use std::fmt;
use std::str::FromStr;

use super::uring;

/// What a database may be asked to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Runtime {
    /// Ours where the kernel has what it needs, else glommio.
    #[default]
    Auto,
    /// Ours, on the `io-uring` crate: Linux 5.19.
    Uring,
    /// glommio: Linux 5.8.
    Glommio,
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Glommio => "glommio",
        })
    }
}

impl FromStr for Runtime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Auto, Self::Uring, Self::Glommio]
            .into_iter()
            .find(|runtime| runtime.to_string() == text)
            .ok_or_else(|| format!("there is no runtime {text:?}; it is auto, uring or glommio"))
    }
}

/// What a database runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The runtime; never [`Runtime::Auto`].
    pub runtime: Runtime,
    /// Why, in words.
    pub why: String,
}

impl Runtime {
    /// Decides. Only [`Runtime::Auto`] looks at the kernel, by making a ring and giving it back.
    pub fn choose(self) -> Choice {
        if self == Self::Auto {
            return judge(uring::probe());
        }
        Choice {
            runtime: self,
            why: "it was asked for".to_owned(),
        }
    }
}

/// The choice by what was found.
fn judge(found: std::io::Result<uring::Ability>) -> Choice {
    match found {
        Ok(ability) => Choice {
            runtime: Runtime::Uring,
            why: format!("the kernel has what it needs ({ability})"),
        },
        Err(error) => Choice {
            runtime: Runtime::Glommio,
            why: format!("the uring runtime cannot start here: {error}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_read_as_it_is_written() {
        for runtime in [Runtime::Auto, Runtime::Uring, Runtime::Glommio] {
            assert_eq!(runtime.to_string().parse(), Ok(runtime));
        }
        assert!(
            "tokio"
                .parse::<Runtime>()
                .unwrap_err()
                .contains("auto, uring or glommio")
        );
    }

    #[test]
    fn auto_takes_ours_where_it_can_and_says_why_not() {
        let refused = std::io::Error::from_raw_os_error(libc::EPERM);
        let choice = judge(Err(refused));
        assert_eq!(choice.runtime, Runtime::Glommio);
        assert!(choice.why.contains("not permitted"), "{choice:?}");
        let choice = Runtime::Auto.choose();
        assert_ne!(choice.runtime, Runtime::Auto);
        assert!(!choice.why.is_empty());
        assert_eq!(Runtime::Uring.choose().runtime, Runtime::Uring);
    }
}
