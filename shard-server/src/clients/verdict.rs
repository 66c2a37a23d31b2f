//! Which limit a client breaks, judged from what it tells of itself. Pure.
//!
//! Two moments judge. The connection itself, where bytes grow: what arrived before it said who it is, what waits to be
//! sent. And the sweep of its core, where time passes: silence, a late `AUTH`, a send that does not move.

use crate::config::Limits;

/// A send is handed to the socket in pieces of about this many bytes; a piece that is one long value may be longer, and
/// its client then has the time of as many pieces.
pub const PIECE_BYTES: usize = 1 << 20;

/// A client over the hard limit that reads nothing for so long is ended. One that reads is not: how much one round of
/// answers holds is the server's choice, not the client's.
const HARD_PATIENCE_MS: u64 = 1000;

/// Why a client is sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Somebody asked for it: `CLIENT KILL`.
    Killed,
    /// It was silent for too long.
    Idle,
    /// It did not say who it is in time.
    Unknown,
    /// It sent too much before it said who it is.
    UnknownInput,
    /// It let too much wait before it said who it is.
    UnknownOutput,
    /// A send to it moved nothing for too long.
    Stalled,
    /// Too much waited for it for too long.
    OutputSoft,
    /// Too much waited for it.
    OutputHard,
    /// All clients together held too much, and this one the most.
    Memory,
}

impl Reason {
    /// All of them; a reason's number is its place here, counted from 1.
    const ALL: [Self; 9] = [
        Self::Killed,
        Self::Idle,
        Self::Unknown,
        Self::UnknownInput,
        Self::UnknownOutput,
        Self::Stalled,
        Self::OutputSoft,
        Self::OutputHard,
        Self::Memory,
    ];

    pub(super) fn number(self) -> u8 {
        let place = Self::ALL.iter().position(|&reason| reason == self);
        u8::try_from(place.map_or(0, |place| place + 1)).unwrap_or(u8::MAX)
    }

    pub(super) fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// In words, for the log.
    pub fn words(self) -> &'static str {
        match self {
            Self::Killed => "killed by CLIENT KILL",
            Self::Idle => "idle for longer than limits.idle_ms",
            Self::Unknown => "did not authenticate within limits.unknown_ms",
            Self::UnknownInput => "sent more than limits.unknown_input_bytes without authenticating",
            Self::UnknownOutput => "let more than limits.unknown_output_bytes wait without authenticating",
            Self::Stalled => "read nothing for limits.output_stalled_ms while answers waited",
            Self::OutputSoft => "let more than limits.output_soft_bytes wait for limits.output_soft_ms",
            Self::OutputHard => "read nothing for a second while more than limits.output_hard_bytes waited",
            Self::Memory => "held the most while all clients held more than limits.clients_bytes",
        }
    }
}

/// A send that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending {
    /// When its first piece was handed to the socket.
    pub began_ms: u64,
    /// When its latest piece was.
    pub moved_ms: u64,
    /// Length of that piece.
    pub piece_bytes: usize,
    /// Bytes that wait, that piece included.
    pub waiting_bytes: usize,
}

/// What is looked at. Times are on the process's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether it has said who it is, where it must.
    pub authenticated: bool,
    /// Whether commands of it are under way.
    pub busy: bool,
    /// Since when it has not said who it is.
    pub unknown_ms: u64,
    /// When it last sent something.
    pub active_ms: u64,
    /// The send that is under way.
    pub sending: Option<Sending>,
}

/// The limit that time has made a client break.
pub fn verdict(look: &Look, limits: &Limits, idle_ms: u64, now_ms: u64) -> Option<Reason> {
    let past = |since_ms: u64, most_ms: u64| now_ms.saturating_sub(since_ms) > most_ms;
    if !look.authenticated && past(look.unknown_ms, limits.unknown_ms) {
        return Some(Reason::Unknown);
    }
    if let Some(sending) = look.sending {
        let pieces = sending.piece_bytes.div_ceil(PIECE_BYTES).max(1) as u64;
        if past(sending.moved_ms, limits.output_stalled_ms.saturating_mul(pieces)) {
            return Some(Reason::Stalled);
        }
        // The piece that is with the socket does not count: one answer may be as long as a value.
        let behind = sending.waiting_bytes.saturating_sub(sending.piece_bytes);
        if behind > limits.output_hard_bytes && past(sending.moved_ms, HARD_PATIENCE_MS * pieces) {
            return Some(Reason::OutputHard);
        }
        let wide = sending.waiting_bytes > limits.output_soft_bytes;
        if wide && past(sending.began_ms, limits.output_soft_ms) {
            return Some(Reason::OutputSoft);
        }
    } else if idle_ms > 0 && !look.busy && past(look.active_ms, idle_ms) {
        return Some(Reason::Idle);
    }
    None
}

/// The limit that a client breaks by `unknown_bytes` bytes received since it is not known who it is.
pub fn of_input(authenticated: bool, unknown_bytes: u64, limits: &Limits) -> Option<Reason> {
    (!authenticated && unknown_bytes > limits.unknown_input_bytes).then_some(Reason::UnknownInput)
}

/// The limit that a client breaks by `waiting_bytes` bytes of answers.
pub fn of_output(authenticated: bool, waiting_bytes: usize, limits: &Limits) -> Option<Reason> {
    (!authenticated && waiting_bytes > limits.unknown_output_bytes).then_some(Reason::UnknownOutput)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: fn() -> Limits = || Limits {
        unknown_ms: 10_000,
        output_stalled_ms: 5_000,
        output_soft_bytes: 100,
        output_soft_ms: 1_000,
        ..Limits::default()
    };

    fn quiet() -> Look {
        Look {
            authenticated: true,
            busy: false,
            unknown_ms: 0,
            active_ms: 0,
            sending: None,
        }
    }

    fn sending(piece_bytes: usize, waiting_bytes: usize) -> Look {
        Look {
            busy: true,
            sending: Some(Sending {
                began_ms: 0,
                moved_ms: 0,
                piece_bytes,
                waiting_bytes,
            }),
            ..quiet()
        }
    }

    #[test]
    fn silence_ends_a_client_only_where_it_is_asked_for_and_never_at_work() {
        let judge = |look: &Look, idle_ms, now_ms| verdict(look, &LIMITS(), idle_ms, now_ms);
        assert_eq!(judge(&quiet(), 0, u64::MAX), None, "0 is never");
        assert_eq!(judge(&quiet(), 1000, 1000), None);
        assert_eq!(judge(&quiet(), 1000, 1001), Some(Reason::Idle));
        let busy = Look {
            busy: true,
            ..quiet()
        };
        assert_eq!(judge(&busy, 1000, 5000), None);
    }

    #[test]
    fn who_does_not_say_who_they_are_is_sent_away_in_time_at_work_or_not() {
        let unknown = Look {
            authenticated: false,
            busy: true,
            ..quiet()
        };
        assert_eq!(verdict(&unknown, &LIMITS(), 0, 10_000), None);
        assert_eq!(verdict(&unknown, &LIMITS(), 0, 10_001), Some(Reason::Unknown));
        assert_eq!(verdict(&quiet(), &LIMITS(), 0, 10_001), None);
    }

    #[test]
    fn a_send_may_take_its_time_as_long_as_it_moves() {
        let judge = |look: &Look, now_ms| verdict(look, &LIMITS(), 1, now_ms);
        assert_eq!(judge(&sending(10, 10), 5_000), None, "a send is no silence");
        assert_eq!(judge(&sending(10, 10), 5_001), Some(Reason::Stalled));
        let long = sending(3 * PIECE_BYTES, 3 * PIECE_BYTES);
        let patient = Limits {
            output_soft_bytes: usize::MAX,
            ..LIMITS()
        };
        assert_eq!(verdict(&long, &patient, 0, 15_000), None, "three pieces' time");
        assert_eq!(verdict(&long, &patient, 0, 15_001), Some(Reason::Stalled));
        assert_eq!(judge(&sending(10, 101), 1_001), Some(Reason::OutputSoft));
        assert_eq!(judge(&sending(10, 101), 1_000), None);
    }

    #[test]
    fn far_too_much_may_wait_only_for_a_client_that_reads() {
        let limits = Limits {
            output_hard_bytes: 1000,
            output_soft_bytes: 1000,
            ..Limits::default()
        };
        let judge = |look: &Look, now_ms| verdict(look, &limits, 0, now_ms);
        assert_eq!(
            judge(&sending(5000, 6000), 1001),
            None,
            "the piece is with the socket"
        );
        assert_eq!(judge(&sending(5000, 6001), 1000), None);
        assert_eq!(judge(&sending(5000, 6001), 1001), Some(Reason::OutputHard));
    }

    #[test]
    fn before_authentication_little_is_taken_and_little_waits() {
        let limits = Limits {
            unknown_output_bytes: 50,
            unknown_input_bytes: 70,
            ..Limits::default()
        };
        assert_eq!(of_output(false, 51, &limits), Some(Reason::UnknownOutput));
        assert_eq!(
            (of_output(false, 50, &limits), of_output(true, 51, &limits)),
            (None, None)
        );
        assert_eq!(of_input(false, 71, &limits), Some(Reason::UnknownInput));
        assert_eq!(
            (of_input(false, 70, &limits), of_input(true, u64::MAX, &limits)),
            (None, None)
        );
    }

    #[test]
    fn reasons_keep_their_numbers() {
        for reason in Reason::ALL {
            assert_eq!(Reason::of(reason.number()), Some(reason));
        }
        assert_eq!((Reason::of(0), Reason::of(200)), (None, None));
    }
}
