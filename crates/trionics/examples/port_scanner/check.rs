//! The scanner, checked against real sockets.

use std::{
    fmt::Debug,
    future::pending,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use trionics::prelude::*;

use crate::scan::{Finding, Plan, Report};
use crate::street::{Counts, GREETING, Street, Visitors, street};
use crate::table::print_table;

const AT_ONCE: usize = 4;
/// Longer than this program runs.
const FOR_EVER: Duration = Duration::from_secs(3600);

pub(crate) async fn check() -> Result<(), Failure> {
    a_whole_scan().await?;
    a_scan_that_is_stopped().await?;
    a_scan_without_enough_time().await
}

async fn a_whole_scan() -> Result<(), Failure> {
    println!("Every kind of port, {AT_ONCE} at once:");
    let patience = Duration::from_millis(400);
    let began = Instant::now();
    let visit = visit(5, 5, async |street, _visitors| {
        // Two slow ones come first, and leave room for two.
        let slow = [&[street.jammed], &street.silent[..1]].concat();
        let rest = [&[street.closed], &street.talking[..], &street.silent[1..]].concat();
        scan(&plan([slow, rest].concat(), patience, FOR_EVER), pending()).await
    });
    let (street, report, counts) = visit.await?;

    same("stopped", why_stopped(&report), None)?;
    same(
        "findings",
        in_order(report.findings.clone()),
        everything(&street),
    )?;
    same("most at once", report.most_at_once, AT_ONCE)?;
    all_were_polite(&report, counts, 10)?;

    let slow = |finding: &Finding| matches!(finding, Finding::Silent | Finding::NoAnswer);
    let n_quick = report
        .findings
        .iter()
        .take_while(|(_, finding)| !slow(finding))
        .count();
    same(
        "found before the first slow one",
        n_quick,
        1 + street.talking.len(),
    )?;
    let one_by_one = patience * 6;
    same("faster than one by one", began.elapsed() < one_by_one, true)
}

async fn a_scan_that_is_stopped() -> Result<(), Failure> {
    println!("\nStopped in the middle:");
    let visit = visit(4, 8, async |street, visitors| {
        let ports = [&street.talking[..], &[street.jammed], &street.silent].concat();
        // Then three of the silent ones are being looked at, and the jammed one.
        let stop = visitors.wait_for(4 + 3);
        scan(&plan(ports, Duration::from_secs(1), FOR_EVER), stop).await
    });
    let (street, report, counts) = visit.await?;

    same("stopped", why_stopped(&report), Some(CancelReason::Signal))?;
    same(
        "findings",
        in_order(report.findings.clone()),
        banners(&street),
    )?;
    all_were_polite(&report, counts, 4 + 3)
}

async fn a_scan_without_enough_time() -> Result<(), Failure> {
    println!("\nOne by one, with too little time:");
    let visit = visit(1, 2, async |street, _visitors| {
        let ports = [&street.talking[..], &street.silent].concat();
        let limit = Duration::from_millis(400);
        scan(
            &Plan {
                at_once: 1,
                ..plan(ports, FOR_EVER, limit)
            },
            pending(),
        )
        .await
    });
    let (street, report, counts) = visit.await?;

    same(
        "stopped",
        why_stopped(&report),
        Some(CancelReason::Deadline),
    )?;
    same(
        "findings",
        in_order(report.findings.clone()),
        banners(&street),
    )?;
    all_were_polite(&report, counts, 1 + 1)
}

/// Opens a street for a scan, and says afterwards how those who live there were treated.
async fn visit(
    n_talking: usize,
    n_silent: usize,
    scan: impl AsyncFnOnce(&Street, &Visitors) -> Result<Report, Failure>,
) -> Result<(Street, Report, Counts), Failure> {
    let visitors = Visitors::default();
    let context = acm(|slot| street(n_talking, n_silent, &visitors, slot));
    let (street, report) = with_context(context, async |street| {
        let report = scan(&street, &visitors).await?;
        Ok((street, report))
    })
    .await?;
    Ok((street, report, visitors.counts()))
}

fn plan(ports: Vec<u16>, patience: Duration, limit: Duration) -> Plan {
    Plan {
        ips: vec![Ipv4Addr::LOCALHOST.into()],
        ports,
        at_once: AT_ONCE,
        patience,
        limit,
    }
}

async fn scan(plan: &Plan, stop: impl Future<Output = ()>) -> Result<Report, Failure> {
    let report = plan.scan(stop).await?;
    print_table(plan, &report);
    Ok(report)
}

fn everything(street: &Street) -> Vec<(u16, Finding)> {
    let mut findings = banners(street);
    findings.extend(street.silent.iter().map(|&port| (port, Finding::Silent)));
    findings.extend([
        (street.closed, Finding::Closed),
        (street.jammed, Finding::NoAnswer),
    ]);
    in_order(findings)
}

fn banners(street: &Street) -> Vec<(u16, Finding)> {
    let banner = |&port| (port, Finding::Banner(GREETING.trim().to_owned()));
    in_order(street.talking.iter().map(banner).collect())
}

fn in_order(mut findings: Vec<(u16, Finding)>) -> Vec<(u16, Finding)> {
    findings.sort_by_key(|&(port, _)| port);
    findings
}

fn why_stopped(report: &Report) -> Option<CancelReason> {
    Some(report.stopped.as_ref()?.reason().clone())
}

fn all_were_polite(report: &Report, counts: Counts, n_connections: usize) -> Result<(), Failure> {
    same("connections opened", report.n_opened, n_connections)?;
    same("connections accepted", counts.accepted, n_connections)?;
    same("goodbyes", counts.goodbyes, n_connections)?;
    println!("{n_connections} connections accepted, as many goodbyes received");
    Ok(())
}

fn same<T: PartialEq + Debug>(what: &str, found: T, wanted: T) -> Result<(), Failure> {
    if found == wanted {
        return Ok(());
    }
    Err(Failure::text(format!(
        "{what}: {found:?} instead of {wanted:?}"
    )))
}
