//! Errors that were answered, by their code: the first word of their text. Pure.

/// How many errors of each code were answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Errors([u64; Self::CODES.len()]);

impl Errors {
    /// The codes that are counted apart. The list is fixed, so that no client can make it grow; the first one stands for
    /// any other.
    pub const CODES: [&str; 21] = [
        "OTHER",
        "ASK",
        "BUSYKEY",
        "CLUSTERDOWN",
        "CROSSSLOT",
        "DENIED",
        "ERR",
        "EXECABORT",
        "MISCONF",
        "MOVED",
        "NOAUTH",
        "NOPERM",
        "NOPROTO",
        "NOREPLICAS",
        "NOSCRIPT",
        "NOTBUSY",
        "READONLY",
        "TRYAGAIN",
        "UNKILLABLE",
        "WRONGPASS",
        "WRONGTYPE",
    ];

    /// Counts an error by its text, which starts with its code.
    pub fn note(&mut self, text: &str) {
        let code = text.split(' ').next().unwrap_or_default();
        let place = Self::CODES.binary_search_by(|known| {
            // The first code stands for others, and sorts before all.
            if *known == Self::CODES[0] {
                std::cmp::Ordering::Less
            } else {
                (*known).cmp(code)
            }
        });
        self.0[place.unwrap_or(0)] += 1;
    }

    /// The counts, in the order of [`Errors::CODES`].
    pub fn counts(&self) -> &[u64] {
        &self.0
    }

    /// Those codes that were answered at least once, with how often.
    pub fn seen(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Self::CODES.into_iter().zip(self.0).filter(|(_, n)| *n > 0)
    }

    /// How many there were in all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(super) fn add(&mut self, counts: [u64; Self::CODES.len()]) {
        self.0.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
    }

    pub(super) fn subtract(&mut self, earlier: &Self) {
        self.0
            .iter_mut()
            .zip(earlier.0)
            .for_each(|(n, then)| *n = n.saturating_sub(then));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_counted_apart_and_unknown_ones_together() {
        let mut errors = Errors::default();
        for code in &Errors::CODES[1..] {
            errors.note(&format!("{code} some words"));
        }
        for text in ["nope", "", "OTHER x", "err lower case is another code"] {
            errors.note(text);
        }
        assert_eq!(errors.counts()[0], 4);
        assert!(errors.counts()[1..].iter().all(|&n| n == 1));
        assert_eq!((errors.total(), errors.seen().count()), (24, Errors::CODES.len()));
        let then = errors.clone();
        errors.note("ERR again");
        errors.subtract(&then);
        assert_eq!(errors.seen().collect::<Vec<_>>(), [("ERR", 1)]);
    }
}
