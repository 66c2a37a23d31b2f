//! A connection over a store in memory: what it answers, in how many messages, and what it refuses.

mod administration;
mod auth;
mod clients;
mod commands;
mod hostile;
mod limits;
mod long_answers;
mod pipelines;
mod strings;
mod tls;
mod transactions;
