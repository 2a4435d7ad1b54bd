//! The program: reads the command line and does what it says.
use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    sluice::cli::run(sluice::cli::Cli::parse())
}
