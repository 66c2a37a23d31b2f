//! The `corelane` binary: flags in, exit status out.

use std::process::ExitCode;

use clap::Parser as _;
use corelane_server::admin;
use corelane_server::options::{Cli, Command};
use corelane_server::serve::serve;
use corelane_server::tools::print;

/// A core that panics has met a bug and can neither serve nor close. Ending at once is safe, as after `kill -9`: everything
/// acknowledged is on stable storage; going on would leave its clients hanging. A request of the admin plane that panics on
/// the plane's own thread is answered as such, and keeps no core from anything.
fn end_with_the_first_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if std::thread::current().name() != Some(admin::THREAD_NAME) {
            std::process::abort();
        }
    }));
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command() {
        Command::Serve(flags) => {
            end_with_the_first_panic();
            flags.load().and_then(|loaded| serve(&loaded))
        }
        Command::Config(command) => command.run().map(print),
        Command::Tool(tool) => return tool.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("corelane: {why}");
            ExitCode::FAILURE
        }
    }
}
