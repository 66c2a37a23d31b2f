//! What the server is told before it starts, as plain data: one struct a section of the configuration file, each with
//! its defaults. Reading the layers (defaults < file < environment < flags) and checking them as a whole is apart.

pub mod limits;

pub use limits::Limits;
