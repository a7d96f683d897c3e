//! What a scan has found, for people.

use trionics::{CancelReason, Cancelled};

use crate::scan::{Finding, Plan, Report};

/// Prints a row for each port that is not closed, and what is to be said of all.
pub(crate) fn print_table(plan: &Plan, report: &Report) {
    let mut findings = report.findings.clone();
    findings.sort_by_key(|&(port, _)| port);
    let n_closed = findings
        .extract_if(.., |(_, finding)| *finding == Finding::Closed)
        .count();

    if !findings.is_empty() {
        println!("{:>6}  {:<10} BANNER", "PORT", "STATE");
    }
    for (port, finding) in &findings {
        let (state, banner) = describe(finding);
        println!("{}", format!("{port:>6}  {state:<10} {banner}").trim_end());
    }
    let n_left = plan.ports.len() - report.findings.len();
    let most = report.most_at_once;
    println!("{n_closed} closed, {n_left} not looked at; at most {most} at once");
    if let Some(cancelled) = &report.stopped {
        println!("{}", describe_stop(cancelled));
    }
}

fn describe_stop(cancelled: &Cancelled) -> String {
    match cancelled.reason() {
        CancelReason::Signal => "stopped on request".to_owned(),
        CancelReason::Deadline => "stopped, as the time is over".to_owned(),
        reason => format!("stopped: {reason}"),
    }
}

fn describe(finding: &Finding) -> (&str, &str) {
    match finding {
        Finding::Banner(banner) => ("open", banner),
        Finding::Silent => ("open", "(silent)"),
        Finding::Closed => ("closed", ""),
        Finding::NoAnswer => ("no answer", ""),
        Finding::Failed(error) => ("error", error),
    }
}
