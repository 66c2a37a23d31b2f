//! What is asked of the kernel, with everything that it is given the address of.
//!
//! An [`Operation`] owns its buffer, its paths, its vectors, its socket address. It lies in a slot from when it is queued
//! until its last completion (`slots.rs`), whoever waits for it or does not: so the kernel never holds an address in memory
//! that somebody could free. [`Operation::entry`] makes the kernel's entry of it; what the entry points to lies behind a
//! pointer of the operation's, and stays in place when the operation itself is moved.

use std::ffi::CString;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::null_mut;
use std::rc::Rc;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, types};

use super::buffers::RECV_BYTES;
use super::completion::Sink;
use super::descriptor::Descriptor;
use super::memory::Buf;
use super::message::{Address, Message};
use super::socket::Socket;

/// The number of the ring of receive buffers among those registered with one ring.
pub(super) const RECV_GROUP: u16 = 0;

/// The number of the arena among the registered buffers of one ring.
const ARENA: u16 = 0;

/// Something for the kernel to do.
pub(super) enum Operation {
    /// Fills the buffer from a file's bytes at `position` on.
    Read {
        /// The file.
        file: Rc<Descriptor>,
        /// What is filled.
        buf: Buf,
        /// Where in the file.
        position: u64,
    },
    /// Writes the buffer.
    Write {
        /// The file.
        file: Rc<Descriptor>,
        /// What is written.
        buf: Buf,
        /// Where in the file.
        position: u64,
    },
    /// Makes a file's completed writes durable.
    SyncData(Rc<Descriptor>),
    /// Makes a directory's names durable.
    SyncDir(Rc<Descriptor>),
    /// Reserves room for a file's first bytes.
    Allocate(Rc<Descriptor>, u64),
    /// Opens a file; yields a descriptor.
    Open {
        /// Its name.
        path: CString,
        /// As in `open(2)`.
        flags: i32,
    },
    /// Renames the first to the second.
    Rename(CString, CString),
    /// Removes a file's name.
    Remove(CString),
    /// Makes a directory.
    CreateDir(CString),
    /// Closes a file, on a thread of the kernel's: the last close of a removed file frees its blocks.
    CloseFile(RawFd),
    /// Closes a socket.
    CloseSocket(RawFd),
    /// Connects a socket.
    Connect(Rc<Socket>, Address),
    /// Sends what is left of a message.
    Send(Rc<Socket>, Message),
    /// Ends both directions of a connection.
    Shutdown(Rc<Socket>),
    /// Receives once, into memory of its own.
    Receive {
        /// The socket.
        socket: RawFd,
        /// What is filled.
        buffer: Vec<u8>,
        /// Who is told.
        sink: Rc<dyn Sink>,
    },
    /// Completes many times, but for those that say otherwise.
    Stream {
        /// What it waits for.
        what: Stream,
        /// On which descriptor.
        fd: RawFd,
        /// Who is told.
        sink: Rc<dyn Sink>,
    },
    /// Ends another operation, named by its user data, early.
    Cancel(u64),
}

/// What an [`Operation::Stream`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// A connection, once; it yields a descriptor.
    Accept,
    /// Bytes; each yields a buffer of the ring.
    Receive,
    /// Bytes, once; they yield a buffer of the ring.
    ReceiveOnce,
    /// That there is something to read.
    Readable,
}

impl Operation {
    /// The kernel's entry for it, without user data.
    ///
    /// It holds addresses of what this operation owns, so the operation must be kept as it is until the last completion.
    pub(super) fn entry(&mut self) -> Entry {
        match self {
            Self::Read { file, buf, position } => {
                let (fd, flags) = file.target();
                let bytes = transfer_bytes(buf);
                let entry = if buf.is_registered() {
                    let read = opcode::ReadFixed::new(fd, buf.address(), bytes, ARENA);
                    read.offset(*position).build()
                } else {
                    opcode::Read::new(fd, buf.address(), bytes)
                        .offset(*position)
                        .build()
                };
                entry.flags(flags)
            }
            Self::Write { file, buf, position } => {
                let (fd, flags) = file.target();
                let bytes = transfer_bytes(buf);
                let entry = if buf.is_registered() {
                    let write = opcode::WriteFixed::new(fd, buf.address(), bytes, ARENA);
                    write.offset(*position).build()
                } else {
                    opcode::Write::new(fd, buf.address(), bytes)
                        .offset(*position)
                        .build()
                };
                entry.flags(flags)
            }
            Self::SyncData(file) => {
                let (fd, flags) = file.target();
                let sync = opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC);
                sync.build().flags(flags)
            }
            Self::SyncDir(dir) => {
                let (fd, flags) = dir.target();
                opcode::Fsync::new(fd).build().flags(flags)
            }
            Self::Allocate(file, bytes) => {
                let (fd, flags) = file.target();
                opcode::Fallocate::new(fd, *bytes).build().flags(flags)
            }
            Self::CloseFile(fd) => opcode::Close::new(Fd(*fd)).build().flags(Flags::ASYNC),
            _ => self.entry_of_name_or_socket(),
        }
    }

    fn entry_of_name_or_socket(&mut self) -> Entry {
        let here = Fd(libc::AT_FDCWD);
        match self {
            Self::Open { path, flags } => opcode::OpenAt::new(here, path.as_ptr())
                .flags(*flags)
                .mode(0o644)
                .build(),
            Self::Rename(from, to) => opcode::RenameAt::new(here, from.as_ptr(), here, to.as_ptr()).build(),
            Self::Remove(path) => opcode::UnlinkAt::new(here, path.as_ptr()).build(),
            // As mkdir(1) does: who may what is for the umask to say.
            Self::CreateDir(path) => opcode::MkDirAt::new(here, path.as_ptr()).mode(0o777).build(),
            Self::CloseSocket(fd) => opcode::Close::new(Fd(*fd)).build(),
            Self::Connect(socket, address) => {
                opcode::Connect::new(Fd(socket.as_raw_fd()), address.as_ptr(), address.bytes()).build()
            }
            Self::Send(socket, message) => message.entry(Fd(socket.as_raw_fd())),
            Self::Shutdown(socket) => opcode::Shutdown::new(Fd(socket.as_raw_fd()), libc::SHUT_RDWR).build(),
            Self::Receive { socket, buffer, .. } => {
                #[expect(clippy::cast_possible_truncation, reason = "32 KiB at most")]
                let bytes = buffer.len().min(RECV_BYTES) as u32;
                opcode::Recv::new(Fd(*socket), buffer.as_mut_ptr(), bytes).build()
            }
            Self::Stream { what, fd, .. } => match what {
                Stream::Accept => opcode::Accept::new(Fd(*fd), null_mut(), null_mut())
                    .flags(libc::SOCK_CLOEXEC)
                    .build(),
                Stream::Receive => opcode::RecvMulti::new(Fd(*fd), RECV_GROUP).build(),
                // As long as its buffer.
                Stream::ReceiveOnce => opcode::Recv::new(Fd(*fd), null_mut(), 0)
                    .buf_group(RECV_GROUP)
                    .build()
                    .flags(Flags::BUFFER_SELECT),
                Stream::Readable => {
                    let readable = u32::from(libc::POLLIN.unsigned_abs());
                    opcode::PollAdd::new(Fd(*fd), readable).multi(true).build()
                }
            },
            Self::Cancel(target) => {
                opcode::AsyncCancel2::new(types::CancelBuilder::user_data(*target)).build()
            }
            _ => unreachable!("`entry` has made the entries of files"),
        }
    }

    /// Who is told of its completions, where it is not a future that waits.
    pub(super) fn sink(&self) -> Option<&Rc<dyn Sink>> {
        match self {
            Self::Receive { sink, .. } | Self::Stream { sink, .. } => Some(sink),
            _ => None,
        }
    }

    /// Whether it waits for somebody else, for as long as that takes. What only the device or the kernel is asked for is
    /// never cancelled: it ends by itself, and whoever begun it may count on it.
    pub(super) fn waits_for_others(&self) -> bool {
        matches!(
            self,
            Self::Connect(..) | Self::Send(..) | Self::Receive { .. } | Self::Stream { .. }
        )
    }

    /// Whether it asks the device for something that others may have to wait for.
    pub(super) fn loads_device(&self) -> bool {
        matches!(
            self,
            Self::Read { .. }
                | Self::Write { .. }
                | Self::SyncData(_)
                | Self::SyncDir(_)
                | Self::Allocate(..)
        )
    }

    /// Bytes that its entry has the kernel send, or transfer to or from a file.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Send(_, message) => message.entry_bytes(),
            Self::Read { buf, .. } | Self::Write { buf, .. } => buf.len(),
            _ => 0,
        }
    }

    /// Whether a completion's result is a descriptor.
    pub(super) fn opens(&self) -> bool {
        let accept = Stream::Accept;
        matches!(self, Self::Open { .. }) || matches!(self, Self::Stream { what, .. } if *what == accept)
    }
}

/// How much is transferred at once. No part of a transfer needs to be cut off for the device's sake: the block layer splits
/// what is too long, and without polling it completes when the last part has.
fn transfer_bytes(buf: &Buf) -> u32 {
    u32::try_from(buf.len()).expect("the file refuses transfers over 1 GiB")
}
