//! A batch: several writes that take effect together.
//!
//! It can only be built through its own methods, which keep every limit and the encoding: what arrives at a shard as a
//! `Batch` needs no second look before it is staged and logged.

use crate::codec::batch;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{EXPIRY_BYTES, MAX_BATCH_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// Several puts and deletes applied atomically, in order; a later one on the same key wins. All keys must belong to one
/// shard: give them one `{hash tag}`.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    encoded: Vec<u8>,
    len: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] for a key over 64 KiB, a value over 64 MiB, or a batch over 72 MiB.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<&mut Self> {
        check_value(value)?;
        self.admit(key, value.len())?;
        batch::push_put(&mut self.encoded, key, value);
        Ok(self)
    }

    /// Sets `key` to `value` up to `expires_ms`, in ms since the Unix epoch; one that has passed leaves the key absent.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`], as for [`Batch::put`].
    pub fn put_until(&mut self, key: &[u8], value: &[u8], expires_ms: u64) -> Result<&mut Self> {
        check_value(value)?;
        self.admit(key, value.len() + EXPIRY_BYTES)?;
        batch::push_put_until(&mut self.encoded, key, value, expires_ms);
        Ok(self)
    }

    /// Removes `key`.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`], as for [`Batch::put`].
    pub fn delete(&mut self, key: &[u8]) -> Result<&mut Self> {
        self.admit(key, 0)?;
        batch::push_tombstone(&mut self.encoded, key);
        Ok(self)
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        batch::ops(&self.encoded).flatten().map(|op| op.key)
    }

    /// The encoding that is staged and logged.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    fn admit(&mut self, key: &[u8], value_bytes: usize) -> Result<()> {
        check_key(key)?;
        let grown = self.encoded.len() + key.len() + value_bytes + 32;
        if grown > MAX_BATCH_BYTES {
            return Err(too_large("batch", grown, MAX_BATCH_BYTES));
        }
        self.len += 1;
        Ok(())
    }
}

/// Refuses a key over the limit.
///
/// # Errors
/// [`ErrorKind::TooLarge`].
pub fn check_key(key: &[u8]) -> Result<()> {
    if key.len() > MAX_KEY_BYTES {
        Err(too_large("key", key.len(), MAX_KEY_BYTES))
    } else {
        Ok(())
    }
}

/// Refuses a value over the limit.
///
/// # Errors
/// [`ErrorKind::TooLarge`].
pub fn check_value(value: &[u8]) -> Result<()> {
    if value.len() > MAX_VALUE_BYTES {
        Err(too_large("value", value.len(), MAX_VALUE_BYTES))
    } else {
        Ok(())
    }
}

fn too_large(what: &str, bytes: usize, limit: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("checking a {what}"),
        format!("it has {bytes} bytes; the limit is {limit}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_inclusive() {
        let mut batch = Batch::new();
        assert!(
            batch
                .put(&vec![0; MAX_KEY_BYTES], &vec![0; MAX_VALUE_BYTES])
                .is_ok()
        );
        assert_eq!(
            batch.put(&vec![0; MAX_KEY_BYTES + 1], b"").unwrap_err().kind(),
            ErrorKind::TooLarge
        );
        assert_eq!(
            batch.delete(&vec![0; MAX_KEY_BYTES + 1]).unwrap_err().kind(),
            ErrorKind::TooLarge
        );
        let long = vec![0; MAX_VALUE_BYTES + 1];
        assert_eq!(
            Batch::new().put(b"k", &long).unwrap_err().kind(),
            ErrorKind::TooLarge
        );
        assert_eq!(
            batch.put(b"k", &long[..MAX_VALUE_BYTES]).unwrap_err().kind(),
            ErrorKind::TooLarge
        );
        assert_eq!(batch.len(), 1, "a refused operation leaves the batch as it was");
    }
}
