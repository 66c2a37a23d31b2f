//! What an answer must be: no figure is made from an engine that answered wrongly.

use crate::error::BenchError;
use crate::workload::keys::KeyMaker;
use crate::workload::values::ValueMaker;
use crate::workload::{Expect, Op};

/// Checks what a read found.
///
/// # Errors
/// What is wrong, in words.
#[inline]
pub fn read(values: &ValueMaker, op: Op, found: Option<&[u8]>) -> Result<(), String> {
    match (found, op.expect) {
        (Some(value), Expect::Present | Expect::Either) => values.check(op.index, value).map(|_version| ()),
        (Some(_), Expect::Absent) => Err("it was never written, and is there".to_owned()),
        (None, Expect::Present) => Err("it was written, and is not there".to_owned()),
        (None, Expect::Absent | Expect::Either) => Ok(()),
    }
}

/// Names the key of a wrong answer.
pub fn at(key: &[u8], op: Op, wrong: &str) -> BenchError {
    BenchError::wrong(format!(
        "a wrong answer to a {} of key {} (index {}): {wrong}",
        op.kind.name(),
        hex(key),
        op.index
    ))
}

/// Bytes as a reader can search for them.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

/// Checks the entries of a scan: from its start on, in strictly rising key order, each the value of its key.
#[derive(Debug)]
pub struct Scan<'a> {
    keys: &'a KeyMaker,
    values: &'a ValueMaker,
    last: Vec<u8>,
    seen: u32,
    op: Op,
    wrong: Option<String>,
}

impl<'a> Scan<'a> {
    /// Of a scan from `start`.
    pub fn new(keys: &'a KeyMaker, values: &'a ValueMaker, start: &[u8], op: Op) -> Self {
        Self {
            keys,
            values,
            last: start.to_vec(),
            seen: 0,
            op,
            wrong: None,
        }
    }

    /// Checks the next entry; false ends the scan.
    pub fn visit(&mut self, key: &[u8], value: &[u8]) -> bool {
        let in_order = if self.seen == 0 {
            key >= &self.last[..]
        } else {
            key > &self.last[..]
        };
        let judged = match self.keys.index_of(key) {
            _ if !in_order => Err(format!("key {} comes after {}", hex(key), hex(&self.last))),
            _ if self.seen >= self.op.entries => {
                Err(format!("it gave more than {} entries", self.op.entries))
            }
            None => Err(format!("key {} was never made", hex(key))),
            Some(_) if self.seen == 0 && self.op.expect == Expect::Present && key != &self.last[..] => {
                Err("the first key was written, and is not there".to_owned())
            }
            Some(index) => self.values.check(index, value).map(|_version| ()),
        };
        self.seen += 1;
        self.last.clear();
        self.last.extend_from_slice(key);
        self.wrong = judged.err();
        self.wrong.is_none()
    }

    /// Where a scan that was right so far gave fewer entries than it was asked for: the last key it gave.
    pub fn ended_early(&self) -> Option<Vec<u8>> {
        let early = self.wrong.is_none() && self.seen < self.op.entries;
        early.then(|| self.last.clone())
    }

    /// Notes that there were more entries behind its end.
    pub fn is_short(&mut self) {
        self.wrong = Some(format!(
            "it gave {} of {} entries, and there are more behind {}",
            self.seen,
            self.op.entries,
            hex(&self.last)
        ));
    }

    /// What was wrong, if anything.
    ///
    /// # Errors
    /// In words.
    pub fn finish(self) -> Result<(), String> {
        match self.wrong {
            Some(wrong) => Err(wrong),
            None if self.seen == 0 && self.op.expect == Expect::Present => {
                Err("it gave nothing, not even the key it began at".to_owned())
            }
            None => Ok(()),
        }
    }
}
