//! One port a core, in the words of the Redis Cluster protocol.
//!
//! A cluster-aware client asks once which slots are where, and then sends each key straight to the core that owns it: no
//! message travels between cores. Each core is a **node** with a port of its own; a key that came to the wrong one is
//! answered with `MOVED` and the right address. On the common port every core serves every key as ever. Nothing here
//! moves: slots belong to shards since the database was created, and shards to cores since it was opened. Pure.

use std::net::SocketAddr;
use std::ops::Range;

use corelane::api::slots::{SLOTS, slot_of};

use crate::command::{Failure, Spec};
use crate::resp::request::Arguments;

/// Bytes of a node's name, each two digits of it.
const NAME_BYTES: usize = 20;

/// One core, as clients know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name: 40 hexadecimal digits, the same as long as its address is.
    pub name: String,
    /// Where clients reach it; empty where they are to stay with the host that they reached this one by.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its slots, in ascending ranges that do not touch. None for a core without shards.
    pub slots: Vec<Range<u16>>,
}

/// Which slot is where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    nodes: Vec<Node>,
    /// The core of each slot.
    core_of: Vec<u16>,
}

impl Topology {
    /// For cores that listen at `addresses`, of which each has the slots that `ranges` gives it. Clients are told `host`
    /// where it is set, else the address, and nothing where that stands for any.
    ///
    /// # Panics
    /// Where a range names a core that does not listen.
    pub fn new(addresses: &[SocketAddr], ranges: &[(Range<u16>, usize)], host: Option<&str>) -> Self {
        let mut nodes: Vec<Node> = addresses.iter().map(|&at| node(at, host)).collect();
        let mut core_of = vec![0; usize::from(SLOTS)];
        for (range, core) in ranges {
            let number = u16::try_from(*core).expect("a database opens on at most 4,096 cores");
            core_of[usize::from(range.start)..usize::from(range.end)].fill(number);
            let slots = &mut nodes[*core].slots;
            match slots.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => slots.push(range.clone()),
            }
        }
        Self { nodes, core_of }
    }

    /// The nodes, by core.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The core that has a slot.
    pub fn core_of(&self, slot: u16) -> usize {
        usize::from(self.core_of[usize::from(slot)])
    }

    /// The answer to a key of `slot` that came to another core.
    pub fn moved(&self, slot: u16) -> Failure {
        let node = &self.nodes[self.core_of(slot)];
        Failure::moved(slot, &node.host, node.port)
    }

    /// Checks that a command which came to the port of `core` belongs there.
    ///
    /// # Errors
    /// The answer where it does not: its keys are of several slots, or of another core.
    pub fn route(&self, core: usize, spec: &Spec, arguments: Arguments<'_>) -> Result<(), Failure> {
        let mut slots = spec
            .keys
            .places(arguments.count())
            .map(|place| slot_of(arguments.at(place)));
        let Some(first) = slots.next() else {
            return Ok(());
        };
        if slots.any(|slot| slot != first) {
            return Err(Failure::CROSS_SLOT);
        }
        if self.core_of(first) == core {
            Ok(())
        } else {
            Err(self.moved(first))
        }
    }
}

fn node(address: SocketAddr, host: Option<&str>) -> Node {
    let any = address.ip().is_unspecified();
    let host = match host {
        Some(host) => host.to_owned(),
        None if any => String::new(),
        None => address.ip().to_string(),
    };
    let port = address.port();
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{host}:{port}").as_bytes());
    let name = digest.as_ref()[..NAME_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Node {
        name,
        host,
        port,
        slots: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table;

    fn two() -> Topology {
        let addresses = [7000, 7001].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let ranges = [
            (0..4096, 0),
            (4096..8192, 1),
            (8192..12_288, 1),
            (12_288..16_384, 0),
        ];
        Topology::new(&addresses, &ranges, None)
    }

    fn route(core: usize, words: &[&str]) -> Result<(), String> {
        let text = words.concat();
        let mut end = 0;
        let ranges: Vec<_> = words
            .iter()
            .map(|word| {
                end += word.len();
                (end - word.len(), end)
            })
            .collect();
        let spec = table::find(words[0].as_bytes()).unwrap();
        let routed = two().route(core, spec, Arguments::new(text.as_bytes(), &ranges));
        routed.map_err(|failure| failure.0.into_owned())
    }

    #[test]
    fn neighbouring_ranges_of_a_core_are_one_and_names_differ() {
        let nodes = two().nodes().to_vec();
        assert_eq!(nodes[0].slots, [0..4096, 12_288..16_384]);
        assert_eq!(
            (nodes[1].slots.len(), nodes[1].slots[0].clone()),
            (1, 4096..12_288)
        );
        assert_ne!(nodes[0].name, nodes[1].name);
        assert_eq!((nodes[0].name.len(), nodes[0].host.as_str()), (40, "127.0.0.1"));
        assert_eq!(two(), two(), "names stay");
    }

    #[test]
    fn clients_are_told_the_host_that_was_set_and_none_for_any_address() {
        let any = [SocketAddr::from(([0, 0, 0, 0], 7000))];
        let host = |host| {
            Topology::new(&any, &[(0..16_384, 0)], host).nodes()[0]
                .host
                .clone()
        };
        assert_eq!(
            (host(None), host(Some("db.lan"))),
            (String::new(), "db.lan".to_owned())
        );
    }

    #[test]
    fn a_command_belongs_to_the_core_of_its_one_slot() {
        // foo is of slot 12182, bar of 5061, both in the ranges of core 1; a is of slot 15495.
        assert_eq!(route(1, &["get", "foo"]), Ok(()));
        assert_eq!(
            route(0, &["get", "foo"]),
            Err("MOVED 12182 127.0.0.1:7001".to_owned())
        );
        assert_eq!(
            route(1, &["get", "a"]),
            Err("MOVED 15495 127.0.0.1:7000".to_owned())
        );
        assert_eq!(route(1, &["mget", "{foo}1", "{foo}2"]), Ok(()));
        let crossed = "CROSSSLOT Keys in request don't hash to the same slot".to_owned();
        assert_eq!(
            route(1, &["mget", "foo", "bar"]),
            Err(crossed.clone()),
            "one core, two slots"
        );
        assert_eq!(route(0, &["mset", "foo", "1", "a", "2"]), Err(crossed));
        assert_eq!((route(0, &["ping"]), route(1, &["dbsize"])), (Ok(()), Ok(())));
    }
}
