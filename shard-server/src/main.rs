//! The `corelane` binary: flags in, exit status out.

use std::process::ExitCode;

use clap::Parser as _;
use corelane_server::allocator;
use corelane_server::console::run::complain;
use corelane_server::options::{Cli, Command};
use corelane_server::panics;
use corelane_server::serve::serve;
use corelane_server::tools::print;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command() {
        Command::Serve(flags) => {
            allocator::give_back_large();
            panics::end_with_the_first();
            flags.load().and_then(|loaded| serve(&loaded))
        }
        Command::Config(command) => command.run().map(print),
        Command::Tool(tool) => return tool.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(format_args!("corelane: {why}"));
            ExitCode::FAILURE
        }
    }
}
