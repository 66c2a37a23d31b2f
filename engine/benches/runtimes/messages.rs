//! Messages to another core and back, one batch at a time, so that the other side sleeps, looks or works in between.

use std::future::Future;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use corelane::io::mailbox::{Receiver, Sender, mailbox};
use corelane::io::runtime::Runtime;
use corelane::io::{Class, Io};

use crate::latencies::{Latencies, thread_cpu};
use crate::pinned;
use crate::{Job, run_on};

type End = (Sender<u64>, Receiver<u64>);

/// What the cores do while they wait for a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
    /// They sleep.
    Sleep,
    /// They look for this many microseconds, then sleep.
    Look(u64),
    /// They work on something else, in steps of a microsecond.
    Work,
}

/// Steps of a microsecond for as long as its core runs.
async fn work<I: Io>(io: I) {
    loop {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(1) {
            std::hint::spin_loop();
        }
        io.yield_now().await;
    }
}

struct PingPong {
    works: bool,
    ends: [Mutex<Option<End>>; 2],
    batch: u64,
    length: Duration,
    measured: Arc<Mutex<Latencies>>,
}

impl Job for PingPong {
    fn run<I: Io>(self: Arc<Self>, core: usize, io: I) -> impl Future<Output = ()> + 'static {
        let (sender, mut receiver) = self.ends[core].lock().unwrap().take().unwrap();
        let (batch, length, measured) = (self.batch, self.length, Arc::clone(&self.measured));
        if self.works {
            io.spawn(Class::Compaction, work(io.clone()));
        }
        async move {
            let mut got = Vec::new();
            if core == 1 {
                while receiver.recv_batch(&mut got, 1024).await > 0 {
                    for message in got.drain(..) {
                        sender.queue(message).unwrap();
                    }
                    sender.ring();
                }
                return;
            }
            let (cpu, start, mut each) = (thread_cpu(), Instant::now(), Vec::new());
            while start.elapsed() < length {
                let begun = Instant::now();
                for message in 0..batch {
                    sender.queue(message).unwrap();
                }
                sender.ring();
                let mut back = 0;
                while back < batch {
                    back += receiver.recv_batch(&mut got, 1024).await as u64;
                    got.clear();
                }
                each.push(begun.elapsed().as_nanos() as u32);
            }
            *measured.lock().unwrap() = Latencies {
                each,
                operations: batch as u32,
                took: start.elapsed(),
                cpu: thread_cpu() - cpu,
                ..Latencies::default()
            };
        }
    }
}

/// A batch of messages to the second core, which sends them back; for `length`. A message there and back is one operation.
pub fn there_and_back(
    runtime: Runtime,
    cores: &[usize; 2],
    meanwhile: Meanwhile,
    batch: u64,
    length: Duration,
) -> Latencies {
    let spin_us = match meanwhile {
        Meanwhile::Look(spin_us) => spin_us,
        Meanwhile::Sleep | Meanwhile::Work => 0,
    };
    let (to_second, second) = mailbox(1024);
    let (to_first, first) = mailbox(1024);
    let measured = Arc::default();
    let job = PingPong {
        works: meanwhile == Meanwhile::Work,
        ends: [
            Mutex::new(Some((to_second, first))),
            Mutex::new(Some((to_first, second))),
        ],
        batch,
        length,
        measured: Arc::clone(&measured),
    };
    run_on(runtime, cores, spin_us, job);
    std::mem::take(&mut *measured.lock().unwrap())
}

/// Two threads that write each other's eventfd and sleep in reading their own.
pub fn eventfd(length: Duration) -> Latencies {
    let eventfd = || {
        let fd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        std::fs::File::from(fd)
    };
    let (mut there, mut here) = (eventfd(), eventfd());
    let (mut wake_there, mut wake_here) = (there.try_clone().unwrap(), here.try_clone().unwrap());
    let cores = corelane::io::cores::available_cores();
    let other = pinned::on(cores[cores.len() - 1], move || {
        let mut count = [0; 8];
        loop {
            there.read_exact(&mut count).unwrap();
            if u64::from_ne_bytes(count) > 1 {
                return;
            }
            wake_here.write_all(&1_u64.to_ne_bytes()).unwrap();
        }
    });
    let measuring = pinned::on(cores[0], move || {
        let (cpu, start, mut each) = (thread_cpu(), Instant::now(), Vec::new());
        let mut count = [0; 8];
        while start.elapsed() < length {
            let begun = Instant::now();
            wake_there.write_all(&1_u64.to_ne_bytes()).unwrap();
            here.read_exact(&mut count).unwrap();
            each.push(begun.elapsed().as_nanos() as u32);
        }
        wake_there.write_all(&2_u64.to_ne_bytes()).unwrap();
        Latencies {
            each,
            took: start.elapsed(),
            cpu: thread_cpu() - cpu,
            ..Latencies::default()
        }
    });
    let measured = measuring.join().unwrap();
    other.join().unwrap();
    measured
}
