//! Sends over loopback from a plain ring, copied into the kernel or not (`IORING_OP_SEND_ZC`): what the runtime's choice to
//! copy rests on. Loopback is where a zero-copy send gains least, for the kernel copies then all the same; a network card's
//! figures are for whoever has one.
#![allow(unsafe_code, reason = "the kernel is given raw buffers")]

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use corelane::io::cores::available_cores;
use io_uring::{IoUring, cqueue, opcode, types};

use crate::latencies::{Latencies, thread_cpu};
use crate::pinned;

/// Whether the kernel copies what it is given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Send {
    Copied,
    ZeroCopy,
}

/// Sends `bytes` at a time, one after the other, for `length`, from the first core to a thread on the last that reads them.
pub fn sends(how: Send, bytes: usize, length: Duration) -> Latencies {
    let cores = available_cores();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let reading = pinned::on(cores[cores.len() - 1], move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut into = vec![0; 1 << 20];
        while stream.read(&mut into).unwrap() > 0 {}
    });
    let sending = pinned::on(cores[0], move || send_for(address, how, bytes, length));
    let sent = sending.join().unwrap();
    reading.join().unwrap();
    sent
}

fn send_for(address: std::net::SocketAddr, how: Send, bytes: usize, length: Duration) -> Latencies {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(8)
        .unwrap();
    let (buffer, mut each) = (vec![7_u8; bytes], Vec::new());
    let (fd, pointer, count) = (types::Fd(stream.as_raw_fd()), buffer.as_ptr(), bytes as u32);
    let (cpu, start) = (thread_cpu(), Instant::now());
    while start.elapsed() < length {
        let begun = Instant::now();
        let entry = match how {
            Send::Copied => opcode::Send::new(fd, pointer, count)
                .flags(libc::MSG_WAITALL)
                .build(),
            Send::ZeroCopy => opcode::SendZc::new(fd, pointer, count)
                .flags(libc::MSG_WAITALL)
                .build(),
        };
        // SAFETY: socket and buffer live until the loop has ended, and each turn of it waits until the kernel has done with them.
        unsafe { ring.submission().push(&entry) }.unwrap();
        wait_until_done(&mut ring, bytes);
        each.push(begun.elapsed().as_nanos() as u32);
    }
    Latencies {
        each,
        took: start.elapsed(),
        cpu: thread_cpu() - cpu,
        ..Latencies::default()
    }
}

/// Waits for a send's last completion: a zero-copy one tells first that it was sent, and then that its buffer is free.
fn wait_until_done(ring: &mut IoUring, bytes: usize) {
    loop {
        ring.submit_and_wait(1).unwrap();
        for completion in ring.completion() {
            if !cqueue::notif(completion.flags()) {
                assert_eq!(completion.result(), bytes as i32);
            }
            if !cqueue::more(completion.flags()) {
                return;
            }
        }
    }
}
