//! `CLUSTER` and its relatives: which core has which slots, in the form of Redis 7.0.
//!
//! What would change the cluster is refused: slots belong to shards since the database was created. Counting the keys of
//! a slot is refused too: keys are kept in the order of their bytes, so that it would walk all of them.

use std::fmt::Write as _;

use corelane::api::slots::{SLOTS, slot_of};

use super::table::spec;
use super::{Action, Call, Failure, Keys, Spec, takes};
use crate::cluster::{Node, Topology};
use crate::resp::reply;

const CLUSTER_FLAGS: &[&str] = &["stale"];
const SWITCH_FLAGS: &[&str] = &["loading", "stale", "fast"];

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[
    spec(
        "asking",
        1,
        &["fast"],
        Keys::NONE,
        "cluster",
        "Accepted; no slot moves here.",
        accepted,
    ),
    spec(
        "cluster",
        -2,
        CLUSTER_FLAGS,
        Keys::NONE,
        "cluster",
        "Tells which core has which slots.",
        cluster,
    ),
    spec(
        "readonly",
        1,
        SWITCH_FLAGS,
        Keys::NONE,
        "cluster",
        "Accepted; there are no replicas.",
        accepted,
    ),
    spec(
        "readwrite",
        1,
        SWITCH_FLAGS,
        Keys::NONE,
        "cluster",
        "Accepted; there are no replicas.",
        accepted,
    ),
];

/// Subcommands that change a cluster, or tell of what there is not.
const REFUSED: &[&str] = &[
    "addslots",
    "addslotsrange",
    "bumpepoch",
    "count-failure-reports",
    "countkeysinslot",
    "delslots",
    "delslotsrange",
    "failover",
    "flushslots",
    "forget",
    "getkeysinslot",
    "links",
    "meet",
    "replicas",
    "replicate",
    "reset",
    "saveconfig",
    "set-config-epoch",
    "setslot",
    "slaves",
];

/// What `CLUSTER HELP` answers.
const HELP: &[&str] = &[
    "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "INFO",
    "    How the cluster is.",
    "KEYSLOT <key>",
    "    The slot of a key.",
    "MYID",
    "    The name of the core that serves this connection.",
    "NODES",
    "    One line for each core.",
    "SHARDS",
    "    The slots of each core.",
    "SLOTS",
    "    The core of each range of slots.",
    "HELP",
    "    Prints this help.",
];

/// The topology, where there is one.
fn topology<'a>(call: &Call<'a>) -> Result<&'a Topology, Failure> {
    if !call.server.is_cluster() {
        return Err(Failure::CLUSTER_OFF);
    }
    // Only while the last of the cores begins to listen.
    call.server.topology().ok_or(Failure::CLUSTER_DOWN)
}

/// `READONLY`, `READWRITE`, `ASKING`.
pub fn accepted(call: &mut Call<'_>) -> Result<Action, Failure> {
    topology(call)?;
    reply::simple(call.out, "OK");
    Ok(Action::Replied)
}

type Subcommand = fn(&mut Call<'_>, &Topology) -> Result<(), Failure>;

/// `CLUSTER HELP|INFO|KEYSLOT|MYID|NODES|SHARDS|SLOTS`.
pub fn cluster(call: &mut Call<'_>) -> Result<Action, Failure> {
    let subcommand = call.arguments.at(1).to_ascii_lowercase();
    let name = String::from_utf8_lossy(&subcommand).into_owned();
    let (arity, run): (i32, Subcommand) = match name.as_str() {
        "help" => (2, help),
        "info" => (2, info),
        "keyslot" => (3, key_slot),
        "myid" => (2, my_id),
        "nodes" => (2, nodes),
        "shards" => (2, shards),
        "slots" => (2, slots),
        refused if REFUSED.contains(&refused) => (-2, refuse),
        _ => return Err(Failure::unknown_subcommand("cluster", call.arguments.at(1))),
    };
    if !takes(arity, call.arguments.count()) {
        return Err(Failure::arity(&format!("cluster|{name}")));
    }
    let topology = topology(call)?;
    run(call, topology)?;
    Ok(Action::Replied)
}

fn help(call: &mut Call<'_>, _: &Topology) -> Result<(), Failure> {
    reply::array(call.out, HELP.len());
    HELP.iter().for_each(|line| reply::simple(call.out, line));
    Ok(())
}

fn refuse(call: &mut Call<'_>, _: &Topology) -> Result<(), Failure> {
    let name = String::from_utf8_lossy(call.arguments.at(1)).to_uppercase();
    Err(Failure::err(format_args!(
        "CLUSTER {name} is not supported: each slot belongs to a shard since the database was created, each shard to one \
         core, and there are no replicas"
    )))
}

fn key_slot(call: &mut Call<'_>, _: &Topology) -> Result<(), Failure> {
    reply::integer(call.out, i64::from(slot_of(call.arguments.at(2))));
    Ok(())
}

fn my_id(call: &mut Call<'_>, topology: &Topology) -> Result<(), Failure> {
    let node = &topology.nodes()[call.session.client.core];
    reply::bulk(call.out, node.name.as_bytes());
    Ok(())
}

fn info(call: &mut Call<'_>, topology: &Topology) -> Result<(), Failure> {
    let known = topology.nodes().len();
    let with_slots = topology
        .nodes()
        .iter()
        .filter(|node| !node.slots.is_empty())
        .count();
    let text = format!(
        "cluster_state:ok\r\ncluster_slots_assigned:{SLOTS}\r\ncluster_slots_ok:{SLOTS}\r\ncluster_slots_pfail:0\r\n\
         cluster_slots_fail:0\r\ncluster_known_nodes:{known}\r\ncluster_size:{with_slots}\r\n\
         cluster_current_epoch:1\r\ncluster_my_epoch:1\r\ncluster_stats_messages_sent:0\r\n\
         cluster_stats_messages_received:0\r\ntotal_cluster_links_buffer_limit_exceeded:0\r\n"
    );
    reply::verbatim(call.out, &text, call.session.protocol);
    Ok(())
}

/// One line a node: name, address and bus port (there is no bus: 0), flags, master, pings, epoch, link, slots.
fn nodes(call: &mut Call<'_>, topology: &Topology) -> Result<(), Failure> {
    let mut text = String::new();
    for (core, node) in topology.nodes().iter().enumerate() {
        let myself = if core == call.session.client.core {
            "myself,"
        } else {
            ""
        };
        let Node { name, host, port, .. } = node;
        let mut wrote = write!(text, "{name} {host}:{port}@0 {myself}master - 0 0 1 connected");
        for range in &node.slots {
            wrote = wrote.and_then(|()| match range.end - range.start {
                1 => write!(text, " {}", range.start),
                _ => write!(text, " {}-{}", range.start, range.end - 1),
            });
        }
        wrote.expect("writing to a string does not fail");
        text.push('\n');
    }
    reply::verbatim(call.out, &text, call.session.protocol);
    Ok(())
}

/// Ranges in ascending order, each with its one node: host, port, name, and no more about it.
fn slots(call: &mut Call<'_>, topology: &Topology) -> Result<(), Failure> {
    let mut ranges: Vec<_> = topology
        .nodes()
        .iter()
        .flat_map(|node| node.slots.iter().map(move |range| (range, node)))
        .collect();
    ranges.sort_unstable_by_key(|(range, _)| range.start);
    reply::array(call.out, ranges.len());
    for (range, node) in ranges {
        reply::array(call.out, 3);
        reply::integer(call.out, i64::from(range.start));
        reply::integer(call.out, i64::from(range.end - 1));
        reply::array(call.out, 4);
        reply::bulk(call.out, node.host.as_bytes());
        reply::integer(call.out, i64::from(node.port));
        reply::bulk(call.out, node.name.as_bytes());
        reply::map(call.out, 0, call.session.protocol);
    }
    Ok(())
}

fn shards(call: &mut Call<'_>, topology: &Topology) -> Result<(), Failure> {
    let (out, protocol) = (&mut *call.out, call.session.protocol);
    reply::array(out, topology.nodes().len());
    for node in topology.nodes() {
        reply::map(out, 2, protocol);
        reply::bulk(out, b"slots");
        reply::array(out, node.slots.len() * 2);
        for range in &node.slots {
            reply::integer(out, i64::from(range.start));
            reply::integer(out, i64::from(range.end - 1));
        }
        reply::bulk(out, b"nodes");
        reply::array(out, 1);
        reply::map(out, 7, protocol);
        reply::text_entry(out, "id", &node.name);
        reply::number_entry(out, "port", i64::from(node.port));
        reply::text_entry(out, "ip", &node.host);
        reply::text_entry(out, "endpoint", &node.host);
        reply::text_entry(out, "role", "master");
        reply::number_entry(out, "replication-offset", 0);
        reply::text_entry(out, "health", "online");
    }
    Ok(())
}
