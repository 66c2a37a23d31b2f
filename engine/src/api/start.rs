//! Starts a database's seats on a real runtime, one pinned thread a core.
//!
//! Nothing here depends on the type of the service: what a service is to do on a core is boxed once, when the database opens.
//! So the engine is compiled for each runtime in this crate, once, and not anew with every service that somebody writes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use super::core::{Core, Service};
use super::launch::{CoreSeat, Launch};
use crate::io::Io;
use crate::io::cores::{CoreThread, StartOptions};
use crate::io::glommio::{GlommioIo, start_told as start_on_glommio};
use crate::io::runtime::Runtime;
use crate::io::uring::{UringIo, start_told as start_on_uring};

/// What a service does on one core.
pub(super) type Serving<I> = Box<dyn FnOnce(Core<I>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// The part of `service` on one core.
pub(super) fn serving<I: Io, S: Service>(service: S) -> Serving<I> {
    Box::new(move |core| Box::pin(service.run(core)))
}

/// A core's seat and what is served there.
type Part<I> = (CoreSeat, Serving<I>);

/// The parts of all cores, until their threads take them.
struct Parts<I: Io>(Mutex<Vec<Option<Part<I>>>>);

impl<I: Io> Parts<I> {
    fn new<S: Service>(seats: Vec<CoreSeat>, service: &S) -> Self {
        let part = |seat| Some((seat, serving(service.clone())));
        Self(Mutex::new(seats.into_iter().map(part).collect()))
    }

    fn take(&self, core: usize) -> Part<I> {
        let part = self.0.lock().unwrap_or_else(PoisonError::into_inner)[core].take();
        part.expect("each core is started once")
    }
}

/// Starts each seat on its core of `cores`, with `service` beside it. A core's part of the lock is given back when the core
/// has ended: its seat is done, its tasks were dropped, and the device is done with what they had begun.
///
/// # Errors
/// That a core could not be started; none is left running then.
pub(super) fn start<S: Service>(
    runtime: Runtime,
    cores: &[usize],
    options: StartOptions,
    mut seats: Vec<CoreSeat>,
    service: &S,
) -> io::Result<Vec<CoreThread>> {
    let Some(launch) = seats.first().map(CoreSeat::launch) else {
        return Ok(Vec::new());
    };
    for seat in &mut seats {
        seat.leave_lock();
    }
    match runtime {
        Runtime::Uring => on_uring(cores, options, Parts::new(seats, service), launch),
        Runtime::Glommio | Runtime::Auto => on_glommio(cores, options, Parts::new(seats, service), launch),
    }
}

fn on_uring(
    cores: &[usize],
    options: StartOptions,
    parts: Parts<UringIo>,
    launch: Arc<Launch>,
) -> io::Result<Vec<CoreThread>> {
    let main = move |core, io| {
        let (seat, serving) = parts.take(core);
        seat.run_serving(io, serving)
    };
    let ended = move |core, settled| launch.core_ended(core, settled);
    start_on_uring(cores, options, main, ended)
}

fn on_glommio(
    cores: &[usize],
    options: StartOptions,
    parts: Parts<GlommioIo>,
    launch: Arc<Launch>,
) -> io::Result<Vec<CoreThread>> {
    let main = move |core, io| {
        let (seat, serving) = parts.take(core);
        seat.run_serving(io, serving)
    };
    let ended = move |core, settled| launch.core_ended(core, settled);
    start_on_glommio(cores, options, main, ended)
}
