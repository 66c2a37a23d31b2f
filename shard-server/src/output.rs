//! The answers of one connection on their way to its socket.
//!
//! Small answers gather in one buffer. A large value that the engine handed over is queued as it is, without a copy;
//! the send takes the whole list.

use crate::resp::reply;

/// From this length on a value is worth a buffer of its own, in bytes.
const OWN_BUFFER_BYTES: usize = 16 * 1024;

/// A buffer up to this capacity is kept for the next answers, in bytes.
const KEPT_BYTES: usize = 512 * 1024;

/// A list of up to so many buffers is kept for the next answers: one that has never held more is of this length.
const KEPT_LIST: usize = 4;

/// Answers, in order.
#[derive(Debug, Default)]
pub struct Output {
    full: Vec<Vec<u8>>,
    full_bytes: usize,
    tail: Vec<u8>,
}

impl Output {
    /// Where the next answer is appended.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends bytes without a copy where they are many.
    pub fn push(&mut self, bytes: Vec<u8>) {
        if bytes.len() < OWN_BUFFER_BYTES {
            self.tail.extend_from_slice(&bytes);
            return;
        }
        let tail = std::mem::take(&mut self.tail);
        self.full_bytes += tail.len() + bytes.len();
        self.full.extend([tail, bytes]);
    }

    /// Appends a bulk answer, its value without a copy where it is long.
    pub fn bulk(&mut self, value: Vec<u8>) {
        reply::bulk_start(&mut self.tail, value.len());
        self.push(value);
        self.tail.extend_from_slice(b"\r\n");
    }

    /// Appends all of another's answers.
    pub fn append(&mut self, other: Self) {
        for bytes in other.full {
            self.push(bytes);
        }
        self.push(other.tail);
    }

    /// How many bytes wait.
    pub fn bytes(&self) -> usize {
        self.full_bytes + self.tail.len()
    }

    /// What waits, to be sent.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        let mut batch = std::mem::take(&mut self.full);
        if !self.tail.is_empty() {
            batch.push(std::mem::take(&mut self.tail));
        }
        batch.retain(|bytes| !bytes.is_empty());
        self.full_bytes = 0;
        batch
    }

    /// Takes buffers back after a send and keeps the largest of sensible size, and their list if it is short.
    pub fn recycle(&mut self, mut batch: Vec<Vec<u8>>) {
        for mut bytes in batch.drain(..) {
            if bytes.capacity() <= KEPT_BYTES
                && bytes.capacity() > self.tail.capacity()
                && self.tail.is_empty()
            {
                bytes.clear();
                self.tail = bytes;
            }
        }
        if self.full.is_empty() && batch.capacity() <= KEPT_LIST {
            self.full = batch;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_answers_keep_their_order() {
        let mut output = Output::default();
        output.tail().extend_from_slice(b"a");
        output.push(vec![b'b'; OWN_BUFFER_BYTES]);
        output.push(b"c".to_vec());
        let mut other = Output::default();
        other.push(vec![b'd'; OWN_BUFFER_BYTES]);
        other.tail().push(b'e');
        output.append(other);
        assert_eq!(output.bytes(), 2 * OWN_BUFFER_BYTES + 3);
        let batch = output.take();
        let all = batch.concat();
        assert_eq!(all.len(), 2 * OWN_BUFFER_BYTES + 3);
        assert_eq!(
            (all[0], all[1], all[OWN_BUFFER_BYTES + 1], *all.last().unwrap()),
            (b'a', b'b', b'c', b'e')
        );
        assert_eq!((output.bytes(), output.take().len()), (0, 0));
        output.recycle(batch);
        assert_eq!(output.bytes(), 0, "a kept buffer is empty");
        assert!(output.tail().capacity() >= OWN_BUFFER_BYTES);
    }

    #[test]
    fn a_short_list_is_kept_from_one_send_to_the_next_and_a_long_one_is_not() {
        let mut output = Output::default();
        let mut sent = |bytes: usize| {
            output.tail().extend(vec![1; bytes]);
            for _ in 0..bytes / OWN_BUFFER_BYTES {
                output.push(vec![2; OWN_BUFFER_BYTES]);
            }
            let batch = output.take();
            let (list, buffers) = (batch.as_ptr(), batch.len());
            output.recycle(batch);
            assert_eq!(output.bytes(), 0);
            (list, buffers, output.full.capacity())
        };
        let (list, ..) = sent(1);
        assert_eq!(sent(1).0, list, "it is the same");
        let (_, buffers, kept) = sent(10 * OWN_BUFFER_BYTES);
        assert!(
            buffers > KEPT_LIST && kept <= KEPT_LIST,
            "{buffers} buffers, {kept} kept"
        );
    }
}
