//! `[server]`: where the data plane listens and on which cores it runs.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use corelane::api;
use serde::{Deserialize, Serialize};

/// What carries the cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// The best that the kernel offers.
    #[default]
    Auto,
    /// The engine's own runtime over `io_uring`.
    Uring,
    /// glommio.
    Glommio,
}

impl From<Runtime> for api::Runtime {
    fn from(runtime: Runtime) -> Self {
        match runtime {
            Runtime::Auto => Self::Auto,
            Runtime::Uring => Self::Uring,
            Runtime::Glommio => Self::Glommio,
        }
    }
}

/// Where the server listens for Redis clients, and what runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// The address.
    pub bind: IpAddr,
    /// The port; 0 lets the kernel choose.
    pub port: u16,
    /// The cores to run on, such as `0-1` or `0,2-3`; all that the process may use where it is not set.
    pub cores: Option<String>,
    /// What carries the cores.
    pub runtime: Runtime,
    /// How long, in microseconds, a core without work looks for messages of others before it sleeps; 0 for not at all.
    pub spin_us: u64,
    /// Whether an address beyond this machine is refused as long as there are no users.
    pub protected_mode: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            bind: Ipv4Addr::LOCALHOST.into(),
            port: 7379,
            cores: None,
            runtime: Runtime::default(),
            spin_us: 20,
            protected_mode: true,
        }
    }
}

impl Server {
    /// Address and port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.port)
    }

    /// How long a core without work looks for messages of others before it sleeps.
    pub fn spin(&self) -> Duration {
        Duration::from_micros(self.spin_us)
    }

    /// The cores named, each once, ascending; `None` where none are.
    ///
    /// # Errors
    /// Which part of the list is no core and no range of them.
    pub fn core_list(&self) -> Result<Option<Vec<usize>>, String> {
        self.cores.as_deref().map(parse_cores).transpose()
    }
}

/// Most cores that a list may name: more than any machine has, few enough to hold.
const MAX_CORES: usize = 4096;

/// The cores of a list such as `0-1` or `0,2-3`, each once, ascending.
fn parse_cores(list: &str) -> Result<Vec<usize>, String> {
    let bad = |part: &str| format!("{part:?} is neither a core's number nor a range such as 0-3");
    let mut cores = BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&core| core < MAX_CORES);
        let (first, last) = number(first).zip(number(last)).ok_or_else(|| bad(part))?;
        if first > last {
            return Err(bad(part));
        }
        cores.extend(first..=last);
    }
    Ok(cores.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists_are_ranges_and_numbers() {
        assert_eq!(parse_cores("0"), Ok(vec![0]));
        assert_eq!(parse_cores("2-3,0,3"), Ok(vec![0, 2, 3]));
        for list in ["", "a", "1-", "-1", "3-1", "0,,1", "99999999", "0-99999999999"] {
            assert!(parse_cores(list).is_err(), "{list:?}");
        }
    }
}
