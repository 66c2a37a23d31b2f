//! What a command on keys sees and does: its keys as the shard holds them, and over them what it has changed.
//!
//! A view is made of the looks at the keys of one command, or of all commands of a transaction, on the core that owns
//! them. It is pure: changes are only recorded, later commands of the transaction see them, and in the end they become
//! one [`Decision`] or one [`Batch`], in key order. A key that nothing was done to is not written; one that was set and removed
//! again is, because whoever watches it must learn of it.
//!
//! Invariants: the keys are sorted and each is there once; a key that is not among them is never asked for, because the
//! table says where a command's keys are.

use std::cell::Cell;

use corelane::api::{Batch, Decision, Found};

use super::Failure;

/// A key that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its value.
    pub value: &'a [u8],
    /// When it ends, in ms since the Unix epoch; `None` for never.
    pub expires_ms: Option<u64>,
}

/// What has become of a key.
#[derive(Debug)]
enum Change {
    Put { value: Vec<u8>, expires_ms: Option<u64> },
    Removed,
}

/// The keys of a command, and what it has done to them.
#[derive(Debug)]
pub struct View<'a> {
    keys: &'a [&'a [u8]],
    found: &'a [Found<'a>],
    /// One for each key once the first was changed.
    changes: Vec<Option<Change>>,
    hits: Cell<u64>,
    misses: Cell<u64>,
    looked_bytes: Cell<usize>,
    written_bytes: usize,
    /// Bytes of values that may still be answered; once something did not fit, what it takes.
    answer_room: Cell<Result<usize, usize>>,
}

impl<'a> View<'a> {
    /// A view of `keys`, sorted and each once, of which the shard holds `found`, in the same order.
    ///
    /// # Panics
    /// Where the two differ in length.
    pub fn new(keys: &'a [&'a [u8]], found: &'a [Found<'a>]) -> Self {
        assert_eq!(keys.len(), found.len(), "one look for each key");
        debug_assert!(keys.is_sorted_by(|a, b| a < b), "sorted, each once");
        Self {
            keys,
            found,
            changes: Vec::new(),
            hits: Cell::default(),
            misses: Cell::default(),
            looked_bytes: Cell::default(),
            written_bytes: 0,
            answer_room: Cell::new(Ok(usize::MAX)),
        }
    }

    /// From here on values of `bytes` bytes may be answered; as many as it takes where this is never said.
    pub fn set_answer_room(&mut self, bytes: usize) {
        self.answer_room.set(Ok(bytes));
    }

    /// Takes room for a value of `bytes` bytes, to be asked before it is copied into the answer.
    ///
    /// # Errors
    /// There is not so much left.
    pub fn take_room(&self, bytes: usize) -> Result<(), Failure> {
        let left = self.answer_room.get();
        let left = left.and_then(|room| room.checked_sub(bytes).ok_or(bytes));
        self.answer_room.set(left);
        left.map(|_| ()).map_err(|_| Failure::ANSWER_TOO_LONG)
    }

    /// Bytes of the first value to be answered that did not fit.
    pub fn refused_bytes(&self) -> Option<usize> {
        self.answer_room.get().err()
    }

    /// The shard's time, in ms since the Unix epoch: what has ended by it is not there.
    pub fn now_ms(&self) -> u64 {
        self.found.first().map_or(0, |found| found.now_ms)
    }

    /// What is there under `key`.
    pub fn get(&self, key: &[u8]) -> Option<Item<'_>> {
        let item = self.peek(self.place(key));
        let counter = if item.is_some() { &self.hits } else { &self.misses };
        counter.set(counter.get() + 1);
        let bytes = item.map_or(0, |item| item.value.len());
        self.looked_bytes
            .set(self.looked_bytes.get().saturating_add(bytes));
        item
    }

    fn peek(&self, place: usize) -> Option<Item<'_>> {
        match self.changes.get(place).and_then(Option::as_ref) {
            Some(Change::Removed) => None,
            Some(Change::Put { value, expires_ms }) => Some(Item {
                value,
                expires_ms: *expires_ms,
            }),
            None => self.found[place].value.map(|value| Item {
                value,
                expires_ms: self.found[place].expires_ms,
            }),
        }
    }

    /// Sets `key` to `value` up to `expires_ms` (since the Unix epoch; `None` for ever). Where that is over already, the
    /// key is removed.
    pub fn put(&mut self, key: &[u8], value: Vec<u8>, expires_ms: Option<u64>) {
        if expires_ms.is_some_and(|at| at < self.now_ms()) {
            self.remove(key);
        } else {
            self.change(self.place(key), Some(Change::Put { value, expires_ms }));
        }
    }

    /// Removes `key`; nothing happens where it is not there.
    pub fn remove(&mut self, key: &[u8]) {
        let place = self.place(key);
        let was_there = self.found[place].value.is_some();
        let was_changed = self.changes.get(place).is_some_and(Option::is_some);
        self.change(place, (was_there || was_changed).then_some(Change::Removed));
    }

    /// Lets `change` change the value of `key`, an empty one where there is none, where it lies; its end stays as it is.
    /// So a transaction that changes a long value many times copies it once.
    pub fn edit<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let place = self.place(key);
        if !matches!(self.changes.get(place), Some(Some(Change::Put { .. }))) {
            let item = self.peek(place);
            let copy = Change::Put {
                value: item.map_or_else(Vec::new, |item| item.value.to_vec()),
                expires_ms: item.and_then(|item| item.expires_ms),
            };
            self.change(place, Some(copy));
        }
        let Some(Some(Change::Put { value, .. })) = self.changes.get_mut(place) else {
            unreachable!("it was put right above");
        };
        let before = value.len();
        let result = change(value);
        self.written_bytes = self.written_bytes - before + value.len();
        result
    }

    /// Gives `key`, which is there, another end; `None` for never.
    pub fn set_expiry(&mut self, key: &[u8], expires_ms: Option<u64>) {
        let value = self.edit(key, std::mem::take);
        self.put(key, value, expires_ms);
    }

    fn change(&mut self, place: usize, change: Option<Change>) {
        if self.changes.is_empty() {
            self.changes.resize_with(self.keys.len(), || None);
        }
        let bytes = |change: &Option<Change>| match change {
            Some(Change::Put { value, .. }) => value.len(),
            Some(Change::Removed) | None => 0,
        };
        self.written_bytes = self.written_bytes - bytes(&self.changes[place]) + bytes(&change);
        self.changes[place] = change;
    }

    fn place(&self, key: &[u8]) -> usize {
        self.keys
            .binary_search(&key)
            .expect("a command asks for the keys that the table says it has")
    }

    /// How many looks found their key, and how many did not.
    pub fn lookups(&self) -> (u64, u64) {
        (self.hits.get(), self.misses.get())
    }

    /// Bytes of the values looked at, one looked at twice counting twice: a measure of the work.
    pub fn looked_bytes(&self) -> usize {
        self.looked_bytes.get()
    }

    /// Bytes of the values that are to be written.
    pub fn written_bytes(&self) -> usize {
        self.written_bytes
    }

    /// What is to be done to the only key of this view.
    ///
    /// # Panics
    /// Where there is not exactly one.
    pub fn into_decision(mut self) -> Decision {
        assert_eq!(self.keys.len(), 1, "a decision is about one key");
        match self.changes.pop().flatten() {
            None => Decision::Keep,
            Some(Change::Removed) => Decision::Delete,
            Some(Change::Put {
                value,
                expires_ms: None,
            }) => Decision::Put(value),
            Some(Change::Put {
                value,
                expires_ms: Some(at),
            }) => Decision::PutUntil(value, at),
        }
    }

    /// What is to be written, in key order.
    ///
    /// # Errors
    /// It is more than the engine takes at once.
    pub fn into_batch(self) -> Result<Batch, Failure> {
        let mut batch = Batch::new();
        for (key, change) in self.keys.iter().zip(&self.changes) {
            match change {
                None => continue,
                Some(Change::Removed) => batch.delete(key)?,
                Some(Change::Put {
                    value,
                    expires_ms: None,
                }) => batch.put(key, value)?,
                Some(Change::Put {
                    value,
                    expires_ms: Some(at),
                }) => batch.put_until(key, value, *at)?,
            };
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const NOW_MS: u64 = 1000;

    fn absent() -> Found<'static> {
        Found {
            value: None,
            expires_ms: None,
            version: 0,
            now_ms: NOW_MS,
        }
    }

    fn present(value: &[u8], expires_ms: Option<u64>) -> Found<'_> {
        Found {
            value: Some(value),
            expires_ms,
            ..absent()
        }
    }

    #[test]
    fn a_key_that_nothing_was_done_to_is_kept() {
        let keys: [&[u8]; 1] = [b"k"];
        let there = [present(b"v", Some(5000))];
        assert_eq!(View::new(&keys, &there).into_decision(), Decision::Keep);
        let not_there = [absent()];
        let mut view = View::new(&keys, &not_there);
        view.remove(b"k");
        assert_eq!(view.into_decision(), Decision::Keep);
    }

    /// A transaction that set an absent key and removed it again wrote nothing, so that the key's version stayed the same and
    /// another client's WATCH missed it: its EXEC went through, where Redis answers null.
    #[test]
    fn a_key_that_was_set_and_removed_again_is_written_so_that_its_watchers_learn_of_it() {
        let keys: [&[u8]; 1] = [b"k"];
        let not_there = [absent()];
        let mut view = View::new(&keys, &not_there);
        view.put(b"k", b"v".to_vec(), None);
        view.remove(b"k");
        assert_eq!(view.get(b"k"), None);
        assert_eq!(view.into_decision(), Decision::Delete);
    }

    #[test]
    fn what_is_put_up_to_a_time_in_the_past_is_removed() {
        let keys: [&[u8]; 1] = [b"k"];
        let there = [present(b"v", None)];
        let mut view = View::new(&keys, &there);
        view.put(b"k", b"w".to_vec(), Some(NOW_MS - 1));
        assert_eq!(view.get(b"k"), None);
        assert_eq!(view.into_decision(), Decision::Delete);
    }

    #[test]
    fn an_edit_keeps_the_end_and_a_new_end_keeps_the_value() {
        let keys: [&[u8]; 1] = [b"k"];
        let there = [present(b"v", Some(5000))];
        let mut view = View::new(&keys, &there);
        view.edit(b"k", |value| value.push(b'w'));
        view.set_expiry(b"k", Some(6000));
        view.edit(b"k", |value| value.push(b'x'));
        assert_eq!(view.written_bytes(), 3);
        assert_eq!(view.into_decision(), Decision::PutUntil(b"vwx".to_vec(), 6000));
    }

    /// What can be done to one of the keys.
    #[derive(Debug, Clone)]
    enum Deed {
        Put(usize, u8, Option<u64>),
        Remove(usize),
        Edit(usize, u8),
        Expire(usize, Option<u64>),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let end = || prop_oneof![Just(None), Just(Some(5)), Just(Some(NOW_MS)), Just(Some(9000))];
        prop_oneof![
            (0..4_usize, any::<u8>(), end()).prop_map(|(key, value, end)| Deed::Put(key, value, end)),
            (0..4_usize).prop_map(Deed::Remove),
            (0..4_usize, any::<u8>()).prop_map(|(key, value)| Deed::Edit(key, value)),
            (0..4_usize, end()).prop_map(|(key, end)| Deed::Expire(key, end)),
        ]
    }

    type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

    fn apply(deed: &Deed, keys: &[&[u8]], view: &mut View<'_>, model: &mut Model) {
        match deed {
            Deed::Put(key, value, end) => {
                view.put(keys[*key], vec![*value], *end);
                model.insert(keys[*key].to_vec(), (vec![*value], *end));
            }
            Deed::Remove(key) => {
                view.remove(keys[*key]);
                model.remove(keys[*key]);
            }
            Deed::Edit(key, value) => {
                view.edit(keys[*key], |bytes| bytes.push(*value));
                model.entry(keys[*key].to_vec()).or_default().0.push(*value);
            }
            Deed::Expire(key, end) if model.contains_key(keys[*key]) => {
                view.set_expiry(keys[*key], *end);
                if let Some(item) = model.get_mut(keys[*key]) {
                    item.1 = *end;
                }
            }
            Deed::Expire(..) => {}
        }
        model.retain(|_, (_, end)| end.is_none_or(|at| at >= NOW_MS));
    }

    proptest! {
        #[test]
        fn a_view_behaves_as_a_map_and_its_batch_makes_the_map(
            deeds in proptest::collection::vec(deed(), 0..20),
        ) {
            let keys: [&[u8]; 4] = [b"", b"a", b"ab", b"b"];
            let found = [absent(), present(b"1", None), present(b"2", Some(7000)), absent()];
            let mut model = Model::new();
            model.insert(b"a".to_vec(), (b"1".to_vec(), None));
            model.insert(b"ab".to_vec(), (b"2".to_vec(), Some(7000)));
            let mut stored = model.clone();
            let mut view = View::new(&keys, &found);
            for deed in &deeds {
                apply(deed, &keys, &mut view, &mut model);
                for key in keys {
                    let seen = view.get(key).map(|item| (item.value.to_vec(), item.expires_ms));
                    prop_assert_eq!(seen.as_ref(), model.get(key));
                }
            }
            crate::testing::apply_batch(&view.into_batch().unwrap(), |key, put| match put {
                Some(item) => { stored.insert(key.to_vec(), item); }
                None => { stored.remove(key); }
            });
            prop_assert_eq!(stored, model);
        }
    }
}
