//! One client: receive, run all whole commands that have arrived as one pipeline, send once.
//!
//! What was received is read in place; only the start of a command whose end has not arrived is kept. While it waits for
//! its client a connection holds no buffer. A client that does not read its answers holds up its own connection: one
//! round of answers waits, and nothing more is read meanwhile; `clients::verdict` says for how long and how much. When
//! the server drains, a connection that waits for its client ends at once, one that is at work ends behind its answers.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use corelane::io::Stream;

pub use crate::clients::Clients;
use crate::clients::verdict::{self, PIECE_BYTES};
use crate::clients::{Client, Reason};
use crate::pipeline::{Ended, FLUSH_BYTES, Pipeline};
use crate::server::{Seat, Server};
use crate::session::Session;
use crate::store::Store;

/// What is held for a client is told to the others once it has changed by so many bytes.
const HELD_STEP_BYTES: usize = 16 * 1024;

/// Serves one client until it leaves, breaks the protocol or is sent away.
pub async fn serve<S: Store, T: Stream>(stream: T, seat: Seat, store: S, clients: Rc<Clients<T>>) {
    let (server, client) = (Arc::clone(seat.server()), Arc::clone(seat.client()));
    clients.enter(stream.clone(), Arc::clone(&client));
    let core = store.core();
    let session = Session::new(Arc::clone(&client), server.auth());
    let mut connection = Connection {
        stream,
        pipeline: Pipeline::new(store, Arc::clone(&server), session),
        input: Vec::new(),
        client,
        clients,
        server,
        core,
    };
    while !connection.is_over() && connection.turn().await.is_some() {}
    connection.clients.leave(connection.client.id);
    // An error means that the client has gone by itself.
    let _gone = connection.stream.shutdown().await;
}

struct Connection<S, T> {
    stream: T,
    pipeline: Pipeline<S>,
    /// The start of a command whose end has not arrived.
    input: Vec<u8>,
    client: Arc<Client>,
    clients: Rc<Clients<T>>,
    server: Arc<Server>,
    core: usize,
}

impl<S: Store, T: Stream> Connection<S, T> {
    fn is_over(&self) -> bool {
        self.clients.is_closing() || self.client.doomed().is_some()
    }

    /// Waits for the client and does what it says. `None` when the connection is to end.
    async fn turn(&mut self) -> Option<()> {
        self.client.set_busy(false);
        let received = self.receive().await?;
        self.client.set_busy(true);
        self.note_received(received.len())?;
        if self.input.is_empty() {
            let consumed = self.run(&received).await?;
            self.keep(&received[consumed..]);
        } else {
            self.keep(&received);
            drop(received);
            let input = std::mem::take(&mut self.input);
            let consumed = self.run(&input).await;
            self.input = input;
            self.input.drain(..consumed?);
        }
        self.client.set_input_bytes(self.input.len());
        Some(())
    }

    /// The next bytes of the client. While none are there it holds no buffers but those with the start of a command.
    async fn receive(&mut self) -> Option<T::RecvBuf> {
        let Self {
            stream,
            pipeline,
            input,
            client,
            clients,
            server,
            ..
        } = self;
        let mut receiving = pin!(stream.recv());
        let mut waits = false;
        let received = poll_fn(|cx| {
            let polled = receiving.as_mut().poll(cx);
            if polled.is_pending() && !std::mem::replace(&mut waits, true) {
                clients.give_back(std::mem::take(pipeline.output().tail()));
                if input.is_empty() {
                    clients.give_back(std::mem::take(input));
                }
                hold(server, client, input.capacity() + pipeline.held_bytes());
            }
            polled
        })
        .await
        .ok()?;
        if pipeline.output().tail().capacity() == 0 {
            *pipeline.output().tail() = clients.buffer();
        }
        (!received.is_empty()).then_some(received)
    }

    fn note_received(&self, bytes: usize) -> Option<()> {
        let counts = self.server.counts(self.core);
        counts.received_bytes.add(bytes as u64);
        self.client.received(bytes, self.server.now_ms());
        let broken = verdict::of_input(
            self.client.is_authenticated(),
            self.client.unknown_bytes(),
            self.server.limits(),
        );
        self.end_for(broken)
    }

    /// Keeps bytes whose command is not whole.
    fn keep(&mut self, bytes: &[u8]) {
        if self.input.capacity() == 0 && !bytes.is_empty() {
            self.input = self.clients.buffer();
        }
        self.input.extend_from_slice(bytes);
        let bytes = self.input.capacity() + self.pipeline.held_bytes();
        hold(&self.server, &self.client, bytes);
    }

    /// `None`, having doomed the client, where it broke a limit.
    fn end_for(&self, broken: Option<Reason>) -> Option<()> {
        match broken {
            None => Some(()),
            Some(reason) => {
                self.server.registry().doom(&self.client, reason);
                None
            }
        }
    }

    /// Runs what is whole in `input` and sends the answers. Returns how many bytes are done with; `None` when the
    /// connection is to end.
    async fn run(&mut self, input: &[u8]) -> Option<usize> {
        let mut consumed = 0;
        loop {
            let round = self.pipeline.round(&input[consumed..]).await;
            consumed += round.consumed;
            if round.ended == Ended::Full && self.pipeline.output().bytes() < FLUSH_BYTES {
                if self.client.doomed().is_some() {
                    return None;
                }
                continue;
            }
            self.send(input.len()).await?;
            match round.ended {
                Ended::Full => {}
                Ended::Starved => return Some(consumed),
                Ended::Closing => return None,
            }
            if self.client.doomed().is_some() {
                return None;
            }
        }
    }

    /// Sends the answers that wait, in pieces, so that it shows whether the client reads. `input_bytes` are held beside.
    async fn send(&mut self, input_bytes: usize) -> Option<()> {
        let mut waiting = self.pipeline.output().bytes();
        if waiting == 0 {
            return Some(());
        }
        let batch = self.pipeline.output().take();
        let known = self.client.is_authenticated();
        self.end_for(verdict::of_output(known, waiting, self.server.limits()))?;
        let bytes = waiting + input_bytes + self.pipeline.held_bytes();
        hold(&self.server, &self.client, bytes);
        let counts = self.server.counts(self.core);
        let mut rest = batch;
        while !rest.is_empty() {
            let piece = first_piece(&mut rest);
            let bytes = piece.iter().map(Vec::len).sum();
            self.client.sending(waiting, bytes, self.server.now_ms());
            let (sent, buffers) = self.stream.send(piece).await;
            sent.ok()?;
            self.pipeline.output().recycle(buffers);
            waiting -= bytes;
            counts.sent_bytes.add(bytes as u64);
        }
        self.client.sent();
        Some(())
    }
}

/// Takes the buffers that go to the socket together: at least one, then as many as fit in [`PIECE_BYTES`].
fn first_piece(rest: &mut Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut bytes = 0;
    let fits = rest.iter().take_while(|buffer| {
        let fits = piece_fits(bytes, buffer.len());
        bytes += buffer.len();
        fits
    });
    let behind = rest.split_off(fits.count());
    std::mem::replace(rest, behind)
}

fn piece_fits(bytes: usize, more: usize) -> bool {
    bytes == 0 || bytes + more <= PIECE_BYTES
}

/// Tells what is held for a client, if it changed by enough, and has the largest of all go where that is too much.
fn hold(server: &Server, client: &Client, bytes: usize) {
    if bytes.abs_diff(client.held_bytes()) < HELD_STEP_BYTES {
        return;
    }
    let most = server.limits().clients_bytes;
    let registry = server.registry();
    if registry.hold(client, bytes) > most {
        registry.shed(most);
    }
}
