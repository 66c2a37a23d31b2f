//! `LATENCY`: how long commands take, as histograms. The monitor of single events that Redis has beside it is not there:
//! its subcommands answer as a Redis does whose monitor is off.

use super::subcommand::{Container, keyless};
use super::table::{ADMIN, spec};
use super::{Action, Call, Failure, Keys, Spec, table};
use crate::resp::{Protocol, reply};
use crate::telemetry::CommandTotals;

/// The commands of this file.
pub static COMMANDS: &[Spec] = &[spec(
    "latency",
    -2,
    ADMIN,
    Keys::NONE,
    "server",
    "Shows how long commands take.",
    latency,
)];

/// `LATENCY` and its parts.
pub const CONTAINER: Container = Container {
    name: "latency",
    subcommands: &[
        keyless(
            ADMIN,
            "doctor",
            2,
            "DOCTOR",
            "Says where to look for slowness.",
            doctor,
        ),
        keyless(
            ADMIN,
            "graph",
            3,
            "GRAPH <event>",
            "Has no events to draw.",
            graph,
        ),
        keyless(
            ADMIN,
            "history",
            3,
            "HISTORY <event>",
            "Has no events to list.",
            none,
        ),
        keyless(ADMIN, "latest", 2, "LATEST", "Has no events to list.", none),
        keyless(
            ADMIN,
            "reset",
            -2,
            "RESET [<event> ...]",
            "Has no events to forget.",
            reset,
        ),
        keyless(
            ADMIN,
            "histogram",
            -2,
            "HISTOGRAM [<command> ...]",
            "Returns how many calls took up to 1, 2, 4, ... microseconds, from arrival to answer.",
            histogram,
        ),
    ],
};

/// `LATENCY subcommand`.
pub fn latency(call: &mut Call<'_>) -> Result<Action, Failure> {
    CONTAINER.run(call)
}

fn doctor(call: &mut Call<'_>) -> Result<Action, Failure> {
    let text = "This server records no latency events. LATENCY HISTOGRAM shows how long each command takes, SLOWLOG GET \
                which took longest, and INFO corelane what delays the writes of each shard.\n";
    reply::verbatim(call.out, text, call.session.protocol);
    Ok(Action::Replied)
}

fn graph(call: &mut Call<'_>) -> Result<Action, Failure> {
    let event = String::from_utf8_lossy(call.arguments.at(2));
    Err(Failure::err(format_args!(
        "No samples available for event '{event}'"
    )))
}

fn none(call: &mut Call<'_>) -> Result<Action, Failure> {
    reply::array(call.out, 0);
    Ok(Action::Replied)
}

fn reset(call: &mut Call<'_>) -> Result<Action, Failure> {
    reply::integer(call.out, 0);
    Ok(Action::Replied)
}

/// Commands that nobody called are left out, as are names that no command has.
fn histogram(call: &mut Call<'_>) -> Result<Action, Failure> {
    let totals = call.server.telemetry().since_reset();
    let all = table::ALL.iter().zip(&totals.by_command);
    let wanted = |name: &str| {
        call.arguments.count() == 2
            || call
                .arguments
                .from(2)
                .any(|asked| asked.eq_ignore_ascii_case(name.as_bytes()))
    };
    let shown: Vec<_> = all
        .filter(|(spec, total)| {
            call.server.telemetry().shows_latencies() && total.calls > 0 && wanted(spec.name)
        })
        .collect();
    let protocol = call.session.protocol;
    reply::map(call.out, shown.len(), protocol);
    for (spec, total) in shown {
        reply::bulk(call.out, spec.name.as_bytes());
        distribution(call.out, total, protocol);
    }
    Ok(Action::Replied)
}

/// The powers of two at which the count grows, each with the count up to it.
fn distribution(out: &mut Vec<u8>, total: &CommandTotals, protocol: Protocol) {
    let integer = |out: &mut Vec<u8>, n: u64| reply::integer(out, i64::try_from(n).unwrap_or(i64::MAX));
    let mut steps = Vec::new();
    let mut before = 0;
    for (bound_us, count) in total.latencies.cumulative() {
        if count > before {
            steps.push((bound_us, count));
            before = count;
        }
    }
    reply::map(out, 2, protocol);
    reply::bulk(out, b"calls");
    integer(out, total.calls);
    reply::bulk(out, b"histogram_usec");
    reply::map(out, steps.len(), protocol);
    for (bound_us, count) in steps {
        integer(out, bound_us);
        integer(out, count);
    }
}
