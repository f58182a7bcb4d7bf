//! The commands that look and do not serve: check, explain, schema.

use super::build::look;
use crate::cluster::check::check as judge;
use crate::cluster::control::ControlPools;
use crate::cluster::finding::Severity;
use crate::cluster::inspect::home_catalog;
use crate::config::{Config, Database};
use crate::route::planner::{PlanContext, plan};
use crate::route::{Merge, Plan, Targets, Values};
use crate::session::simple::Literals;
use crate::sql::clock::{Times, Told, told};
use crate::sql::lift::{Lifted, lift};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// The shard map against the live servers.
#[must_use]
pub fn check(path: &Path) -> ExitCode {
    with_config(path, |config, runtime| {
        let mut errors = 0;
        if config.access.is_some() {
            say_access(config);
        }
        for database in &config.databases {
            errors += runtime.block_on(check_database(database))?;
        }
        Ok(if errors == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })
}

/// Who may come from where, as it was understood.
fn say_access(config: &Config) {
    for (at, rule) in crate::admin::access_rows(config).iter().enumerate() {
        let _ = writeln!(
            std::io::stdout(),
            "access rule {}: {} connections, databases {}, users {}, addresses {}: {}",
            at + 1,
            rule.connection,
            rule.databases,
            rule.users,
            rule.addresses,
            rule.method
        );
    }
}

async fn check_database(database: &Database) -> Result<usize, String> {
    let control = ControlPools::new(database).map_err(|e| e.to_string())?;
    let members = look(database, &control).await;
    let report = judge(database, &members);
    let (mut errors, mut warnings) = (0, 0);
    for finding in report.iter() {
        match finding.severity {
            Severity::Error => errors += 1,
            Severity::Warning => warnings += 1,
        }
        let _ = writeln!(std::io::stdout(), "{}", finding.line(database));
    }
    if let Err(error) = super::secrets::try_out(database).await {
        errors += 1;
        let _ = writeln!(
            std::io::stdout(),
            "error: auth_query: {error}\n  users that are not listed cannot log in"
        );
    }
    let _ = writeln!(
        std::io::stdout(),
        "database {}: {errors} errors, {warnings} warnings",
        database.name
    );
    Ok(errors)
}

/// Where a statement would go, and why.
#[must_use]
pub fn explain(path: &Path, database: Option<&str>, sql: &str) -> ExitCode {
    with_config(path, |config, runtime| {
        let database = match database {
            None => config.databases.first(),
            Some(name) => config.databases.iter().find(|d| d.name == name),
        };
        let database = database.ok_or("the shard map has no such database")?;
        let text = runtime.block_on(explain_one(config, database, sql))?;
        let _ = write!(std::io::stdout(), "{text}");
        Ok(ExitCode::SUCCESS)
    })
}

async fn explain_one(config: &Config, database: &Database, sql: &str) -> Result<String, String> {
    let control = ControlPools::new(database).map_err(|e| e.to_string())?;
    let members = look(database, &control).await;
    let catalog =
        home_catalog(database, &members).ok_or("no primary could be asked for its schema")?;
    let mut lifted = Lifted::default();
    lift(sql.as_bytes(), true, &mut lifted);
    let path: Vec<String> = catalog
        .default_search_path
        .iter()
        .filter(|s| s.as_str() != "$user")
        .cloned()
        .collect();
    let context = PlanContext {
        catalog,
        database,
        search_path: &path,
        standard_conforming_strings: true,
        declared: &[],
        forced_shard: None,
        parsed_bytes_max: config.limits.parsed_bytes_max,
        same_encoding: true,
    };
    let planned = plan(sql.as_bytes(), &lifted, context).map_err(|refusal| refusal.to_string())?;
    let mut text = String::new();
    for one in &planned.statements {
        let values = Literals {
            text: sql.as_bytes(),
            lifted: &lifted,
        };
        match timed(one, database, &values, context) {
            Some(told) => text.push_str(&told),
            None => text.push_str(&explain_plan(one, database, &values)),
        }
    }
    Ok(text)
}

/// As a statement that asks a clock is asked of several shards.
fn timed(
    one: &Plan,
    database: &Database,
    values: &Literals<'_>,
    context: PlanContext<'_>,
) -> Option<String> {
    let calls = one.clocks.as_deref()?;
    let several = matches!(one.resolve(values, database), Ok(Targets::Many(_)));
    if one.refusal.is_none() && !several {
        return None;
    }
    let slots = &values.lifted.slots;
    let range = one.start.absolute(slots)?..one.end.absolute(slots)?;
    let (text, _) = told(
        values.text,
        slots,
        range,
        calls,
        Told::Literals(&Times::some()),
    )?;
    let mut lifted = Lifted::default();
    lift(&text, context.standard_conforming_strings, &mut lifted);
    let planned = plan(&text, &lifted, context).ok()?;
    let one = planned.statements.first().filter(|_| planned.is_steady())?;
    let lifted = &lifted;
    let values = Literals {
        text: &text,
        lifted,
    };
    let explained = explain_plan(one, database, &values);
    Some(format!("{explained}  time: one server's, for all\n"))
}

/// The plan, the reason, and where these very values lead.
fn explain_plan(plan: &Plan, database: &Database, values: &dyn Values) -> String {
    let mut text = format!("{}\n", plan.describe(database));
    if !plan.because.is_empty() {
        text.push_str(&format!("  because: {}\n", plan.because));
    }
    if plan.refusal.is_some() {
        return text;
    }
    match plan.resolve(values, database) {
        Ok(targets) => {
            let names = targets.names(database).join(", ");
            let several = matches!(targets, Targets::Many(_));
            match &plan.multi_refusal {
                Some(refusal) if several => text.push_str(&format!(
                    "  refused {}, because it would go to {names}: {}\n",
                    refusal.code.0, refusal.message
                )),
                _ => {
                    text.push_str(&format!("  goes to: {names}\n"));
                    if let (true, Merge::Combine(made)) = (several, plan.told_merge()) {
                        text.push_str(&format!("  step: {}\n", made.steps().join(", ")));
                    }
                }
            }
        }
        Err(refusal) => text.push_str(&format!(
            "  refused {}: {}\n",
            refusal.code.0, refusal.message
        )),
    }
    text
}

#[must_use]
pub fn schema() -> ExitCode {
    match serde_json::to_string_pretty(&crate::config::json_schema()) {
        Ok(text) => {
            // whoever reads may have seen enough
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn with_config(
    path: &Path,
    act: impl FnOnce(&Config, &tokio::runtime::Runtime) -> Result<ExitCode, String>,
) -> ExitCode {
    let outcome = crate::config::load(path)
        .map_err(|e| e.to_string())
        .and_then(|config| {
            let runtime = super::runtime(1).map_err(|e| e.to_string())?;
            act(&config, &runtime)
        });
    outcome.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}
