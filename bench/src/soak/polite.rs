//! Clients that check every answer, and read back what was acknowledged.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::{Connection, Value};

use crate::device::stop::Stop;
use crate::error::{BenchError, Kind};
use crate::soak::model::{Model, Round};

/// A server that does not answer for so long has hung.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Between two times that a client reads everything back, over a new connection.
const READ_BACK_EVERY: Duration = Duration::from_secs(5);
/// Of an answer that is wrong, so many characters are shown.
const SHOWN_CHARS: usize = 120;

/// What all polite clients did.
#[derive(Debug, Default)]
pub struct Polite {
    /// Commands answered as they should be.
    pub answered: AtomicU64,
    /// Times that a client has read everything back.
    pub read_back: AtomicU64,
    /// Why the first that failed did.
    failure: Mutex<Option<BenchError>>,
}

impl Polite {
    /// The first failure.
    pub fn failure(&self) -> Option<BenchError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone()
    }

    /// One client until `stop`; then it reads everything back once more. What goes wrong ends all.
    pub fn run(&self, port: u16, model: &mut Model, stop: &Stop) {
        if let Err(error) = self.load(port, model, stop) {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(error);
            stop.ask();
        }
    }

    fn load(&self, port: u16, model: &mut Model, stop: &Stop) -> Result<(), BenchError> {
        let mut connection = connect(port)?;
        let mut read_back = Instant::now();
        while !stop.asked() {
            self.ask(&mut connection, model.round())?;
            if read_back.elapsed() >= READ_BACK_EVERY {
                connection = connect(port)?;
                self.read_back(&mut connection, model)?;
                read_back = Instant::now();
            }
        }
        self.read_back(&mut connect(port)?, model)
    }

    fn read_back(&self, connection: &mut Connection, model: &Model) -> Result<(), BenchError> {
        for command in model.read_back() {
            self.ask(connection, vec![command])
                .map_err(|e| e.while_doing("reading back"))?;
        }
        self.read_back.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn ask(&self, connection: &mut Connection, round: Round) -> Result<(), BenchError> {
        let mut pipeline = redis::pipe();
        let (commands, wanted): (Vec<_>, Vec<_>) = round.into_iter().unzip();
        for command in &commands {
            pipeline.add_command(command.clone());
        }
        let answers: Vec<Value> = pipeline
            .query(connection)
            .map_err(|e| BenchError::engine("asking as a polite client", e))?;
        if answers.len() != wanted.len() {
            return Err(BenchError::wrong(format!(
                "{} commands had {} answers",
                wanted.len(),
                answers.len()
            )));
        }
        for ((command, answer), wanted) in commands.iter().zip(&answers).zip(&wanted) {
            if answer != wanted {
                return Err(BenchError::wrong(format!(
                    "{} was answered {} instead of {}",
                    command
                        .get_packed_command()
                        .escape_ascii()
                        .to_string()
                        .chars()
                        .take(SHOWN_CHARS)
                        .collect::<String>(),
                    shown(answer),
                    shown(wanted)
                )));
            }
        }
        self.answered.fetch_add(answers.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

fn shown(value: &Value) -> String {
    format!("{value:?}").chars().take(SHOWN_CHARS).collect()
}

/// A connection that does not wait for ever.
///
/// # Errors
/// The server's.
pub fn connect(port: u16) -> Result<Connection, BenchError> {
    let opened = redis::Client::open(format!("redis://127.0.0.1:{port}/")).and_then(|client| {
        let connection = client.get_connection_with_timeout(TIMEOUT)?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        connection.set_write_timeout(Some(TIMEOUT))?;
        Ok(connection)
    });
    opened.map_err(|e| BenchError::new(Kind::Open, format!("connecting as a polite client: {e}")))
}
