//! Numbered nodes that never move: growing never copies what is there, so no insert pays for all before it.

/// Nodes allocated at a time.
const PAGE_NODES: usize = 16;

/// A growing array of nodes, in pages of [`PAGE_NODES`].
#[derive(Debug)]
pub(super) struct Pool<T> {
    pages: Vec<Vec<T>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Pool<T> {
    /// Adds a node and says its number; numbers count from 0.
    pub(super) fn push(&mut self, node: T) -> u32 {
        if self.pages.last().is_none_or(|page| page.len() == PAGE_NODES) {
            self.pages.push(Vec::with_capacity(PAGE_NODES));
        }
        let page = self.pages.len() - 1;
        self.pages[page].push(node);
        let number = page * PAGE_NODES + self.pages[page].len() - 1;
        u32::try_from(number).expect("there are fewer nodes than 32-bit addresses of records")
    }

    /// How many nodes there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> u32 {
        let count = self.used_bytes() / size_of::<T>();
        u32::try_from(count).expect("numbers of nodes have 32 bits")
    }

    /// Bytes of the nodes there are, without what the last page has room for yet.
    pub(super) fn used_bytes(&self) -> usize {
        let last = self.pages.last().map_or(0, Vec::len);
        (self.pages.len().saturating_sub(1) * PAGE_NODES + last) * size_of::<T>()
    }

    /// Memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.pages.len() * PAGE_NODES * size_of::<T>() + self.pages.capacity() * size_of::<Vec<T>>()
    }
}

impl<T> std::ops::Index<u32> for Pool<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        let number = number as usize;
        &self.pages[number / PAGE_NODES][number % PAGE_NODES]
    }
}

impl<T> std::ops::IndexMut<u32> for Pool<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        let number = number as usize;
        &mut self.pages[number / PAGE_NODES][number % PAGE_NODES]
    }
}
