//! One command on keys with its arguments, as its function sees it and as it travels to the core that owns the keys.

use super::{Failure, Keyed, Spec, View};
use crate::resp::Protocol;
use crate::resp::reply;
use crate::resp::request::Arguments;

/// A command line.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The command.
    pub spec: &'static Spec,
    /// Its arguments, the name first; their number fits the arity.
    pub arguments: Arguments<'a>,
    /// What the client speaks.
    pub protocol: Protocol,
}

impl<'a> Request<'a> {
    /// The first key.
    pub fn key(&self) -> &'a [u8] {
        self.arguments.at(self.spec.keys.first)
    }

    /// All keys, in the order of the arguments.
    pub fn keys(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let arguments = self.arguments;
        let places = self.spec.keys.places(arguments.count());
        places.map(move |place| arguments.at(place))
    }

    /// Runs the command over its keys and appends its answer, an error included. Returns whether it went well; where it
    /// did not, nothing was changed.
    pub fn answer(&self, run: Keyed, view: &mut View<'_>, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        match run(self, view, out) {
            Ok(()) => true,
            Err(Failure(text)) => {
                out.truncate(before);
                reply::error(out, &text);
                false
            }
        }
    }
}

/// A command line that owns its bytes, so that it can wait or travel: two blocks of memory however many arguments.
#[derive(Debug, Clone)]
pub struct Owned {
    spec: &'static Spec,
    bytes: Vec<u8>,
    places: Vec<(usize, usize)>,
    protocol: Protocol,
}

impl Owned {
    /// A copy of `request`.
    pub fn new(request: &Request<'_>) -> Self {
        let arguments = request.arguments;
        let total = arguments.from(0).map(<[u8]>::len).sum();
        let mut bytes = Vec::with_capacity(total);
        let mut places = Vec::with_capacity(arguments.count());
        for argument in arguments.from(0) {
            let from = bytes.len();
            bytes.extend_from_slice(argument);
            places.push((from, bytes.len()));
        }
        Self {
            spec: request.spec,
            bytes,
            places,
            protocol: request.protocol,
        }
    }

    /// The command line.
    pub fn request(&self) -> Request<'_> {
        Request {
            spec: self.spec,
            arguments: Arguments::new(&self.bytes, &self.places),
            protocol: self.protocol,
        }
    }

    /// Bytes of memory that it takes.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity() + self.places.capacity() * size_of::<(usize, usize)>()
    }
}

/// The keys of requests as a [`View`] wants them: sorted, each once.
pub fn sorted_keys<'a>(keys: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let mut keys: Vec<_> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}
