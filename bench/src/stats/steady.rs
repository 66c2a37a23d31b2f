//! Whether a phase reached a steady state, and from when: throughput, and where the engine tells them write amplification
//! and compaction debt, must all be level.
//!
//! Steps, for each of the three as a series of windows:
//! 1. A stalled window or two is an event, not a trend: at most one window in thirty, if it lies far outside of all the
//!    others, is set to the median; not the first two, with which a warm-up begins. Stalls that are more frequent are
//!    behaviour, and stay in.
//! 2. The series is **level** when the straight line through it changes by no more than [`DRIFT`] of the mean from end to
//!    end, and the means of five rounds lie within [`EXCURSION`] of each other: the two conditions of SNIA's Performance
//!    Test Specification (slope 10 %, excursion 20 % over five rounds). Its rounds are minutes; windows of a second are
//!    noisier, so a change also has to be larger than noise explains: the noise of a line or a mean over windows that hang
//!    together, from an AR(1) fitted to what the better of a line and a step leaves.
//! 3. If it is not level, and one **step** explains it clearly better than the line does, what lies before the step is cut
//!    off (a warm-up, a cache that filled, a stall that ended: what MSER-5 cuts by the smallest error) and the rest is
//!    judged again, as long as a third of the windows is left. What a line explains as well is a drift, and has no steady
//!    part: half of a drift is not level, it only shows less of it.
//!
//! Debt has no mean worth the name. Its change is held against the bytes that flushes and compactions wrote meanwhile: what
//! is owed more in the end than in the beginning is work that the figures do not contain.

use crate::result::{Steady, Window};
use crate::stats::{figures, series};

/// Windows below which nothing is judged: five rounds of two.
const FEWEST: usize = 10;
/// The most that a level line changes from end to end, as a share of the mean.
const DRIFT: f64 = 0.10;
/// How far means of rounds may lie apart, as a share of the mean.
const EXCURSION: f64 = 0.20;
/// Rounds that a series is cut into.
const ROUNDS: usize = 5;
/// Standard errors beyond which a line's change is not noise.
const SURE_OF_LINE: f64 = 2.3;
/// Standard errors of a round beyond which the range of five rounds is not noise: reached by chance in one of a hundred.
const SURE_OF_RANGE: f64 = 4.6;
/// How much more likely, as a logarithm, a step must make the windows than a line does: chance drives it above this, when a
/// line is the truth, in a few of a hundred series.
const SURE_OF_STEP: f64 = 6.5;
/// A change that noise could hide is too large for a series to be called level.
const BLIND: f64 = 0.25;
/// Robust standard deviations from the median beyond which a window is an event.
const EVENT: f64 = 6.0;
/// One window in so many may be an event.
const EVENTS_IN: usize = 30;
/// Windows at either end in which no step is looked for.
const MARGIN: usize = 2;

/// Judges a phase by its windows.
pub fn judge(windows: &[Window]) -> Steady {
    let windows = whole(windows);
    if windows.len() < FEWEST {
        let why = format!(
            "{} windows are too few to judge, {FEWEST} are needed",
            windows.len()
        );
        return Steady { from_s: None, why };
    }
    let parts = [throughput(windows), amplification(windows), debt(windows)];
    let mut from = 0;
    let mut why = Vec::new();
    for part in parts.iter().flatten() {
        match part {
            Ok(level) => {
                from = from.max(level.from);
                why.push(level.words.clone());
            }
            Err(words) => {
                return Steady {
                    from_s: None,
                    why: words.clone(),
                };
            }
        }
    }
    Steady {
        from_s: Some(windows[from].start_s),
        why: why.join("; "),
    }
}

/// Without a last window that the phase's end cut short.
fn whole(windows: &[Window]) -> &[Window] {
    match windows {
        [first, .., last] if last.length_s < first.length_s / 2.0 => &windows[..windows.len() - 1],
        _ => windows,
    }
}

/// A part that is level, or why it is not.
type Judged = Result<Level, String>;

#[derive(Debug, Clone, PartialEq)]
struct Level {
    from: usize,
    words: String,
}

fn throughput(windows: &[Window]) -> Option<Judged> {
    let rates: Vec<f64> = windows
        .iter()
        .map(|w| w.operations.iter().sum::<u64>() as f64 / w.length_s.max(1e-9))
        .collect();
    if rates.iter().sum::<f64>() == 0.0 {
        return Some(Err("nothing ended in any window".to_owned()));
    }
    let judged = find(&rates, |from| series::mean(&rates[from..]), EXCURSION);
    Some(in_words("throughput", judged, windows))
}

/// `None` where the engine does not count it, or nothing was written.
fn amplification(windows: &[Window]) -> Option<Judged> {
    let written: Option<Vec<f64>> = windows
        .iter()
        .map(|w| Some(figures::written(&w.counters)? as f64))
        .collect();
    let user: Option<Vec<f64>> = windows
        .iter()
        .map(|w| w.counters.user_bytes.map(|b| b as f64))
        .collect();
    let (written, user) = (written?, user?);
    let (total, base) = (written.iter().sum::<f64>(), series::mean(&user));
    if base == 0.0 || total == 0.0 {
        return None;
    }
    // To first order, so that a window in which little was written does not weigh as much as a full one.
    let all = total / user.iter().sum::<f64>();
    let each: Vec<f64> = written
        .iter()
        .zip(&user)
        .map(|(w, u)| all + (w - all * u) / base)
        .collect();
    // Compactions come in bursts, of any size: their rounds need not be alike, only their trend level.
    match find(&each, |from| series::mean(&each[from..]), f64::INFINITY) {
        Err(NotLevel::Noisy { .. }) => Some(Ok(Level {
            from: 0,
            words: format!("write amplification {all:.2}, in bursts too large to see a trend"),
        })),
        judged => Some(in_words("write amplification", judged, windows)),
    }
}

/// `None` where the engine does not tell its debt.
fn debt(windows: &[Window]) -> Option<Judged> {
    let debts: Option<Vec<f64>> = windows
        .iter()
        .map(|w| w.counters.debt_bytes.map(|b| b as f64))
        .collect();
    let debts = debts?;
    let work = |w: &Window| {
        let counters = &w.counters;
        let tables = counters
            .flush_bytes
            .zip(counters.compaction_bytes)
            .map(|(flush, merge)| flush + merge);
        tables.or(counters.user_bytes).unwrap_or(0) as f64
    };
    let scale = |from: usize| {
        let done: f64 = windows[from..].iter().map(work).sum();
        if done > 0.0 {
            done
        } else {
            series::mean(&debts[from..])
        }
    };
    match find(&debts, scale, f64::INFINITY) {
        // A debt that swings by more than a quarter of all the work, and comes back, is not growing.
        Err(NotLevel::Noisy { .. }) => Some(Ok(Level {
            from: 0,
            words: "compaction debt swings too widely to see a trend".to_owned(),
        })),
        judged => Some(in_words("compaction debt", judged, windows)),
    }
}

fn in_words(what: &str, judged: Result<Found, NotLevel>, windows: &[Window]) -> Judged {
    let percent = |share: f64| share * 100.0;
    let seconds = |place: usize| windows.get(place).map_or(0.0, |w| w.start_s);
    match judged {
        Ok(Found { from, drift, error }) => {
            let begin = if from == 0 {
                String::new()
            } else {
                format!(" from {:.1} s on", seconds(from))
            };
            let (drift, error) = (percent(drift), percent(error));
            let words = format!("{what} level{begin}: it changes by {drift:+.1} ± {error:.1} % to the end");
            Ok(Level { from, words })
        }
        Err(NotLevel::Drifts { from, drift, error }) => Err(format!(
            "{what} drifts: it changes by {:+.1} ± {:.1} % from {:.1} s to the end",
            percent(drift),
            percent(error),
            seconds(from)
        )),
        Err(NotLevel::Wanders { from, range }) => Err(format!(
            "{what} wanders: the means of {ROUNDS} rounds from {:.1} s on lie {:.1} % apart",
            seconds(from),
            percent(range)
        )),
        Err(NotLevel::Noisy { blind }) => Err(format!(
            "{what} varies so much that a change of {:.0} % could not be seen: a longer phase is needed",
            percent(blind)
        )),
    }
}

/// From where on a series is level, and how well that is known.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Found {
    from: usize,
    drift: f64,
    error: f64,
}

/// Why it is not.
#[derive(Debug, Clone, Copy, PartialEq)]
enum NotLevel {
    Drifts { from: usize, drift: f64, error: f64 },
    Wanders { from: usize, range: f64 },
    Noisy { blind: f64 },
}

/// Steps 2 and 3 of the module's text. `scale` is what a change from a window on is a share of.
fn find(values: &[f64], scale: impl Fn(usize) -> f64, excursion: f64) -> Result<Found, NotLevel> {
    let shortest = FEWEST.max(values.len() / 3);
    let mut from = 0;
    loop {
        let tail = calm(&values[from..]);
        let step = Step::best(&tail);
        let why = match level(&tail, from, scale(from), excursion, &step) {
            Ok(found) => return Ok(found),
            Err(why @ NotLevel::Noisy { .. }) => return Err(why),
            Err(why) => why,
        };
        let left = tail.len() - step.place;
        if left < shortest || !is_step(&tail, &step) {
            return Err(why);
        }
        // A step's place is at least MARGIN, so each turn leaves less: there are at most as many as windows.
        from += step.place;
    }
}

fn level(tail: &[f64], from: usize, scale: f64, excursion: f64, step: &Step) -> Result<Found, NotLevel> {
    let rise = series::rise(tail);
    if scale <= 0.0 || (rise == 0.0 && step.error == 0.0) {
        return Ok(Found {
            from,
            drift: 0.0,
            error: 0.0,
        });
    }
    let n = tail.len() as f64;
    let noise = noise(tail, step) / scale;
    let (drift, error) = (rise / scale, noise * (12.0 / n).sqrt());
    if drift.abs() > DRIFT.max(SURE_OF_LINE * error) {
        return Err(NotLevel::Drifts { from, drift, error });
    }
    let rounds: Vec<f64> = tail
        .chunks(tail.len().div_ceil(ROUNDS))
        .map(series::mean)
        .collect();
    let (low, high) = rounds
        .iter()
        .fold((f64::MAX, f64::MIN), |(low, high), m| (low.min(*m), high.max(*m)));
    let range = (high - low) / scale;
    if range > excursion.max(SURE_OF_RANGE * noise * (ROUNDS as f64 / n).sqrt()) {
        return Err(NotLevel::Wanders { from, range });
    }
    let blind = SURE_OF_LINE * error;
    if blind > BLIND {
        return Err(NotLevel::Noisy { blind });
    }
    Ok(Found { from, drift, error })
}

/// Whether a step explains a series better than a line by more than chance makes one do: the logarithm of the likelihoods'
/// ratio, over as many independent windows as these are worth.
fn is_step(tail: &[f64], step: &Step) -> bool {
    let line = line_error(tail);
    let (_, rho) = noise_and_correlation(tail, step);
    let independent = tail.len() as f64 * (1.0 - rho) / (1.0 + rho);
    step.error < line && independent * (line / step.error.max(line * 1e-12)).ln() > SURE_OF_STEP
}

/// What √n times the standard error of a mean of these windows is: their standard deviation, stretched as an AR(1) that
/// hangs together as they do stretches it. What a line or a step explains is no noise.
fn noise(tail: &[f64], step: &Step) -> f64 {
    let (deviation, rho) = noise_and_correlation(tail, step);
    deviation * ((1.0 + rho) / (1.0 - rho)).sqrt()
}

fn noise_and_correlation(tail: &[f64], step: &Step) -> (f64, f64) {
    let residuals = if step.error < line_error(tail) {
        step.residuals(tail)
    } else {
        line_residuals(tail)
    };
    let n = residuals.len() as f64;
    let zero = series::autocovariance(&residuals, 0);
    if zero <= 0.0 {
        return (0.0, 0.0);
    }
    let found = series::autocovariance(&residuals, 1) / zero;
    // A fitted trend takes about (2 + 4ρ)/n of the correlation with it (Kendall 1954, and the trend's own part).
    let rho = (found + (2.0 + 4.0 * found) / n).clamp(0.0, 0.95);
    ((zero * n / (n - 2.0)).sqrt(), rho)
}

fn line_residuals(values: &[f64]) -> Vec<f64> {
    let n = values.len() as f64;
    let (mean, slope) = (series::mean(values), series::rise(values) / n);
    let each = values.iter().enumerate();
    each.map(|(i, v)| v - mean - slope * (i as f64 - (n - 1.0) / 2.0))
        .collect()
}

fn line_error(values: &[f64]) -> f64 {
    line_residuals(values).iter().map(|r| r * r).sum()
}

/// The step that explains a series best: two means, and where one becomes the other.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    place: usize,
    /// Sum of squares that it leaves.
    error: f64,
}

impl Step {
    fn best(values: &[f64]) -> Self {
        let total: f64 = values.iter().sum();
        let squares: f64 = values
            .iter()
            .map(|v| (v - total / values.len() as f64).powi(2))
            .sum();
        let (mut best, mut sum) = (
            Self {
                place: MARGIN,
                error: squares,
            },
            0.0,
        );
        for (i, value) in values.iter().enumerate() {
            let (left, right) = (i as f64, (values.len() - i) as f64);
            if (MARGIN..=values.len() - MARGIN).contains(&i) {
                let apart = sum / left - (total - sum) / right;
                let error = (squares - left * right / (left + right) * apart * apart).max(0.0);
                if error < best.error {
                    best = Self { place: i, error };
                }
            }
            sum += value;
        }
        best
    }

    fn residuals(&self, values: &[f64]) -> Vec<f64> {
        let (before, after) = values.split_at(self.place);
        let about = |part: &[f64]| {
            let mean = series::mean(part);
            part.iter().map(|v| v - mean).collect::<Vec<_>>()
        };
        [about(before), about(after)].concat()
    }
}

/// Step 1 of the module's text.
fn calm(values: &[f64]) -> Vec<f64> {
    let median = series::median(values);
    let apart: Vec<f64> = values.iter().map(|v| (v - median).abs()).collect();
    // 1.4826 times the median distance is a normal's standard deviation.
    let far = EVENT * 1.4826 * series::median(&apart);
    let mut events: Vec<usize> = (MARGIN..values.len()).filter(|&i| apart[i] > far).collect();
    let mut calm = values.to_vec();
    if far > 0.0 && events.len() <= (values.len() / EVENTS_IN).max(1) {
        events.drain(..).for_each(|i| calm[i] = median);
    }
    calm
}

#[cfg(test)]
#[path = "steady_tests.rs"]
mod tests;
