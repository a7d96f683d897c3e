//! A port scanner that says goodbye to everybody, however it ends.
//!
//! ```sh
//! cargo run -p trionics --example port_scanner                      # checks itself
//! cargo run -p trionics --example port_scanner -- localhost 1-1024  # scans a host
//! ```

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

mod check;
mod ports;
mod scan;
mod street;
mod table;

use std::{env, net::IpAddr, process::ExitCode, time::Duration};

use tokio::{net::lookup_host, signal::ctrl_c};
use trionics::prelude::*;

use check::check;
use ports::parse_ports;
use scan::Plan;
use table::print_table;

const USAGE: &str = "\
usage: port_scanner HOST PORTS    for instance: port_scanner localhost 22,80,8000-8010
       port_scanner               checks itself";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match &arguments[..] {
        [] => with_clock(TokioClock, check_within(Duration::from_secs(30))).await,
        [host, ports] => with_clock(TokioClock, scan(host, ports)).await,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{:#}", collapse_eg(failure));
            ExitCode::FAILURE
        }
    }
}

async fn check_within(limit: Duration) -> Result<ExitCode, Failure> {
    fail_after(limit, check()).await??;
    println!("\nEverything held.");
    Ok(ExitCode::SUCCESS)
}

async fn scan(host: &str, ports: &str) -> Result<ExitCode, Failure> {
    let plan = Plan {
        ports: parse_ports(ports)?,
        ips: look_up(host).await?,
        at_once: 128,
        patience: Duration::from_secs(1),
        limit: Duration::from_secs(600),
    };
    let report = plan.scan(ctrl_c()).await?;
    print_table(&plan, &report);
    Ok(if report.stopped.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn look_up(host: &str) -> Result<Vec<IpAddr>, Failure> {
    match lookup_host((host, 0)).await {
        Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
        Err(error) => Err(Failure::text(format!(
            "the host `{host}` is not found: {error}"
        ))),
    }
}
