//! What a send and a connect are given: a batch of buffers with the vectors that name them, and a socket address.

use std::net::SocketAddr;
use std::ptr;

use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::Fd;

/// Vectors that one send may have, by the kernel's limit (`UIO_MAXIOV`).
const MAX_VECTORS: usize = 1024;

/// Bytes that one send names: the kernel copies them while it takes the entry, and does nothing else meanwhile.
pub(super) const ENTRY_BYTES: usize = 128 * 1024;

/// No signal when the peer is gone; and the kernel goes on by itself after a part.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

#[expect(clippy::cast_possible_truncation, reason = "families are small numbers")]
const INET: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;
#[expect(clippy::cast_possible_truncation, reason = "families are small numbers")]
const INET6: libc::sa_family_t = libc::AF_INET6 as libc::sa_family_t;

/// A batch on its way out, and how much of it has gone.
pub(super) struct Message {
    batch: Vec<Vec<u8>>,
    /// The first buffer that is not sent whole, and how much of it is.
    next: usize,
    offset: usize,
    /// What the last entry names, kept for the kernel to read; nothing where that was one buffer, as it nearly always is.
    named: Option<Box<Named>>,
}

/// Several buffers, as the kernel reads them.
struct Named {
    vectors: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl Named {
    fn new(vectors: Vec<libc::iovec>) -> Box<Self> {
        let mut this = Box::new(Self {
            vectors,
            header: libc::msghdr {
                msg_name: ptr::null_mut(),
                msg_namelen: 0,
                msg_iov: ptr::null_mut(),
                msg_iovlen: 0,
                msg_control: ptr::null_mut(),
                msg_controllen: 0,
                msg_flags: 0,
            },
        });
        this.header.msg_iov = this.vectors.as_mut_ptr();
        this.header.msg_iovlen = this.vectors.len() as _;
        this
    }
}

impl Message {
    /// The whole batch, to be sent in order.
    pub(super) fn new(batch: Vec<Vec<u8>>) -> Self {
        let mut this = Self {
            batch,
            next: 0,
            offset: 0,
            named: None,
        };
        this.skip_what_is_sent();
        this
    }

    /// Whether nothing is left to send.
    pub(super) fn is_sent(&self) -> bool {
        self.next == self.batch.len()
    }

    /// So many more bytes have gone.
    pub(super) fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let buffer = self.batch.get(self.next).expect("no more is sent than there was");
            let step = bytes.min(buffer.len() - self.offset);
            self.offset += step;
            bytes -= step;
            self.skip_what_is_sent();
        }
    }

    /// The batch as it came.
    pub(super) fn into_batch(self) -> Vec<Vec<u8>> {
        self.batch
    }

    fn skip_what_is_sent(&mut self) {
        while self.batch.get(self.next).is_some_and(|b| b.len() == self.offset) {
            self.next += 1;
            self.offset = 0;
        }
    }

    /// What is left, as far as one send takes it; empty buffers are left out.
    fn left(&self) -> impl Iterator<Item = &[u8]> {
        let first = self.batch.get(self.next).map(|buffer| &buffer[self.offset..]);
        let others = self.batch.iter().skip(self.next + 1).map(Vec::as_slice);
        let left = first.into_iter().chain(others);
        let left = left.filter(|buffer| !buffer.is_empty()).take(MAX_VECTORS);
        let mut room = ENTRY_BYTES;
        left.map_while(move |buffer| {
            let (part, _later) = buffer.split_at(buffer.len().min(room));
            room -= part.len();
            (!part.is_empty()).then_some(part)
        })
    }

    /// What the next entry names where that is of one buffer, as it nearly always is: the last, or as long as an entry may be.
    fn of_one(&self) -> Option<&[u8]> {
        let left = &self.batch.get(self.next)?[self.offset..];
        let alone = self.next + 1 == self.batch.len() || left.len() >= ENTRY_BYTES;
        alone.then(|| &left[..left.len().min(ENTRY_BYTES)])
    }

    /// Bytes that the next entry names.
    pub(super) fn entry_bytes(&self) -> usize {
        let one = self.of_one().map(<[u8]>::len);
        one.unwrap_or_else(|| self.left().map(<[u8]>::len).sum())
    }

    /// The kernel's entry that sends what is left.
    pub(super) fn entry(&mut self, fd: Fd) -> Entry {
        if let Some(one) = self.of_one() {
            let bytes = u32::try_from(one.len()).expect("an entry names few bytes");
            return opcode::Send::new(fd, one.as_ptr(), bytes)
                .flags(SEND_FLAGS)
                .build();
        }
        let vectors = self.left().map(|buffer| libc::iovec {
            iov_base: buffer.as_ptr().cast_mut().cast(),
            iov_len: buffer.len(),
        });
        let named = Named::new(vectors.collect());
        let send = opcode::SendMsg::new(fd, ptr::from_ref(&named.header));
        self.named = Some(named);
        send.flags(SEND_FLAGS.unsigned_abs()).build()
    }
}

/// A socket address as the kernel reads it.
pub(super) struct Address(Box<Family>);

enum Family {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl Address {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self(Box::new(match address {
            SocketAddr::V4(v4) => Family::V4(libc::sockaddr_in {
                sin_family: INET,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(v6) => Family::V6(libc::sockaddr_in6 {
                sin6_family: INET6,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo().to_be(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            }),
        }))
    }

    /// Where it is.
    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        match &*self.0 {
            Family::V4(v4) => ptr::from_ref(v4).cast(),
            Family::V6(v6) => ptr::from_ref(v6).cast(),
        }
    }

    /// How long it is.
    pub(super) fn bytes(&self) -> libc::socklen_t {
        let bytes = match &*self.0 {
            Family::V4(v4) => size_of_val(v4),
            Family::V6(v6) => size_of_val(v6),
        };
        libc::socklen_t::try_from(bytes).expect("a few bytes")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_goes_at_once_each_byte_goes_once_and_in_order(
            batch in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..40),
            steps in prop::collection::vec(1_usize..30, 1..20),
        ) {
            let all = batch.concat();
            let mut message = Message::new(batch.clone());
            let (mut sent, mut steps) = (Vec::new(), steps.into_iter().cycle());
            while !message.is_sent() {
                let left: Vec<u8> = message.left().flatten().copied().collect();
                prop_assert!(!left.is_empty(), "there is something to send as long as it is not sent");
                prop_assert_eq!(message.entry_bytes(), left.len());
                if let Some(one) = message.of_one() {
                    prop_assert_eq!(one, left.as_slice());
                }
                let step = steps.next().expect("it cycles").min(left.len());
                sent.extend_from_slice(&left[..step]);
                message.advance(step);
            }
            prop_assert_eq!(sent, all);
            prop_assert_eq!(message.into_batch(), batch);
        }
    }

    #[test]
    fn one_send_names_no_more_buffers_than_the_kernel_takes() {
        let mut message = Message::new(vec![vec![1]; MAX_VECTORS + 10]);
        let _entry = message.entry(Fd(0));
        assert_eq!(named(&message), Some(MAX_VECTORS));
        message.advance(MAX_VECTORS);
        let _entry = message.entry(Fd(0));
        assert_eq!(named(&message), Some(10));
        message.advance(9);
        message.named = None;
        let _entry = message.entry(Fd(0));
        assert_eq!(named(&message), None, "one buffer needs no vectors");
    }

    #[test]
    fn one_send_names_so_many_bytes_and_the_next_goes_on() {
        let batch = vec![vec![1; ENTRY_BYTES - 1], vec![2; 2 * ENTRY_BYTES], vec![3]];
        let all: usize = batch.iter().map(Vec::len).sum();
        let (mut message, mut sizes) = (Message::new(batch), Vec::new());
        while !message.is_sent() {
            sizes.push(message.entry_bytes());
            message.advance(message.entry_bytes());
        }
        assert_eq!(sizes, [ENTRY_BYTES, ENTRY_BYTES, all - 2 * ENTRY_BYTES]);
    }

    fn named(message: &Message) -> Option<usize> {
        message.named.as_ref().map(|named| named.vectors.len())
    }
}
