//! Glob patterns as Redis matches them (`stringmatchlen` in its `util.c`), without recursion and with a budget.
//!
//! `*` any bytes, `?` one byte, `[abc]`, `[^a-z]` one byte of a class, `\x` the byte x. Redis recurses at every star,
//! which a hostile pattern turns into exponential time. Here only the last star is ever retried (the first match of an
//! earlier one is never worse), and each byte looked at takes one step from a budget that the caller sets per command.

/// The steps that a command may still spend.
#[derive(Debug)]
pub struct Budget(u64);

/// The budget is spent: the pattern costs too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted;

impl Budget {
    /// A budget of `steps`, each some nanoseconds.
    pub fn new(steps: u64) -> Self {
        Self(steps)
    }

    fn spend(&mut self) -> Result<(), Exhausted> {
        self.0 = self.0.checked_sub(1).ok_or(Exhausted)?;
        Ok(())
    }
}

/// Whether all of `text` matches `pattern`.
///
/// # Errors
/// [`Exhausted`], when `budget` is spent.
pub fn matches(pattern: &[u8], text: &[u8], budget: &mut Budget) -> Result<bool, Exhausted> {
    let (mut p, mut t) = (0, 0);
    // Behind the last star, and the byte of the text from which it was last tried.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        budget.spend()?;
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            if p == pattern.len() {
                return Ok(true);
            }
            retry = Some((p, t));
            continue;
        }
        let matched = match text.get(t) {
            None if p == pattern.len() => return Ok(true),
            None => return Ok(false),
            Some(&byte) => one(&pattern[p..], byte, budget)?,
        };
        match (matched, retry) {
            (Some(used), _) => {
                p += used;
                t += 1;
            }
            (None, None) => return Ok(false),
            (None, Some((star, from))) => {
                p = star;
                t = from + 1;
                retry = Some((star, t));
            }
        }
    }
}

/// Matches one byte against the first element of `pattern`: the element's length, or `None`.
fn one(pattern: &[u8], byte: u8, budget: &mut Budget) -> Result<Option<usize>, Exhausted> {
    Ok(match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ..] => {
            let (inside, used) = class(pattern, byte, budget)?;
            inside.then_some(used)
        }
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
    })
}

/// Whether `byte` is in the class at the start of `pattern`, and the class's length. A class that does not close ends
/// with the pattern, as in Redis.
fn class(pattern: &[u8], byte: u8, budget: &mut Budget) -> Result<(bool, usize), Exhausted> {
    let negated = pattern.get(1) == Some(&b'^');
    let mut at = if negated { 2 } else { 1 };
    let mut inside = false;
    loop {
        budget.spend()?;
        match &pattern[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                inside |= *escaped == byte;
                at += 2;
            }
            [low, b'-', high, ..] => {
                let (low, high) = if low <= high { (low, high) } else { (high, low) };
                inside |= (*low..=*high).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                inside |= *literal == byte;
                at += 1;
            }
        }
    }
    Ok((inside != negated, at))
}

/// The bytes that every match starts with, so that a scan need not look elsewhere.
pub fn literal_prefix(pattern: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::new();
    let mut rest = pattern;
    loop {
        match rest {
            [] | [b'*' | b'?' | b'[', ..] => return prefix,
            [b'\\', escaped, after @ ..] => {
                prefix.push(*escaped);
                rest = after;
            }
            [literal, after @ ..] => {
                prefix.push(*literal);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes(), &mut Budget::new(1 << 20)).unwrap()
    }

    #[test]
    fn the_cases_of_redis() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("h?llo", "hallo", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hello", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h[", "h", false),
            ("h[a", "ha", true),
            ("[^", "x", true),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            (r"a\", r"a\", true),
            (r"[\]]", "]", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*ab", "aab", true),
            ("key:*:[0-9]", "key:user:7", true),
        ] {
            assert_eq!(is(pattern, text), expected, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn a_hostile_pattern_ends_with_its_budget() {
        let text = "a".repeat(50_000);
        let pattern = format!("*{}b", "a".repeat(25_000));
        let mut budget = Budget::new(1_000_000);
        assert_eq!(
            matches(pattern.as_bytes(), text.as_bytes(), &mut budget),
            Err(Exhausted)
        );
        let stars = "*a".repeat(30) + "b";
        assert_eq!(
            matches(stars.as_bytes(), text.as_bytes(), &mut Budget::new(1_000_000)),
            Ok(false)
        );
    }

    /// The definition, by recursion.
    fn reference(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', rest @ ..], text) => (0..=text.len()).any(|skip| reference(rest, &text[skip..])),
            (_, []) => false,
            (pattern, [byte, rest @ ..]) => one(pattern, *byte, &mut Budget::new(1 << 20))
                .unwrap()
                .is_some_and(|used| reference(&pattern[used..], rest)),
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_definition(pattern in r"[ab*?\[\]\\^-]{0,8}", text in "[ab*-]{0,8}") {
            prop_assert_eq!(is(&pattern, &text), reference(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn every_match_starts_with_the_literal_prefix(pattern in r"[ab*?\[\]\\]{0,6}", text in "[ab]{0,6}") {
            if is(&pattern, &text) {
                prop_assert!(text.as_bytes().starts_with(&literal_prefix(pattern.as_bytes())));
            }
        }
    }
}
