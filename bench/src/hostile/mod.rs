//! What hostile clients cost the polite ones: response times of a fixed, moderate load, first alone, then beside each kind
//! of harm in turn.
//!
//! ```text
//! kinds     which harm there is, and what the server needs for it     (pure)
//! bytes     what they send                                            (pure)
//! clients   the hostile process: connects and sends until told to end
//! house     servers and hostile processes, each on its cores
//! polite    the measured load: `load`'s open loop over kept connections
//! figures   ratios, medians, the table                                (pure)
//! command   all kinds in turn, rounds of them
//! ```
//!
//! **Whose fault a wait is.** On a machine of two cores the server has one, and polite and hostile clients share the other.
//! That they wait for each other there must not look like the server's fault, so three things are done:
//!
//! - Polite clients have their core before everybody else (`SCHED_FIFO`, where the kernel allows it: as root), and hostile
//!   ones are a process of their own of the policy `SCHED_IDLE`, so that a polite client that wakes has the core at once.
//!   Hostile ones still use all that is left of it, about as much as the server has. The server keeps the usual policy.
//!   On a machine with other work they get next to nothing, and the figures say little: run it on a quiet one.
//! - Each kind has a *control*: the same hostile process does its harm to a second server, which ranks as it does and
//!   sits with it on the clients' cores, while the polite ones are measured against the first, which nobody harms. What
//!   the control shows beyond the times alone is the clients' cores, the device and the memory bus; it is more than the
//!   share of that in the figure, because there both ends of each hostile connection work on the clients' cores. The
//!   second server slows the hostile process, too: the table tells how many connections and commands each got through.
//! - `busy` is no harm: four honest clients that read what they ask for, as fast as they can. It shows what any busy
//!   neighbour on a server of one core costs, so that what hostility adds can be told.
//!
//! Times run from the intended start, which a stall cannot hide from. Alone is measured before and after each kind, on the
//! same server; the ratio is to both together, and how far the two lie apart is told: where that is much, another program
//! was on the machine, and the ratio says nothing. The connections of polite clients are made once and kept: whether new
//! ones get in meanwhile is another question (a storm of wrong passwords keeps them waiting at the door).

pub mod bytes;
pub mod clients;
pub mod command;
pub mod figures;
pub mod house;
pub mod kinds;
pub mod polite;
